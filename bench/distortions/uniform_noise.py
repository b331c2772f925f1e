"""Additive uniform noise on a grey image of 30 % contrast (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import NOISE_CONTRAST, Base, changed, numbers, with_contrast, within
from .noise import uniform


@dataclass(frozen=True, kw_only=True)
class UniformNoise(Base):
    """Adds U(-w, w) to each pixel, independently, and clips."""

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        within(self.name, "the width", value, 0.0, 1.0)

        def noisy(plane: Tensor, rows: slice) -> Tensor:
            draws = uniform(seeds[rows], self.name, tuple(plane.shape[1:]))
            return with_contrast(plane, NOISE_CONTRAST).sub_(value).add_(draws, alpha=2 * value)

        return changed(images, noisy)


def create() -> UniformNoise:
    """Eight widths from 0 to 0.9, as in the paper; width 0 is 30 % contrast alone."""
    return UniformNoise(
        name="uniform-noise",
        title="Uniform noise",
        unit="noise width",
        levels=numbers(0.0, 0.03, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9),
    )
