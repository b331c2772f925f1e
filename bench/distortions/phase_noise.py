"""Phases of the grey image's frequencies moved at random (arXiv 1808.08750, section 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from .base import Base, changed, numbers, within
from .noise import uniform

STREAM = "phase-noise"
"""Of random numbers, the same for both kinds."""


@dataclass(frozen=True, kw_only=True)
class PhaseNoise(Base):
    """Adds U(-w, w) degrees to the phase of each frequency.

    The authors' program gives the conjugate frequency another frequency's shift, so that the result
    is not real; its real part, which observers saw, has lost contrast as well (17 % at 90 degrees).
    `symmetric` gives the conjugate its own negative shift: phase noise and nothing else.
    """

    symmetric: bool = False

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        within(self.name, "the width", value, 0.0, 180.0)
        height, width = images.shape[2:]
        plan = _plan(height, width, self.symmetric)
        own, partner = plan.own.to(images.device), plan.partner.to(images.device)
        own_sign = plan.own_sign.to(images.device) * (value * math.pi / 180)
        partner_sign = plan.partner_sign.to(images.device) * (value * math.pi / 180)

        def moved(plane: Tensor, rows: slice) -> Tensor:
            draws = uniform(seeds[rows], STREAM, (plan.shifts,)).mul_(2).sub_(1)
            shifts = functional.pad(draws, (0, 1))  # the last one, 0, moves nothing
            angle = shifts[:, own] * own_sign
            # The real part of an inverse transform is that of the mean of k and of conjugate -k.
            if self.symmetric:
                factor = torch.polar(torch.ones_like(angle), angle)
            else:
                other = shifts[:, partner] * partner_sign
                # (e^ia + e^-ib) / 2
                size, phase = torch.cos((angle + other) / 2), (angle - other) / 2
                factor = torch.complex(size * torch.cos(phase), size * torch.sin(phase))
            spectrum = torch.fft.rfft2(plane) * factor
            again: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
            return again

        return changed(images, moved)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which shift each frequency of the half plane (H, W // 2 + 1) gets.

    Attributes:
        shifts: how many are drawn.
        own, partner: index of the shift of a frequency and of its conjugate; `shifts` means none.
        own_sign, partner_sign: 1 or -1.
    """

    shifts: int
    own: Tensor
    own_sign: Tensor
    partner: Tensor
    partner_sign: Tensor


@lru_cache(maxsize=16)
def _plan(height: int, width: int, symmetric: bool) -> _Plan:
    """The authors' order: the centred block without the unpaired row and column, row by row."""
    top, left = (height + 1) % 2, (width + 1) % 2
    rows, columns = height - top, width - left
    half = rows * columns // 2
    place = torch.arange(rows * columns)
    mirrored = rows * columns - 1 - place if symmetric else place - half - 1
    index = torch.where(place < half, place, mirrored)
    index[half] = half  # the mean stays
    sign = torch.where(place < half, 1.0, -1.0)
    centred = torch.full((height, width), half)
    centred[top:, left:] = index.view(rows, columns)
    signs = torch.ones(height, width)
    signs[top:, left:] = sign.view(rows, columns)
    full, full_sign = torch.fft.ifftshift(centred), torch.fft.ifftshift(signs)
    opposite = (-torch.arange(height)) % height, (-torch.arange(width)) % width
    partner, partner_sign = (
        whole[opposite[0]][:, opposite[1]][:, : width // 2 + 1] for whole in (full, full_sign)
    )
    kept = slice(None), slice(0, width // 2 + 1)
    return _Plan(half, full[kept], full_sign[kept], partner, partner_sign)


def create(*, symmetric: bool = False) -> PhaseNoise:
    """Seven widths from 0 to 180 degrees, as in the paper.

    As published, contrast falls with the width; `symmetric` shifts conjugate frequencies by
    opposite angles, which keeps it.
    """
    return PhaseNoise(
        name="phase-noise:symmetric=true" if symmetric else "phase-noise",
        title="Phase noise, symmetric" if symmetric else "Phase noise",
        unit="width in degrees",
        levels=numbers(0, 30, 60, 90, 120, 150, 180),
        symmetric=symmetric,
    )
