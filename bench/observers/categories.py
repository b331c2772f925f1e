"""The paper's 16 categories, and how 1000 ImageNet classes become one of them (1808.08750)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rule = Literal["max", "sum", "mean"]
"""The category of the most probable single class; with the largest sum of its classes'
probabilities (the paper's figures); with the largest mean (model-vs-human, arXiv 2106.07411)."""

CLASSES = 1000


def _spans(text: str) -> tuple[int, ...]:
    """ "8,10-13" -> 8, 10, 11, 12, 13."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


INDICES: dict[str, tuple[int, ...]] = {
    "airplane": (404,),
    "bear": _spans("294-297"),
    "bicycle": (444, 671),
    "bird": _spans("8,10-16,18-20,22-24,80-83,87-96,98-100,127-133,135-145"),
    "boat": (472, 554, 625, 814, 914),
    "bottle": (440, 720, 737, 898, 899, 901, 907),
    "car": (436, 511, 817),
    "cat": _spans("281-286"),
    "chair": (423, 559, 765, 857),
    "clock": (409, 530, 892),
    "dog": _spans(
        "152-191,193-203,205-226,228-241,243-250,252-257,259,261-263,265-268",
    ),
    "elephant": (385, 386),
    "keyboard": (508, 878),
    "knife": (499,),
    "oven": (766,),
    "truck": (555, 569, 656, 675, 717, 734, 864, 867),
}
"""Places of each category's classes in the ILSVRC-2012 order: 207 of 1000."""

CATEGORIES = tuple(INDICES)
"""Alphabetical."""


def category_scores(probabilities: NDArray[np.float64], rule: Rule) -> NDArray[np.float64]:
    """(N,16) from probabilities (N,1000), by a rule; rows need not sum to 1.

    Raises:
        ValueError: another shape, or an unknown rule.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != CLASSES:
        raise ValueError(f"got probabilities {probabilities.shape}; wanted (N, {CLASSES})")
    if rule == "max":
        return np.stack([probabilities[:, list(k)].max(axis=1) for k in INDICES.values()], axis=1)
    if rule not in ("sum", "mean"):
        raise ValueError(f"rule is {rule!r}; wanted max, sum or mean")
    weights = np.zeros((CLASSES, len(CATEGORIES)))
    for place, indices in enumerate(INDICES.values()):
        weights[list(indices), place] = 1.0 if rule == "sum" else 1.0 / len(indices)
    return probabilities @ weights


def decide(probabilities: NDArray[np.float64], rule: Rule) -> NDArray[np.int64]:
    """Places in `CATEGORIES` (N,) for probabilities (N,1000); see `category_scores`."""
    return np.asarray(category_scores(probabilities, rule).argmax(axis=1))
