"""Moved copies of images: a little turned, scaled, sheared and shifted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .recipes import Recipe


def moved(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """One random affine copy of each image (N,C,H,W) in [0,1]; what comes in from outside is 0."""
    n = len(images)

    def within(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, scale, shear = within(recipe.rotation), 1 + within(recipe.scale), within(recipe.shear)
    # affine_grid measures in half sides, hence 2 / side for a pixel.
    across = within(recipe.shift * 2 / images.shape[3])
    down = within(recipe.shift * 2 / images.shape[2])
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [
        torch.stack([cosine, shear - sine, across], dim=1),
        torch.stack([sine, cosine, down], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).clamp(0.0, 1.0)
