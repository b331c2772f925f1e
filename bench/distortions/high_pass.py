"""The grey image without its blurred copy (arXiv 1808.08750, section 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .base import Base, changed, numbers, pixels, within
from .blur import gaussian_blur
from .low_pass import MEAN_GREY


@dataclass(frozen=True, kw_only=True)
class HighPass(Base):
    """Image minus blurred image, moved so that its mean grey value is 0.4423.

    The standard deviation is in pixels at 224x224 and scales with the side elsewhere: on 28x28 the
    levels below 1 are shorter than a pixel and leave an even grey. Infinity filters nothing.
    """

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        within(self.name, "the standard deviation", value, 0.0, math.inf)
        sigma = pixels(value, images)

        def edges(plane: Tensor, rows: slice) -> Tensor:
            if math.isinf(value):
                return plane
            plane.sub_(gaussian_blur(plane, sigma, MEAN_GREY))
            return plane.add_(MEAN_GREY - plane.mean(dim=(1, 2), keepdim=True))

        return changed(images, edges)


def create() -> HighPass:
    """Eight standard deviations from infinity to 0.4 pixels, as in the paper."""
    return HighPass(
        name="high-pass",
        title="High-pass",
        unit="filter standard deviation in pixels at 224x224",
        levels=numbers(math.inf, 3, 1.5, 1, 0.7, 0.55, 0.45, 0.4),
    )
