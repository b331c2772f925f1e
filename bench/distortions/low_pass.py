"""Gaussian blur of the grey image (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import Base, changed, numbers, pixels, within
from .blur import gaussian_blur

MEAN_GREY = 0.4423
"""Mean grey value over the paper's images, which lies around each image."""


@dataclass(frozen=True, kw_only=True)
class LowPass(Base):
    """The standard deviation is in pixels at 224x224 and scales with the side elsewhere."""

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        within(self.name, "the standard deviation", value, 0.0, 1000.0)
        sigma = pixels(value, images)
        return changed(images, lambda plane, rows: gaussian_blur(plane, sigma, MEAN_GREY))


def create() -> LowPass:
    """Eight standard deviations from 0 to 40 pixels, as in the paper."""
    return LowPass(
        name="low-pass",
        title="Low-pass",
        unit="filter standard deviation in pixels at 224x224",
        levels=numbers(0, 1, 3, 5, 7, 10, 15, 40),
    )
