"""Lower contrast of the grey image (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import Base, changed, with_contrast, within
from .types import Level


@dataclass(frozen=True, kw_only=True)
class Contrast(Base):
    """(1 - c) / 2 + c times the grey value, for a nominal contrast c in [0,1]."""

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        within(self.name, "the contrast", value, 0.0, 1.0)
        return changed(images, lambda plane, rows: with_contrast(plane, value))


def create() -> Contrast:
    """Eight levels from 100 % to 1 %, as in the paper."""
    shares = (1.0, 0.5, 0.3, 0.15, 0.10, 0.05, 0.03, 0.01)
    return Contrast(
        name="contrast",
        title="Contrast",
        unit="contrast in %",
        levels=tuple(Level(f"{100 * share:g}", share) for share in shares),
    )
