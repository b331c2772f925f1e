"""The networks inside couplings. None is inverted, so that they may be anything."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bijections import ActNorm


class Scaled(nn.Module):
    """x exp(3 scale), a scale for each channel (arXiv 1807.03039): lets a zero start grow fast."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in x.shape[2:]))
        return x * (3 * self.scale).exp().view(shape)


class Normalised(nn.Module):
    """An `ActNorm` inside a network, of which only the output matters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(x)[0]
        return normalised


def convolutions(entering: int, width: int, leaving: int) -> nn.Sequential:
    """3x3, 1x1 and 3x3 with ReLUs between; the last begins as zero."""
    return nn.Sequential(
        nn.Conv2d(entering, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        _zero(nn.Conv2d(width, leaving, 3, padding=1)),
        Scaled(leaving),
    )


def normalised_convolutions(
    entering: int, width: int, leaving: int, dropout: float
) -> nn.Sequential:
    """The public code's: as `convolutions`, with actnorm behind the first two, and dropout."""
    return nn.Sequential(
        nn.Conv2d(entering, width, 3, padding=1, bias=False),
        Normalised(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        Normalised(width),
        nn.ReLU(),
        nn.Dropout(dropout),
        _zero(nn.Conv2d(width, leaving, 3, padding=1)),
        Scaled(leaving),
    )


def layers(entering: int, width: int, leaving: int) -> nn.Sequential:
    """Three fully connected layers with ReLUs between; the last begins as zero."""
    return nn.Sequential(
        nn.Linear(entering, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        _zero(nn.Linear(width, leaving)),
        Scaled(leaving),
    )


def bottleneck(
    channels: int, inner: int, *, before: int | None = None, first: bool = False
) -> nn.Sequential:
    """i-RevNet's (Jacobsen et al. 2018, arXiv 1802.07088, figure 2): three 3x3 convolutions.

    Each stands behind a batch norm and a ReLU, but the network's very first one.

    Args:
        channels: that leave, and enter unless `before` is given.
        inner: between the convolutions.
        before: of a block that halves the sides: channels that entered before the squeeze to
            `channels`, which is undone in front, for the first convolution to have stride 2.
        first: leave out the first batch norm and ReLU.
    """
    entering = channels if before is None else before
    stride = 1 if before is None else 2
    parts: list[nn.Module] = [] if before is None else [nn.PixelShuffle(2)]
    if not first:
        parts += [nn.BatchNorm2d(entering), nn.ReLU()]
    return nn.Sequential(
        *parts,
        nn.Conv2d(entering, inner, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, inner, 3, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, channels, 3, padding=1, bias=False),
    )


def _zero(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
