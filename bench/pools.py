"""Images that a search may start from: labelled images of other samples of the same data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .datasets import dataset
from .errors import UserError

if TYPE_CHECKING:
    from attacks import Pool

    from .datasets.types import Dataset

PER_CLASS = 50
"""Images of each class at most."""


def starting_pool(data: Dataset) -> Pool:
    """The first images of each class of the training split, or of `data` itself without one.

    An attack may not start from the attacked image itself: a pool image is taken for a wrong label
    only, and equal images have equal labels.

    Args:
        data: the split that is played, whole.
    """
    from attacks import Pool

    source = data
    if data.split != "train":
        try:
            source = dataset(data.name, split="train")
        except UserError:  # it has none
            source = data
    chosen = np.zeros(len(source), dtype=bool)
    for label in np.unique(source.labels):
        chosen[np.flatnonzero(source.labels == label)[:PER_CLASS]] = True
    rows = np.flatnonzero(chosen)
    return Pool(source.images[rows], source.targets[rows])
