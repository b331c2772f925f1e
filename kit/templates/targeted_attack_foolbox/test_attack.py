"""Run with `python -m pytest`, here in this folder, before you submit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))  # so that pytest finds attack.py and kit
pytest.importorskip("foolbox", reason="needs foolbox and torch")

import attack  # type: ignore[import-not-found, unused-ignore]

import kit

Bytes = NDArray[np.uint8]
DARK = np.full((28, 28, 1), 40, dtype=np.uint8)


class Bright:
    """A model that says 1 where the left half is bright on average, else 0; counts queries."""

    target = 1
    starts = np.full((1, 28, 28, 1), 240, dtype=np.uint8)

    def __init__(self, budget: int = 1000) -> None:
        self.remaining = budget

    def __call__(self, images: Bytes) -> NDArray[np.int64]:
        assert images.dtype == np.uint8
        if len(images) > self.remaining:
            raise kit.BudgetExhausted("spent")
        self.remaining -= len(images)
        return np.asarray(images[:, :, :14].mean(axis=(1, 2, 3)) > 60, dtype=np.int64)

    def fools(self, images: Bytes) -> NDArray[np.bool_]:
        return np.asarray(self(images) == self.target)


def play(seed: int) -> Bytes:
    found: Bytes = attack.create().attack_image(Bright(), DARK, 0, np.random.default_rng(seed))
    return found


def test_what_it_finds_is_adversarial_near_and_can_be_sent() -> None:
    found = play(0)
    assert found.dtype == np.uint8
    assert found.shape == DARK.shape
    assert np.linalg.norm(found.astype(float) - DARK) < np.linalg.norm(240.0 - DARK) / 2


def test_a_budget_that_is_too_small_is_told() -> None:
    with pytest.raises(kit.BudgetExhausted):
        attack.create().attack_image(Bright(30), DARK, 0, np.random.default_rng(0))


def test_the_same_seed_gives_the_same_image() -> None:
    assert np.array_equal(play(3), play(3))


def test_without_a_start_that_the_model_takes_nothing_is_found() -> None:
    predict = Bright()
    predict.starts = DARK[None]
    assert attack.create().attack_image(predict, DARK, 0, np.random.default_rng(0)) is None
