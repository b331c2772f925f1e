"""What both shiftMNIST variants share: digits of mnist5k with a cue that gives the class away.

In the splits `train` and `test` the cue is the class's (the paper's D). The other splits are its
shifted distribution (D_adv), of the same test digits.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from . import mnist, mnist5k
from .types import Dataset

Source = Literal["mnist5k", "mnist"]
"""Where the digits are from."""


class Stamp(Protocol):
    """Puts cues on digits."""

    def __call__(
        self, pixels: NDArray[np.uint8], cues: NDArray[np.int64], ids: tuple[str, ...], /
    ) -> NDArray[np.uint8]:
        """Digits (N,28,28,1) with cue number `cues` (N,)."""
        ...


def digits(name: str, split: str, splits: tuple[str, ...], source: Source) -> Dataset:
    """The digits for a split, as yet without cues, under the data set's own name and ids.

    Raises:
        UserError: an unknown split; see `mnist5k` and `mnist`.
    """
    if split not in splits:
        raise UserError(f"{name} has no split {split!r}; wanted {', '.join(splits)}")
    origin = mnist5k if source == "mnist5k" else mnist
    data: Dataset = origin.create(split="train" if split == "train" else "test")
    mark = name if split in ("train", "test") else f"{name}-{split}"
    ids = tuple(f"{mark}-{one}" for one in data.ids)
    return replace(data, name=name, split=split, ids=ids)


def stamped(data: Dataset, cues: NDArray[np.int64], stamp: Stamp) -> Dataset:
    """The digits with these cues."""
    return replace(data, pixels=stamp(data.pixels, cues, data.ids))


def drawn(data: Dataset) -> NDArray[np.int64]:
    """A cue (N,) for each image that has nothing to do with its class: from its id, uniformly."""
    return np.array([seed(one, "cue") % len(data.class_names) for one in data.ids])


def seed(name: str, purpose: str) -> int:
    """A number that depends on an image's id and a purpose only."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {name}".encode()).digest()[:8], "big")
