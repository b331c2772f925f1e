"""The networks: a small one for 28x28, the published one for MNIST, i-RevNet for ImageNet."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .bijections import (
    ActNorm,
    AdditiveCoupling,
    Affine,
    Bijection,
    Chain,
    Flatten,
    Pick,
    Reverse,
    Shuffle,
    Spectrum,
    Split,
    Squeeze,
    Swap,
)
from .couplings import bottleneck, convolutions, layers, normalised_convolutions
from .network import InvertibleNetwork

MNIST_SHAPE = (1, 28, 28)
IMAGENET_SHAPE = (3, 224, 224)

Net = Callable[[int, int], nn.Module]
"""(channels that enter, channels that leave) -> the network of a coupling."""


def small(
    *,
    steps: tuple[int, int, int] = (2, 4, 4),
    widths: tuple[int, int, int] = (24, 64, 256),
) -> InvertibleNetwork:
    """For 28x28 without any padding: two levels, the DCT readout, fully connected couplings.

    784 numbers in and out. Without the last part, mean pooling hides where things are.

    Args:
        steps: at 14x14, at 7x7 and of vectors, each an actnorm, a reordering, and an additive
            coupling.
        widths: of the networks in these couplings.
    """
    return InvertibleNetwork(
        Chain(
            [
                Affine(),
                Squeeze(),  # (N,4,14,14)
                *_steps(4, steps[0], _convolutions(widths[0])),
                Squeeze(),  # (N,16,7,7)
                *_steps(16, steps[1], _convolutions(widths[1])),
                Spectrum(16, 7, 7),  # (N,784)
                *_mixing(784, steps[2], widths[2]),
            ]
        ),
        classes=10,
        image_shape=MNIST_SHAPE,
    )


def flat(*, steps: int = 8, width: int = 384) -> InvertibleNetwork:
    """For 28x28 as vectors: fully connected couplings only, of pixels in random order."""
    return InvertibleNetwork(
        Chain([Affine(), Flatten(MNIST_SHAPE), *_mixing(784, steps, width)]),
        classes=10,
        image_shape=MNIST_SHAPE,
    )


def published(*, steps: int = 16, width: int = 128) -> InvertibleNetwork:
    """fi-RevNet48 as in the authors' public code: three levels of 16 steps, two splits.

    Images are padded by 2 pixels of zeros and two channels of zeros, to 3,072 numbers. Logits are
    the first 10 channels at the place (2, 2) of the last tensor, 48x4x4.
    """

    def level(channels: int, inner: list[Bijection]) -> Chain:
        return Chain([Squeeze(), *_steps(4 * channels, steps, _published(width)), *inner])

    last = level(12, [Pick((48, 4, 4), 10, (2, 2))])
    middle = level(6, [Split(24, last)])
    first = level(3, [Split(12, middle)])
    return InvertibleNetwork(
        Chain([Affine(), first]),
        classes=10,
        image_shape=MNIST_SHAPE,
        padded_shape=(3, 32, 32),
    )


def imagenet(
    *, blocks: tuple[int, ...] = (6, 16, 72, 6), narrow: int = 4, classes: int = 1000
) -> InvertibleNetwork:
    """The bijective i-RevNet for 3x224x224 with the DCT readout: 3,072 DC coefficients.

    Args:
        blocks: of each of the four stages, which begin with a squeeze of both streams.
        narrow: by how much the bottlenecks are narrower than their streams.
        classes: K, at most 3,072.
    """
    parts: list[Bijection] = [Squeeze()]  # (N,12,112,112)
    channels = 6  # of a stream
    for stage, count in enumerate(blocks):
        parts.append(Squeeze())
        before, channels = channels, 4 * channels
        for block in range(count):
            net = bottleneck(
                channels,
                channels // narrow,
                before=None if block else before,
                first=not stage and not block,
            )
            parts += [AdditiveCoupling(net), Swap()]
    side = 112 // 2 ** len(blocks)
    parts.append(Spectrum(2 * channels, side, side))
    return InvertibleNetwork(Chain(parts), classes=classes, image_shape=IMAGENET_SHAPE)


def dense(
    dimensions: int, *, classes: int = 2, steps: int = 2, width: int = 256
) -> InvertibleNetwork:
    """For vectors (N, D): actnorm, reversal, fully connected coupling; D even."""
    half = dimensions // 2
    parts: list[Bijection] = []
    for _ in range(steps):
        parts += [ActNorm(dimensions), Reverse(), AdditiveCoupling(layers(half, width, half))]
    return InvertibleNetwork(Chain(parts), classes=classes, image_shape=(dimensions,))


def _steps(channels: int, count: int, net: Net) -> list[Bijection]:
    half = channels // 2
    parts: list[Bijection] = []
    for _ in range(count):
        parts += [ActNorm(channels), Reverse(), AdditiveCoupling(net(half, half))]
    return parts


def _mixing(dimensions: int, count: int, width: int) -> list[Bijection]:
    half = dimensions // 2
    parts: list[Bijection] = []
    for step in range(count):
        net = layers(half, width, half)
        parts += [ActNorm(dimensions), Shuffle(dimensions, step), AdditiveCoupling(net)]
    return parts


def _convolutions(width: int) -> Net:
    return lambda entering, leaving: convolutions(entering, width, leaving)


def _published(width: int) -> Net:
    return lambda entering, leaving: normalised_convolutions(entering, width, leaving, 0.1)
