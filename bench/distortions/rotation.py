"""The grey image turned by quarter turns (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .base import Base, changed, numbers


@dataclass(frozen=True, kw_only=True)
class Rotation(Base):
    """Anticlockwise, by a multiple of 90 degrees."""

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        if value % 90:
            raise UserError(f"rotation: the angle is {value:g}; wanted a multiple of 90 degrees")
        if images.shape[2] != images.shape[3]:
            height, width = images.shape[2:]
            raise UserError(f"rotation: images are {height}x{width}; wanted square ones")
        turns = int(value // 90)
        return changed(images, lambda plane, rows: torch.rot90(plane, turns, (1, 2)))


def create() -> Rotation:
    """0, 90, 180 and 270 degrees, as in the paper."""
    return Rotation(
        name="rotation",
        title="Rotation",
        unit="angle in degrees",
        levels=numbers(0, 90, 180, 270),
    )
