"""The smallest radius that fools, for attacks that stay within one: a search for each image.

A whole curve of accuracy against epsilon comes out of one such search, because an image that is
fooled within a radius is fooled within every larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .errors import UsageError
from .oracle import Oracle
from .types import Bounds, Norm

RUNGS = 15
"""Radii of the ladder that is climbed where none is given; each is half of the next one."""

SHARE = 0.75
"""Where in the radii that are left the next one is tried.

Above the middle, because a try that fails costs all of its steps and one that fools only a few.
"""


Attempt = Callable[[Tensor, Tensor], Tensor]
"""Attacks rows (n,) within radius (n,); the distances (n,) that fooled, infinite where none did."""


def ladder(norm: Norm, shape: Sequence[int], bounds: Bounds) -> tuple[float, ...]:
    """Radii for images (C, H, W): halves of the largest distance that the bounds allow."""
    span, values = bounds[1] - bounds[0], float(torch.Size(shape).numel())
    largest = {"l0": values, "l1": span * values, "l2": span * values**0.5, "linf": span}[norm]
    return tuple(largest / 2 ** (RUNGS - 1 - k) for k in range(RUNGS))


def smallest_radius(
    model: Oracle, radii: Sequence[float], bisections: int, attempt: Attempt, *, images: int
) -> Tensor:
    """Search for each image: first among the radii, then by bisection below the one that fooled.

    Args:
        model: the meter; an image whose budget is spent is left alone.
        radii: ascending.
        bisections: tries after the radii.
        attempt: see `Attempt`. The meter keeps what it finds.
        images: how many, N.

    Returns:
        (N,) the smallest distance at which an attempt fooled, infinite where none did.
    """
    rungs = torch.tensor([0.0, *radii])
    low = torch.zeros(images, dtype=torch.int64)  # rungs known to hold
    high = torch.full((images,), len(rungs), dtype=torch.int64)  # and not to hold
    reached = torch.full((images,), torch.inf)
    while True:
        rows = _rows(model, high - low > 1)
        if len(rows) == 0:
            break
        left = high[rows] - low[rows]
        tried = low[rows] + (SHARE * left).long().clamp_min(1)
        found = attempt(rows, rungs[tried])
        hit = found.isfinite()
        reached[rows] = torch.minimum(reached[rows], found)
        # What was found may lie within a smaller rung already.
        within = torch.searchsorted(rungs, found * (1 - 1e-5)).clamp_min(1)
        high[rows] = torch.where(hit, torch.minimum(tried, within), high[rows])
        low[rows] = torch.where(hit, torch.minimum(low[rows], high[rows] - 1), tried)
    below = rungs[low]
    for _ in range(bisections):
        rows = _rows(model, reached.isfinite() & (below < reached))
        if len(rows) == 0:
            break
        middle = (below[rows] + reached[rows]) / 2
        found = attempt(rows, middle)
        reached[rows] = torch.minimum(reached[rows], found)
        below[rows] = torch.where(found.isfinite(), below[rows], middle)
    return reached


def check_radii(radii: Sequence[float]) -> None:
    """Raise a UsageError unless they ascend from above 0."""
    if not radii or not all(a < b for a, b in pairwise((0.0, *radii))):
        shown = "+".join(f"{radius:g}" for radius in radii)
        raise UsageError(
            f"got radii={shown or '()'}; wanted radii above 0 in ascending order, such as "
            "0.1+0.2+0.3, or none for a ladder that fits the norm"
        )


def _rows(model: Oracle, wanted: Tensor) -> Tensor:
    return (wanted & (model.remaining() > 0)).nonzero().flatten()
