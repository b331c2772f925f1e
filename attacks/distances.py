"""Distances between images, and projection onto the balls around them.

L0 counts pixels: all channels of a pixel together, as in the field's image benchmarks. L1, L2 and
Linf run over all values of an image. A value counts as changed when it differs by more than
`L0_TOLERANCE`, which is far below one step of an 8-bit image (1/255) and above float32 noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .types import Norm

L0_TOLERANCE = 1e-6


def distance(norm: Norm, first: Tensor, second: Tensor) -> Tensor:
    """Distance between paired images.

    Args:
        norm: which norm.
        first, second: (N, C, H, W).

    Returns:
        (N,) float32 (computed in float64, so that tiny distances don't round away).
    """
    difference = (second.double() - first.double()).abs()
    measured: Tensor
    if norm == "l0":
        measured = (difference > L0_TOLERANCE).any(dim=1).flatten(1).sum(1)
    elif norm == "l1":
        measured = difference.flatten(1).sum(1)
    elif norm == "l2":
        measured = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    else:
        measured = difference.flatten(1).amax(1)
    return measured.float()


def all_distances(first: Tensor, second: Tensor) -> dict[Norm, Tensor]:
    """Every norm at once: {norm: (N,)}."""
    norms: tuple[Norm, ...] = ("l0", "l1", "l2", "linf")
    return {norm: distance(norm, first, second) for norm in norms}


def project(norm: Norm, images: Tensor, origins: Tensor, epsilon: Tensor | float) -> Tensor:
    """The nearest points (in L2) to `images` within `epsilon` of `origins`.

    L0 keeps the floor(epsilon) pixels with the largest change, measured in L2 over the channels.
    L1 uses the sort-based projection of Duchi et al. 2008 (Efficient projections onto the
    l1-ball, ICML, figure 1).

    Args:
        images, origins: (N, C, H, W).
        epsilon: a radius, or one for each image (N,).

    Returns:
        (N, C, H, W), not clipped to the pixel bounds.
    """
    n = len(images)
    radius = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device).expand(n)
    column = radius.view(n, 1, 1, 1)
    delta = images - origins
    change: Tensor
    if norm == "linf":
        change = delta.clamp(-column, column)
    elif norm == "l2":
        length = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-30)
        change = delta * (radius / length).clamp_max(1.0).view(n, 1, 1, 1)
    elif norm == "l0":
        size = torch.linalg.vector_norm(delta, dim=1).flatten(1)
        rank = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        change = delta * (rank < radius.floor().view(n, 1)).view(n, 1, *images.shape[2:])
    else:
        change = _project_l1(delta.flatten(1), radius).view_as(images)
    return origins + change


def _project_l1(delta: Tensor, radius: Tensor) -> Tensor:
    magnitude = delta.abs()
    inside = magnitude.sum(1) <= radius
    ordered = magnitude.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - radius.unsqueeze(1)
    index = torch.arange(1, delta.shape[1] + 1, device=delta.device, dtype=delta.dtype)
    count = (ordered * index > excess).sum(1).clamp_min(1)
    threshold = excess.gather(1, (count - 1).unsqueeze(1)) / count.unsqueeze(1)
    shrunk = delta.sign() * (magnitude - threshold).clamp_min(0.0)
    return torch.where(inside.unsqueeze(1), delta, shrunk)
