from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import kit

Array = np.ndarray[Any, Any]
IMAGE = np.arange(2 * 3 * 2, dtype=np.uint8).reshape(1, 2, 3, 2) * 20


def brightness(images: Array) -> Array:
    """Labels: 1 where the mean is above 100, else 0."""
    return np.asarray(images.mean(axis=(1, 2, 3)) > 100, dtype=np.int64)


def test_images_come_back_from_foolbox_as_they_went() -> None:
    there = kit.to_foolbox(IMAGE)
    assert tuple(there.shape) == (1, 2, 2, 3)
    assert float(there.max()) == pytest.approx(220 / 255)
    assert np.array_equal(kit.from_foolbox(there), IMAGE)


def test_a_decision_based_attack_of_foolbox_runs_on_the_kits_predict() -> None:
    import foolbox
    import torch

    asked = []

    def predict(images: Array) -> Array:
        assert images.dtype == np.uint8
        asked.append(len(images))
        return brightness(images)

    dark = np.full((1, 8, 8, 1), 60, dtype=np.uint8)
    model = kit.foolbox_model(predict, classes=2)
    attack = foolbox.attacks.L2ContrastReductionAttack(target=1.0)
    start = kit.to_foolbox(dark)
    _, found, success = attack(model, start, torch.tensor([0]), epsilons=8.0)
    assert bool(success.all())
    assert brightness(kit.from_foolbox(found)).tolist() == [1]
    assert sum(asked) > 0


def test_the_import_of_the_kit_does_not_import_torch_and_a_missing_one_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(ImportError, match="pip install foolbox torch"):
        kit.foolbox_model(brightness)
