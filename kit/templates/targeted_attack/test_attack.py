"""Run with `python -m pytest`, here in this folder, before you submit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))  # so that pytest finds attack.py and kit

import attack  # type: ignore[import-not-found, unused-ignore]

import kit

Bytes = NDArray[np.uint8]
DARK = np.full((28, 28, 1), 40, dtype=np.uint8)


class Halves:
    """A model: 1 where the left half is bright on average, else 2 where the right is, else 0."""

    def __init__(self, budget: int = 900, target: int = 2) -> None:
        self.remaining = budget
        self.target = target
        self.starts = np.full((3, 28, 28, 1), 40, dtype=np.uint8)
        self.starts[1, :, 14:] = 250  # only this one is what it is said to be
        self.starts[2, :, :14] = 250

    def __call__(self, images: Bytes) -> NDArray[np.int64]:
        assert images.dtype == np.uint8
        if len(images) > self.remaining:
            raise kit.BudgetExhausted("spent")
        self.remaining -= len(images)
        left, right = (half.mean(axis=(1, 2, 3)) > 60 for half in np.split(images, 2, axis=2))
        return np.where(left, 1, np.where(right, 2, 0))

    def fools(self, images: Bytes) -> NDArray[np.bool_]:
        return np.asarray(self(images) == self.target)


def play(seed: int, predict: Halves) -> Bytes | None:
    found: Bytes | None = attack.create().attack_image(
        predict, DARK, 0, np.random.default_rng(seed)
    )
    return found


def test_what_it_finds_has_the_wanted_label_and_can_be_sent() -> None:
    found = play(0, Halves())
    assert found is not None
    assert found.dtype == np.uint8
    assert found.shape == DARK.shape
    assert Halves()(found[None])[0] == 2


def test_eight_hundred_queries_are_enough() -> None:
    predict = Halves(budget=800)
    play(1, predict)
    with pytest.raises(kit.BudgetExhausted):
        play(1, Halves(budget=100))


def test_the_walk_gets_nearer_than_the_way_from_the_start() -> None:
    mine, predict = attack.create(), Halves()
    edge = mine.bisect(predict, DARK, predict.starts[1])
    walked = mine.walk(predict, DARK, edge, np.random.default_rng(2))
    lengths = [np.linalg.norm(x.astype(float) - DARK) for x in (predict.starts[1], edge, walked)]
    assert lengths[0] > lengths[1] > lengths[2]


def test_without_a_start_that_the_model_takes_nothing_is_found() -> None:
    assert play(0, Halves(target=7)) is None


def test_the_same_seed_gives_the_same_image() -> None:
    first, again, other = (play(seed, Halves()) for seed in (3, 3, 4))
    assert first is not None
    assert again is not None
    assert other is not None
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
