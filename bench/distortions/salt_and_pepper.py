"""Black and white pixels on a grey image of 30 % contrast (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import NOISE_CONTRAST, Base, changed, numbers, with_contrast, within
from .noise import uniform


@dataclass(frozen=True, kw_only=True)
class SaltAndPepper(Base):
    """Half of a share p of the pixels becomes white, half black."""

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        within(self.name, "the share", value, 0.0, 1.0)

        def noisy(plane: Tensor, rows: slice) -> Tensor:
            draws = uniform(seeds[rows], self.name, tuple(plane.shape[1:]))
            plane = with_contrast(plane, NOISE_CONTRAST)
            plane = plane.masked_fill_(draws >= 1 - value / 2, 1.0)
            return plane.masked_fill_(draws < value / 2, 0.0)

        return changed(images, noisy)


def create() -> SaltAndPepper:
    """Eight shares from 0 to 0.95, as in the paper (networks only: no human saw them)."""
    return SaltAndPepper(
        name="salt-and-pepper",
        title="Salt-and-pepper noise",
        unit="share of pixels",
        levels=numbers(0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95),
    )
