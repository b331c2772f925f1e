"""Residual networks trained on distorted images (arXiv 1808.08750, section 2.3).

A pre-activation ResNet for grey 28x28 images (78,161 numbers), of which one is trained for each
distortion, for pairs with uniform noise, and for all but one noise, as the paper's networks A, B
and C; and the paper's own ResNet-50, for 224x224 images in 16 classes (`build_resnet50`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .trained import MNIST_SHAPE, trained
from .wrappers import Classifier

IMAGE_SHAPE = MNIST_SHAPE
CLASSES = 10

PAPER_SHAPE = (3, 224, 224)
PAPER_CLASSES = 16

Training = Literal[
    "plain",
    "contrast",
    "low-pass",
    "high-pass",
    "phase-noise",
    "rotation",
    "salt-and-pepper",
    "uniform-noise",
    "plain-and-uniform-noise",
    "contrast-and-uniform-noise",
    "low-pass-and-uniform-noise",
    "high-pass-and-uniform-noise",
    "phase-noise-and-uniform-noise",
    "rotation-and-uniform-noise",
    "salt-and-pepper-and-uniform-noise",
    "all-but-uniform-noise",
    "all-but-salt-and-pepper",
]
"""What a network was trained on. Grey images have no colour to take away, so that the paper's
networks for colour and for greyscale are one here, "plain"."""


def create(
    *,
    dataset: str = "fashion-mnist",
    training: Training = "plain",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> Classifier:
    """The trained network: images float32 (N,1,28,28) in [0,1] -> logits (N,10).

    `dataset` and `training` choose the checkpoint; `weights` names a safetensors file with a card
    instead. `tiny` makes a dwarf; without `weights` it has random ones from `seed`, for tests.
    Raises `UsageError` when weights are missing, changed, or another network's.
    """
    return trained(
        "distortion_resnet",
        build,
        dataset=dataset,
        training=training,
        weights=weights,
        tiny=tiny,
        seed=seed,
    )


def build(*, tiny: bool = False) -> nn.Module:
    """The untrained network for 28x28, in training mode: three basic blocks."""
    return build_small(8 if tiny else 16)


def build_small(width: int) -> nn.Module:
    """The same with another number of maps in its first block, which is at least 8."""
    if width < 8:  # with 4, torch 2.14's channels-last convolutions corrupt memory
        raise ValueError(f"got a width of {width}; wanted at least 8")
    return ResNet(
        stem=nn.Conv2d(1, width, 4, stride=2, padding=1, bias=False),  # (N,16,14,14)
        stages=[
            [Basic(width, width, 1)],
            [Basic(width, 2 * width, 2)],  # (N,32,7,7)
            [Basic(2 * width, 4 * width, 2)],  # (N,64,4,4)
        ],
        features=4 * width,
        classes=CLASSES,
    ).to(memory_format=torch.channels_last)


def build_resnet50(*, classes: int = PAPER_CLASSES) -> nn.Module:
    """The paper's untrained ResNet-50 (version 2) for (N,3,224,224), in training mode.

    Its training: SGD with momentum 0.9, batches of 64, rate 0.025 falling tenfold at epochs 30,
    60, 80 and 90 of 100, weight decay 1e-4 but on batch norms, each image weighted by the inverse
    frequency of its class.
    """
    width, depth = 64, (3, 4, 6, 3)
    stages: list[list[nn.Module]] = []
    entering = width
    for stage, blocks in enumerate(depth):
        inner = width * 2**stage
        stages.append([])
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            stages[-1].append(Bottleneck(entering, inner, stride))
            entering = 4 * inner
    stem = nn.Sequential(
        nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.MaxPool2d(3, 2, 1)
    )
    return ResNet(stem=stem, stages=stages, features=entering, classes=classes)


class ResNet(nn.Module):
    """Pre-activation residual network (He et al., arXiv 1603.05027), mean-pooled."""

    def __init__(
        self, *, stem: nn.Module, stages: list[list[nn.Module]], features: int, classes: int
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
        self.norm = nn.BatchNorm2d(features)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N,C,H,W) -> logits (N,K)."""
        features = self.norm(self.stages(self.stem(images))).relu().mean(dim=(2, 3))
        logits: Tensor = self.head(features)
        return logits


class Residual(nn.Module):
    """x or its projection, plus convolutions of norm(x), each after a batch norm and a ReLU."""

    def __init__(self, entering: int, convolutions: list[nn.Conv2d], stride: int) -> None:
        super().__init__()
        leaving = convolutions[-1].out_channels
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c.in_channels) for c in convolutions)
        changes = stride != 1 or entering != leaving
        self.shortcut = (
            nn.Conv2d(entering, leaving, 1, stride=stride, bias=False) if changes else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) -> (N,C',H/stride,W/stride)."""
        out = self.norms[0](x).relu()
        kept = x if self.shortcut is None else self.shortcut(out)
        out = self.convolutions[0](out)
        for norm, convolution in zip(self.norms[1:], self.convolutions[1:], strict=True):
            out = convolution(norm(out).relu())
        added: Tensor = kept + out
        return added


_conv3: Callable[..., nn.Conv2d] = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
_conv1: Callable[..., nn.Conv2d] = partial(nn.Conv2d, kernel_size=1, bias=False)


class Basic(Residual):
    """Two 3x3 convolutions."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__(
            entering,
            [_conv3(entering, leaving, stride=stride), _conv3(leaving, leaving)],
            stride,
        )


class Bottleneck(Residual):
    """1x1 to `inner` channels, 3x3, 1x1 to four times as many."""

    def __init__(self, entering: int, inner: int, stride: int) -> None:
        super().__init__(
            entering,
            [
                _conv1(entering, inner),
                _conv3(inner, inner, stride=stride),
                _conv1(inner, 4 * inner),
            ],
            stride,
        )
