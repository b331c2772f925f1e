"""Gaussian blur of a batch of planes, as scipy.ndimage.gaussian_filter(mode="constant") does."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

TRUNCATE = 4.0
"""Where the kernel ends, in standard deviations (scipy's default)."""

BLOCK = 32
"""Rows that are computed from their own neighbourhood by one matrix product."""


def gaussian_blur(planes: Tensor, sigma: float, outside: float) -> Tensor:
    """Planes float (N,H,W), blurred along both sides, with `outside` beyond their borders.

    Args:
        planes: grey values.
        sigma: standard deviation in pixels, >= 0; 0 changes nothing.
        outside: the grey value around each plane.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    if radius == 0:
        return planes.clone()
    lifted = planes - outside  # so that what lies outside is 0
    down = _along_rows(lifted, sigma, radius)
    across = _along_rows(down.transpose(1, 2).contiguous(), sigma, radius)
    return across.transpose(1, 2) + outside


def _along_rows(planes: Tensor, sigma: float, radius: int) -> Tensor:
    height = planes.shape[1]
    matrix = _band(height, sigma, radius).to(planes)
    if 2 * radius + BLOCK >= height:
        return matrix @ planes
    blocks = []
    for first in range(0, height, BLOCK):
        last = min(height, first + BLOCK)
        low, high = max(0, first - radius), min(height, last + radius)
        blocks.append(matrix[first:last, low:high] @ planes[:, low:high])
    return torch.cat(blocks, dim=1)


@lru_cache(maxsize=64)
def _band(side: int, sigma: float, radius: int) -> Tensor:
    """float64 (side, side): row i holds the kernel around i, cut off at the borders."""
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    place = torch.arange(side)
    away = place[None, :] - place[:, None]
    inside = away.abs() <= radius
    return torch.where(inside, weights[away.clamp(-radius, radius) + radius], 0.0)
