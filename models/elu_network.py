"""The four-layer network that the CNNs of arXiv 1805.09190 share; they differ in its widths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNELS, STRIDES = (5, 4, 3, 5), (1, 2, 2, 1)
CLASSES = 10
TINY = (4, 8, 8)
"""Maps of a dwarf."""


class Binarise(nn.Module):
    """1 from 0.5 on, else 0; on the way back the gradient passes as if nothing had happened.

    The true gradient is 0 nearly everywhere. Passing it through (Athalye et al. 2018, 1802.00420,
    section 4.1) keeps gradient attacks meaningful.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return images + (binarised(images) - images).detach()


def binarised(images: Tensor) -> Tensor:
    """1 where images are at least 0.5, else 0."""
    return (images >= 0.5).to(images.dtype)


def elu_network(maps: tuple[int, int, int], *, binary: bool = False) -> nn.Sequential:
    """Convolutions without padding, 28 -> 24 -> 11 -> 5 -> 1 pixels a side, to 10 logits.

    Batch norm and ELU follow the first three, which have `maps` outputs. `binary` puts `Binarise`
    in front.
    """
    layers: list[nn.Module] = [Binarise()] if binary else []
    before = 1
    for kernel, stride, width in zip(KERNELS, STRIDES, maps, strict=False):
        layers += [nn.Conv2d(before, width, kernel, stride), nn.BatchNorm2d(width), nn.ELU()]
        before = width
    layers += [nn.Conv2d(before, CLASSES, KERNELS[-1], STRIDES[-1]), nn.Flatten()]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)
