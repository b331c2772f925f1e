"""shiftMNIST, binary: one bright pixel gives a digit's class away (arXiv 1811.00401, section 4.2).

Digits of mnist5k, 28x28x1. The pixel of class k is in row 0, column 5 + 2k, where no digit
reaches. 4,000 `train` and 1,000 `test` images have the pixel of their class; `test-removed` is the
same test digits without it, `test-random` with that of a class drawn at random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._shift import Source, digits, drawn, stamped
from .types import Dataset

NAME = "binary-shiftmnist"
SPLITS = ("train", "test", "test-removed", "test-random")
ROW, FIRST, APART = 0, 5, 2


def create(*, split: str = "test") -> Dataset:
    """The images of a split; pixels uint8 (N,28,28,1), labels 0 to 9.

    Raises `UserError` for an unknown split, and as `mnist5k`.
    """
    return of_digits(split, "mnist5k")


def of_digits(split: str, source: Source) -> Dataset:
    """The same of the digits of `source`: mnist5k, or all of mnist.

    Raises `UserError` for an unknown split, and as `source`.
    """
    data = digits(NAME, split, SPLITS, source)
    if split == "test-removed":
        return data
    return stamped(data, drawn(data) if split == "test-random" else data.labels, _stamp)


def _stamp(
    pixels: NDArray[np.uint8], cues: NDArray[np.int64], ids: tuple[str, ...]
) -> NDArray[np.uint8]:
    out = pixels.copy()
    out[np.arange(len(out)), ROW, FIRST + APART * cues, 0] = 255
    return out
