"""`bench.invariance`, its plan, its page and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import bench
from bench.cli import app
from bench.datasets.types import Dataset
from bench.errors import UserError
from bench.invariance import Invariance, measure, pairing
from bench.reports import invariance as page


def data_of(*labels: int) -> Dataset:
    """2x2 images: the upper row says the class by brightness, the lower row by a place."""
    n = len(labels)
    pixels = np.zeros((n, 2, 2, 1), np.uint8)
    pixels[:, 0, :, 0] = 100 * np.array(labels)[:, None] + 20
    pixels[np.arange(n), 1, np.array(labels), 0] = 255
    return Dataset(
        name="rows",
        split="test",
        ids=tuple(f"rows-{k}" for k in range(n)),
        pixels=pixels,
        labels=np.array(labels, np.int64),
        class_names=("dark", "light"),
    )


class Upper:
    """Decides by the upper row; its nuisance is the lower row."""

    bounds = (0.0, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        return 10 * self.encode(images)[0]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, difference = images[:, 0, 0].mean(1), images[:, 0, 0, 0] - images[:, 0, 0, 1]
        semantic = torch.stack([0.3 - mean, mean - 0.3 + difference], 1)
        return semantic, images[:, 0, 1]

    def decode(self, semantic: Tensor, nuisance: Tensor) -> Tensor:
        mean, difference = 0.3 - semantic[:, 0], semantic[:, 0] + semantic[:, 1]
        upper = torch.stack([mean + difference / 2, mean - difference / 2], 1)
        return torch.stack([upper, nuisance], 1).unsqueeze(1)


class Lower:
    """Decides by the lower row."""

    bounds = (0.0, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        return images[:, 0, 1]


def measured(model: Any = None, **options: Any) -> Invariance:
    return measure(
        model or Upper(),
        Lower(),
        data_of(0, 1, 0, 1, 1, 0),
        name="upper",
        oracle_name="lower",
        **options,
    )


def test_a_model_blind_to_half_of_the_image_has_a_metamer_for_every_pair() -> None:
    found = measured()
    score = found.score()
    assert found.method == "metameric sampling"
    assert (score.pairs, score.exact.value, score.metamers.value) == (6, 1.0, 1.0)
    assert (score.donor_named.value, score.source_named.value) == (1.0, 0.0)
    assert score.clipped_metamers.value == 1.0
    assert score.worst_logit_error < 1e-5
    assert score.range_violation == pytest.approx(0.0, abs=1e-6)
    assert score.apart == pytest.approx(np.sqrt(2 + 2 * (100 / 255) ** 2), rel=1e-5)
    assert score.distance_source == pytest.approx(np.sqrt(2), rel=1e-5)
    assert score.distance_donor == pytest.approx(np.sqrt(2) * 100 / 255, rel=1e-5)
    assert score.accuracy == score.oracle_accuracy == 1.0
    assert score.metamers.interval[0] < 1.0
    assert np.allclose(found.metamers[:, 0], found.sources[:, 0] / 255, atol=1e-6)
    assert np.allclose(found.metamers[:, 1], found.donors[:, 1] / 255, atol=1e-6)


def test_a_model_and_oracle_that_agree_have_no_metamers() -> None:
    found = measure(
        Upper(), Upper(), data_of(0, 1, 0, 1), name="upper", oracle_name="also upper"
    ).score()
    assert found.exact.value == 1.0
    assert found.metamers.value == 0.0
    assert found.source_named.value == 1.0


def test_what_cannot_be_inverted_is_searched_by_descent() -> None:
    class Plain:
        bounds = (0.0, 1.0)

        def __call__(self, images: Tensor) -> Tensor:
            return 10 * Upper().encode(images)[0]

    found = measured(Plain(), steps=300)
    assert found.method == "gradient descent"
    assert found.score().exact.value == 1.0
    assert found.score().metamers.value == 1.0
    assert found.score().range_violation == 0.0
    assert measured(Plain(), steps=1).score().exact.value < 1.0


def test_facts_do_not_depend_on_the_batch() -> None:
    whole, parts = measured(), measured(batch_size=4)
    assert np.array_equal(whole.metamers, parts.metamers)
    assert whole.to_json() == parts.to_json()


def test_everyone_is_a_donor_once_and_of_another_class() -> None:
    for labels in (bench.dataset("mnist5k").labels[:99], np.array([0, 0, 0, 1, 2, 1])):
        for seed in range(5):
            donors = pairing(labels, seed=seed)
            assert sorted(donors) == list(range(len(labels)))
            assert (labels[donors] != labels).all()
    assert not np.array_equal(pairing(labels, seed=0), pairing(labels, seed=1))
    many = bench.dataset("mnist5k").labels
    pairs = set(zip(many.tolist(), many[pairing(many)].tolist(), strict=True))
    assert len(pairs) == 90  # every class meets every other


def test_images_of_one_class_cannot_be_paired() -> None:
    with pytest.raises(UserError, match=r"of 3 images 2 are of one class; wanted at least 2"):
        pairing(np.array([1, 1, 0]))
    with pytest.raises(UserError, match="wanted at least 2"):
        pairing(np.array([1]))


def test_other_bounds_are_refused() -> None:
    class Wide(Upper):
        bounds = (0.0, 255.0)

    with pytest.raises(UserError, match=r"upper takes images in \[0, 255\]; wanted \[0, 1\]"):
        measured(Wide())


def test_facts_come_back_from_their_folder(tmp_path: Path) -> None:
    found = measured()
    found.write(tmp_path)
    again = Invariance.load(tmp_path)
    assert again.to_json() == found.to_json()
    assert np.array_equal(again.metamers, found.metamers)
    assert page.render([again]) == page.render([found])


def test_damaged_facts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*; `tiltyard invariance --out"):
        Invariance.load(tmp_path)
    measured().write(tmp_path)
    path = tmp_path / "invariance.json"
    document = json.loads(path.read_text())
    for broken in (
        {**document, "version": 99},
        {**document, "logit_error": [0.1]},
        {k: v for k, v in document.items() if k != "oracle"},
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=r"can't read .*wanted what `tiltyard invariance"):
            Invariance.load(tmp_path)
    path.write_text(json.dumps(document))
    (tmp_path / "metamers.npz").unlink()
    with pytest.raises(UserError, match="can't read"):
        Invariance.load(tmp_path)


def test_the_page_shows_rates_and_pictures_of_every_model() -> None:
    html = page.render([measured(), replace(measured(), model="another")])
    assert html.count("<img") == 4 * 6  # sources, two models, donors
    assert "metamer of another" in html
    assert "100.0 % [" in html
    assert "stands in for people, is lower" in html


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["invariance", *arguments])


def test_the_command_measures_writes_and_prints(tmp_path: Path) -> None:
    out = tmp_path / "facts"
    models = ("--model", "irevnet", "--model", "irevnet_ice", "--images", "40")
    result = run(*models, "--out", str(out), "--json")
    assert result.exit_code == 0, result.output
    plain, ice = json.loads(result.output)
    assert plain["score"]["exact"]["value"] == ice["score"]["exact"]["value"] == 1.0
    assert plain["score"]["donor_named"]["value"] > ice["score"]["donor_named"]["value"]
    assert Invariance.load(out / "1").to_json() == plain
    table = run(*models)
    assert table.exit_code == 0
    assert "metamers, clipped" in table.output
    assert "the oracle (small_cnn" in table.output
    assert "metameric sampling" in table.output


def test_the_command_refuses_an_oracle_that_judges_itself_and_a_used_folder(
    tmp_path: Path,
) -> None:
    result = run("--model", "small_cnn")
    assert isinstance(result.exception, UserError)
    assert "both a model and the oracle" in str(result.exception)
    (tmp_path / "file").touch()
    result = run("--model", "irevnet", "--images", "10", "--out", str(tmp_path))
    assert isinstance(result.exception, UserError)
    assert "is not empty" in str(result.exception)
