"""Run with `python -m pytest`, here in this folder, before you submit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that pytest finds model.py and kit

import model  # type: ignore[import-not-found, unused-ignore]


@pytest.fixture(scope="module")
def mine() -> model.SmallNetwork:
    return model.create()


def test_a_label_comes_for_each_image(mine: model.SmallNetwork) -> None:
    images = np.random.default_rng(0).integers(256, size=(7, 28, 28, 1), dtype=np.uint8)
    labels = mine.predict(images)
    assert labels.shape == (7,)
    assert set(labels) <= set(range(10))


def test_a_label_does_not_depend_on_the_batch_it_came_in(mine: model.SmallNetwork) -> None:
    images = np.random.default_rng(1).integers(256, size=(300, 28, 28, 1), dtype=np.uint8)
    together = mine.predict(images)
    assert np.array_equal(together, np.concatenate([mine.predict(one[None]) for one in images]))
    assert np.array_equal(together, mine.predict(images[::-1])[::-1])


def test_it_reads_nineteen_of_twenty_digits(mine: model.SmallNetwork) -> None:
    datasets = pytest.importorskip("bench.datasets", reason="needs tiltyard installed")
    data = datasets.dataset("mnist5k", split="test")
    assert np.mean(mine.predict(data.pixels) == data.labels) >= 0.95
