"""What eidolons are made of: bands of scale, blurred noise, displaced pixels.

On a torus of a power of two pixels, in which the image lies amid its mirror images, as in the
toolbox of Koenderink et al. (Journal of Vision 17(2):7, 2017).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from .noise import normal_pairs
from .types import REFERENCE_SIDE

FINEST = 1 / math.sqrt(2)
"""Standard deviation of the finest level in pixels."""

COARSEST = 64.0
"""Limit of the levels in pixels at 224x224: a quarter of the side of 256 that the authors set."""

SHORT = 5.0
"""Noise blurred by at most this many pixels doesn't reach across a margin of four times as many."""

ENOUGH = 5.0
"""Noise has next to nothing (4e-6) beyond this many standard deviations of its spectrum."""


def torus_of(shape: tuple[int, int]) -> int:
    """Side T of the torus for images (H,W): the power of two from one and a half sides on."""
    return 1 << math.ceil(math.log2(1.5 * max(shape)))


def scales(side: int) -> tuple[float, ...]:
    """Standard deviations of the levels for an image of this side, finest first, in pixels.

    From 1/sqrt(2) in factors of sqrt(2), twice log2 of the limit many: the last is half the limit,
    as in the toolbox. The limit scales with the side.
    """
    limit = COARSEST * side / REFERENCE_SIDE
    count = max(2, math.ceil(2 * math.log2(max(2.0, limit))))
    return tuple(FINEST * math.sqrt(2) ** level for level in range(count))


def scale_space(planes: Tensor, sigmas: tuple[float, ...]) -> tuple[Tensor, tuple[int, int]]:
    """Bands of scale that add up to the images blurred by the finest standard deviation.

    Args:
        planes: (N,H,W).
        sigmas: standard deviations in pixels, ascending.

    Returns:
        bands (N, levels, T, T), and the row and column where the images begin in them.
    """
    height, width = planes.shape[1:]
    torus = torus_of((height, width))
    top, left = (torus - height) // 2, (torus - width) // 2
    rows = _mirrored(height, top, torus).to(planes.device)
    columns = _mirrored(width, left, torus).to(planes.device)
    spectrum = torch.fft.rfft2(planes[:, rows][:, :, columns])
    finer: Tensor | None = None
    bands = []
    for sigma in sigmas:
        down = _transfer(torus, sigma).to(planes.device)
        kernel = down[:, None] * down[: torus // 2 + 1]
        level = torch.fft.irfft2(spectrum * kernel, s=(torus, torus))
        if finer is not None:
            bands.append(finer - level)
        finer = level
    bands.append(level)
    return torch.stack(bands, dim=1), (top, left)


def disarray(bands: Tensor, corner: tuple[int, int], down: Tensor, across: Tensor) -> Tensor:
    """Images (N,H,W) from bands whose pixels are displaced.

    Args:
        bands: (N,L,T,T), as from `scale_space`.
        corner: where the images begin in them.
        down, across: displacements (N,L,H,W) in pixels; places beyond the borders of the torus are
            moved to it and all are cut to whole pixels, as in the toolbox.
    """
    side = bands.shape[-1]
    height, width = down.shape[2:]
    row = torch.arange(height, device=down.device)[:, None] + corner[0]
    column = torch.arange(width, device=down.device) + corner[1]
    rows = (down + row).clamp_(0, side - 1).int()
    columns = (across + column).clamp_(0, side - 1).int()
    places = rows.mul_(side).add_(columns).long().flatten(2)
    return bands.flatten(2).gather(2, places).sum(dim=1).view(-1, height, width)


def blurred_noise(seeds: Tensor, stream: str, shape: tuple[int, int], sigma: float) -> Tensor:
    """White Gaussian noise blurred by `sigma` pixels: (N,H,W), mean 0 and variance 1 on its torus.

    It is drawn as the frequencies that the blur leaves, and transformed back only where the image
    lies. Noise of short reach is made on the smallest torus on which the image's opposite borders
    don't feel each other: within the image it is distributed as on a large one.

    Args:
        seeds: int64 (N,).
        stream: another one is independent.
        shape: (H,W).
        sigma: standard deviation in pixels, > 0.
    """
    torus, height, width = torus_of(shape), *shape
    if sigma <= SHORT:
        torus = min(torus, 1 << math.ceil(math.log2(max(shape) + 4 * SHORT)))
    kept = math.ceil(ENOUGH * torus / (2 * math.pi * sigma))
    sparse = sigma > SHORT and 2 * kept < torus
    down = torch.cat([torch.arange(kept + 1), torch.arange(-kept, 0)]) if sparse else _places(torus)
    across = torch.arange(kept + 1) if sparse else torch.arange(torus // 2 + 1)
    drawn = normal_pairs(seeds, stream, (len(down), len(across)))
    weights = _weights(torus, sigma, down, across).to(seeds.device)
    waves = drawn * weights
    # The field is the real part of the sum of all waves: its variance half the sum of squares.
    power = torch.view_as_real(waves).square().sum(dim=(1, 2, 3))
    waves = waves * (2 / power).sqrt()[:, None, None]
    if sparse:
        rows = torch.polar(
            torch.ones(1), 2 * math.pi / torus * torch.outer(torch.arange(height), down)
        )
        columns = torch.polar(
            torch.ones(1), 2 * math.pi / torus * torch.outer(across, torch.arange(width))
        )
        left, right = rows.to(waves.device) @ waves, columns.to(waves.device)
        field: Tensor = left.real @ right.real - left.imag @ right.imag
        return field
    lines = torch.fft.ifft(waves, dim=1, norm="forward")[:, :height]
    lines = torch.cat([lines[:, :, :1] * 2, lines[:, :, 1:-1], lines[:, :, -1:] * 2], dim=2)
    whole: Tensor = torch.fft.irfft(lines / 2, n=torus, dim=2, norm="forward")
    return whole[:, :, :width]


def _places(torus: int) -> Tensor:
    """Frequencies of a transform of T pixels, in its order."""
    return (torch.arange(torus) + torus // 2) % torus - torus // 2


def _weights(torus: int, sigma: float, down: Tensor, across: Tensor) -> Tensor:
    """(len(down), len(across)): the blur's transfer; 0 for the mean and for waves that stand twice.

    In the first column, and in that of half the torus, a wave and its conjugate are one real wave.
    """
    transfer = _transfer(torus, sigma)
    weights = transfer[down % torus][:, None] * transfer[across]
    twice = (across == 0) | (across * 2 == torus)
    weights[(down < 0)[:, None] & twice] = 0.0
    weights[0, 0] = 0.0
    return weights


@lru_cache(maxsize=256)
def _transfer(torus: int, sigma: float) -> Tensor:
    """float32 (T,): the transform of a Gaussian of T samples around 0, which is real."""
    places = _places(torus).double()
    kernel = torch.exp(-(places**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
    transfer: Tensor = torch.fft.fft(kernel).real.float()
    return transfer


@lru_cache(maxsize=16)
def _mirrored(side: int, before: int, torus: int) -> Tensor:
    """(T,): which of `side` pixels stands where, the image and its mirror images around it."""
    place = (torch.arange(torus) - before) % (2 * side)
    return torch.minimum(place, 2 * side - 1 - place)
