"""What textures can be told apart by without learning: local statistics and a threshold.

The baseline of a task that might be easy: blurred powers of a small bank of oriented filters at
two scales, their distance to those of the reference, and Otsu's threshold (1979).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11
"""Pixels over which powers are averaged."""


def segment(scenes: Tensor, references: Tensor) -> Tensor:
    """(N, 1, H, W) bool masks: where the local statistics are nearest to the reference's.

    Scenes (N, 1, H, W) and references (N, 1, h, w) in [0, 1].
    """
    found, sought = _statistics(scenes), _statistics(references).mean((2, 3), keepdim=True)
    scale = found.std((2, 3), keepdim=True).clamp_min(1e-6)
    far = ((found - sought) / scale).square().sum(1).sqrt()
    return torch.stack([one < _otsu(one) for one in far])[:, None]


def _statistics(images: Tensor) -> Tensor:
    """(N, K, H, W): the local mean and the logarithms of local powers."""
    padded = F.pad(images - 0.5, (4, 4, 4, 4), mode="reflect")
    powers = F.conv2d(padded, _bank()).square()
    window = WINDOW // 2
    powers = F.avg_pool2d(F.pad(powers, (window,) * 4, mode="reflect"), WINDOW, stride=1)
    mean = F.avg_pool2d(F.pad(images, (window,) * 4, mode="reflect"), WINDOW, stride=1)
    return torch.cat([mean, (powers + 1e-5).log()], 1)


def _bank() -> Tensor:
    """(16, 1, 9, 9): even and odd gratings under a Gaussian, four angles at two scales."""
    y, x = torch.meshgrid(torch.arange(-4.0, 5), torch.arange(-4.0, 5), indexing="ij")
    made = []
    for period, width in ((3.0, 1.2), (7.0, 2.2)):
        window = torch.exp(-(x**2 + y**2) / (2 * width**2))
        for step in range(4):
            along = x * math.cos(step * math.pi / 4) + y * math.sin(step * math.pi / 4)
            for phase in (0.0, math.pi / 2):
                wave = window * torch.cos(2 * math.pi * along / period + phase)
                wave = wave - window * wave.sum() / window.sum()
                made.append(wave / wave.norm())
    return torch.stack(made)[:, None]


def _otsu(values: Tensor) -> float:
    """The cut that leaves the least variance within the two parts."""
    ordered = values.flatten().double().sort().values
    count = torch.arange(1, len(ordered), dtype=torch.float64)
    sums = ordered.cumsum(0)
    low = sums[:-1] / count
    high = (sums[-1] - sums[:-1]) / (len(ordered) - count)
    between = count * (len(ordered) - count) * (low - high) ** 2
    cut = int(between.argmax())
    return float((ordered[cut] + ordered[cut + 1]) / 2)
