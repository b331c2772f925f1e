"""Eidolons: partially coherent disarray of an image's scale space (arXiv 1808.08750, section 2).

Koenderink, Valsecchi, van Doorn, Wagemans, Gegenfurtner: "Eidolons: Novel stimuli for vision
research", Journal of Vision 17(2):7, 2017. The grey image is cut into bands of scale, the pixels of
each are displaced by a random field, and the bands are added up again. Coherent fields move fine
bands along with the coarse ones; incoherent fields move each band on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Base, as_images, grey, pixels, within
from .scale_space import COARSEST, blurred_noise, disarray, scale_space, scales, torus_of
from .types import REFERENCE_SIDE, Level

GRAIN = 10.0
"""Blur of the incoherent fields in pixels at 224x224 (paper)."""

AT_ONCE = 1 << 22
"""Numbers in the bands of the images that are distorted together: as many as fit in 16 MB."""

NUMERALS = {1.0: "I", 0.3: "II", 0.0: "III"}
"""What the paper calls these coherences."""


REACHES = tuple(Level(str(power), 2.0**power) for power in range(8))
"""The paper's, labelled by their logarithm as in its plots."""


@dataclass(frozen=True, kw_only=True)
class Eidolon(Base):
    """The value is the reach: how far pixels are displaced, in pixels at 224x224.

    Attributes:
        coherence: share of the coherent field in [0,1]; the incoherent one has the rest.
        grain: blur of the incoherent field in pixels at 224x224.
    """

    coherence: float
    grain: float = GRAIN

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        within(self.name, "the reach", value, 0.0, 10_000.0)
        plane = grey(images)
        shape = (plane.shape[1], plane.shape[2])
        sigmas, torus = scales(min(shape)), torus_of(shape)
        together = max(1, AT_ONCE // (len(sigmas) * torus * torus))
        reach = pixels(value, images)
        made = []
        for part, own in zip(plane.split(together), seeds.split(together), strict=True):
            bands, corner = scale_space(part, sigmas)
            down = self.field(own, "down", shape, sigmas) * reach
            across = self.field(own, "across", shape, sigmas) * reach
            made.append(disarray(bands, corner, down, across))
        return as_images(torch.cat(made), images)

    def field(
        self, seeds: Tensor, axis: str, shape: tuple[int, int], sigmas: tuple[float, ...]
    ) -> Tensor:
        """Displacements (N, levels, H, W) along one axis for a reach of 1 pixel.

        Args:
            seeds: int64 (N,).
            axis: names the stream of random numbers.
            shape: (H,W).
            sigmas: of the levels, as from `scales`.
        """
        scale = min(shape) / REFERENCE_SIDE
        total = torch.zeros(len(seeds), len(sigmas), *shape, device=seeds.device)
        for level, sigma in enumerate(sigmas):
            if self.coherence > 0:
                noise = blurred_noise(seeds, f"eidolon coherent {axis} {level}", shape, sigma)
                weight = self.coherence * sigma / (COARSEST * scale)
                total[:, : level + 1] += (noise * weight)[:, None]  # it moves finer ones along
            if self.coherence < 1:
                stream = f"eidolon incoherent {axis} {level}"
                noise = blurred_noise(seeds, stream, shape, self.grain * scale)
                total[:, level] += noise * (1 - self.coherence)
        return total


def create(*, coherence: float = 1.0, grain: float = 10.0) -> Eidolon:
    """Eight reaches from 1 to 128 pixels; coherence 1, 0.3 and 0 are the paper's I, II and III.

    The paper used Koenderink's toolbox with a correction that was never published; where the public
    toolbox adds up its fields without normalising them, this follows the article. Hence
    "Eidolon-style", unless checked against the authors' own images.
    """
    within("eidolon", "the coherence", coherence, 0.0, 1.0)
    within("eidolon", "the grain", grain, 0.1, 1000.0)
    numeral = NUMERALS.get(coherence) if grain == GRAIN else None
    values = f"coherence={coherence:g},grain={grain:g}"
    return Eidolon(
        name=f"eidolon-{numeral.lower()}" if numeral else f"eidolon:{values}",
        title=f"Eidolon {numeral}" if numeral else f"Eidolon ({values})",
        unit="log2 of reach in pixels at 224x224",
        levels=REACHES,
        coherence=coherence,
        grain=grain,
    )
