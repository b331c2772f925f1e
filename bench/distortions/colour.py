"""Colour against greyscale (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import Base, changed
from .types import Level


@dataclass(frozen=True, kw_only=True)
class Colour(Base):
    """Value 1 takes the colour away, 0 changes nothing."""

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        return images.clone() if value == 0 else changed(images, lambda plane, rows: plane)


def create() -> Colour:
    """Two levels, as in the paper: colour and greyscale."""
    return Colour(
        name="colour",
        title="Colour",
        unit="",
        levels=(Level("colour", 0.0), Level("greyscale", 1.0)),
        needs_colour=True,
    )
