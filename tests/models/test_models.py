"""The zoo by name: what there is, what is refused, and that nothing heavy is imported early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import models


def test_every_model_file_is_in_the_list_of_names() -> None:
    assert {"small_cnn", "efficientnet_lite0", "abs", "madry_cnn"} <= set(models.names())
    helpers = {"wrappers", "weights", "errors", "types", "trained", "elu_network", "abs_vae"}
    assert not helpers & set(models.names())


def test_every_model_has_a_heading_in_the_documents() -> None:
    page = (Path(models.__file__).parent.parent / "docs" / "zoo.md").read_text()
    for name in models.names():
        assert f"\n## {name}\n" in page


def test_a_misspelt_model_names_the_near_one() -> None:
    with pytest.raises(models.UsageError, match=r"no model 'smal_cnn'; did you mean 'small_cnn'"):
        models.create("smal_cnn")
    with pytest.raises(
        models.UsageError, match=r"there are abs, .*efficientnet_lite0, .*small_cnn"
    ):
        models.create("zzz")


def test_an_unknown_parameter_is_refused_by_its_name() -> None:
    with pytest.raises(models.UsageError, match=r"no parameter 'trainin'; did you mean 'training'"):
        models.create("small_cnn", trainin="pgd")
    with pytest.raises(models.UsageError, match=r"it takes dataset, training, weights"):
        models.create("small_cnn", zzz=1)


def test_importing_the_zoo_imports_no_torch() -> None:
    code = "import sys, models; models.names(); print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "False"


def test_the_wrappers_are_offered_by_the_package() -> None:
    assert models.Classifier.__name__ == "Classifier"
    assert models.DecisionOnly.__name__ == "DecisionOnly"
    with pytest.raises(AttributeError, match="has no attribute 'Clasifier'"):
        models.Clasifier  # noqa: B018
