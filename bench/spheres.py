"""Adversarial spheres: two concentric ones, each a class (Gilmer et al. 2018, arXiv 1801.02774).

Points of class 0 have length 1, those of class 1 length 1.3; whoever measures lengths is right.
"""

from __future__ import annotations

import torch
from torch import Tensor

DIMENSIONS = 500
RADII = (1.0, 1.3)
BETWEEN = sum(RADII) / 2


def sample(
    n: int, generator: torch.Generator, *, dimensions: int = DIMENSIONS
) -> tuple[Tensor, Tensor]:
    """Points (n, dimensions) float32, uniform on their sphere, and classes (n,) int64, by turns."""
    labels = torch.arange(n) % 2
    points = torch.randn(n, dimensions, generator=generator)
    points *= torch.tensor(RADII)[labels].unsqueeze(1) / points.norm(dim=1, keepdim=True)
    return points, labels


def true_class(points: Tensor) -> Tensor:
    """The class (n,) int64 of the nearer sphere, for points (n, dimensions)."""
    outer: Tensor = points.norm(dim=1) > BETWEEN
    return outer.long()
