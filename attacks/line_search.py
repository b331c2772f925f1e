"""Line search over one scale for each image: grow until adversarial, then bisect back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .distances import distance
from .oracle import Oracle

Candidate = Callable[[Tensor, Tensor], Tensor]
"""Maps rows (n,) and scales (n,) in (0, 1] to images (n, C, H, W) within the bounds."""


def nearest_over(
    oracle: Oracle,
    images: Tensor,
    candidates: Iterable[Candidate],
    *,
    growth_steps: int,
    bisection_steps: int,
) -> Tensor:
    """The nearest adversarials (N, C, H, W) over several families, searched one after the other.

    Each family is searched by `grow_and_bisect` before the next one is drawn; the clean image stays
    where none holds an adversarial.
    """
    best = images.clone()
    best_distance = torch.full((len(images),), torch.inf)
    for candidate in candidates:
        grow_and_bisect(
            oracle,
            images,
            best,
            best_distance,
            candidate,
            growth_steps=growth_steps,
            bisection_steps=bisection_steps,
        )
    return best


def grow_and_bisect(
    oracle: Oracle,
    images: Tensor,
    best: Tensor,
    best_distance: Tensor,
    candidate: Candidate,
    *,
    growth_steps: int,
    bisection_steps: int,
) -> None:
    """Find a small adversarial scale for each image; improve best and best_distance in place.

    Scales grow geometrically from 2**(1 - growth_steps) to 1. A scale whose image is already
    farther away than the best so far isn't asked for: that direction is given up for the image.

    Args:
        oracle: the metered model for the same N images.
        images: (N, C, H, W) clean.
        best: (N, C, H, W) best adversarials so far; best_distance: (N,), infinite where none.
        candidate: the family of images to search.
        growth_steps, bisection_steps: queries for each image at most, of each kind.
    """
    n = len(images)
    low, high = torch.zeros(n), torch.full((n,), torch.inf)
    growing = torch.ones(n, dtype=torch.bool)
    for k in range(growth_steps):
        scale = 2.0 ** (k + 1 - growth_steps)
        rows = (growing & (oracle.remaining() > 0)).nonzero().flatten()
        if len(rows) == 0:
            break
        scales = torch.full((len(rows),), scale)
        asked, tried, measured, hit = _ask(oracle, images, best_distance, candidate, rows, scales)
        growing[rows[~asked]] = False
        rows = rows[asked]
        high[rows[hit]] = scale
        low[rows[~hit]] = scale
        growing[rows[hit]] = False
        _keep(best, best_distance, rows, tried, measured, hit)
    for _ in range(bisection_steps):
        rows = (high.isfinite() & (oracle.remaining() > 0)).nonzero().flatten()
        if len(rows) == 0:
            break
        scales = (low[rows] + high[rows]) / 2
        asked, tried, measured, hit = _ask(oracle, images, best_distance, candidate, rows, scales)
        rows, scales = rows[asked], scales[asked]
        high[rows[hit]] = scales[hit]
        low[rows[~hit]] = scales[~hit]
        _keep(best, best_distance, rows, tried, measured, hit)


def _ask(
    oracle: Oracle,
    images: Tensor,
    best_distance: Tensor,
    candidate: Candidate,
    rows: Tensor,
    scales: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which rows were worth asking (n,), and for those: images, distances, adversarial or not."""
    tried = candidate(rows, scales)
    measured = distance(oracle.norm, images[rows], tried)
    asked = measured < best_distance[rows]
    tried, measured = tried[asked], measured[asked]
    return asked, tried, measured, oracle.is_adversarial(tried, rows[asked])


def _keep(
    best: Tensor, best_distance: Tensor, rows: Tensor, tried: Tensor, measured: Tensor, hit: Tensor
) -> None:
    best[rows[hit]] = tried[hit]
    best_distance[rows[hit]] = measured[hit]
