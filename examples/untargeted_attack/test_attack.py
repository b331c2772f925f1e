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


class Bright:
    """A model that says 1 where the left half is bright on average, else 0; counts queries."""

    def __init__(self, budget: int) -> None:
        self.remaining = budget

    def __call__(self, images: Bytes) -> NDArray[np.int64]:
        assert images.dtype == np.uint8
        if len(images) > self.remaining:
            raise kit.BudgetExhausted("spent")
        self.remaining -= len(images)
        bright = images[:, :, :14].mean(axis=(1, 2, 3)) > 60
        return np.asarray(bright, dtype=np.int64)


def play(seed: int, budget: int = 300) -> Bytes:
    found: Bytes | None = attack.create().attack_image(
        Bright(budget), DARK, 0, np.random.default_rng(seed)
    )
    assert found is not None
    return found


def test_what_it_finds_is_adversarial_and_can_be_sent() -> None:
    found = play(seed=0)
    assert found.dtype == np.uint8
    assert found.shape == DARK.shape
    assert Bright(1)(found[None])[0] == 1


def test_three_hundred_queries_are_enough() -> None:
    play(seed=1, budget=300)
    with pytest.raises(kit.BudgetExhausted):
        play(seed=1, budget=100)


def test_the_walk_gets_nearer_than_its_start() -> None:
    mine, rng = attack.create(), np.random.default_rng(2)
    start = mine.find_start(Bright(100), DARK, 0, rng)
    assert start is not None
    edge = mine.bisect(Bright(8), DARK, 0, start)
    walked = mine.walk(Bright(240), DARK, 0, edge, rng)
    lengths = [np.linalg.norm(image.astype(float) - DARK) for image in (start, edge, walked)]
    assert lengths[0] > lengths[1] > lengths[2]


def test_the_same_seed_gives_the_same_image() -> None:
    assert np.array_equal(play(seed=3), play(seed=3))
    assert not np.array_equal(play(seed=3), play(seed=4))


def test_an_image_that_the_model_gets_wrong_already_stays_as_it_is() -> None:
    wrong = np.full((28, 28, 1), 200, dtype=np.uint8)
    found = attack.create().attack_image(Bright(300), wrong, 0, np.random.default_rng(0))
    assert found is not None
    assert Bright(1)(found[None])[0] == 1
