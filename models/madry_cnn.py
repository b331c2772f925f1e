"""The network of Madry et al. for MNIST, trained against PGD (2018, arXiv 1706.06083).

Two 5x5 convolutions with 32 and 64 outputs, each with ReLU and 2x2 max pooling, a layer of 1,024
and one of 10 units: 3,274,634 parameters; for 28x28x1 images.
"""

from __future__ import annotations

import torch
from torch import nn

from .trained import MNIST_SHAPE, Training, trained
from .wrappers import Classifier

IMAGE_SHAPE = MNIST_SHAPE
CLASSES = 10


def create(
    *,
    dataset: str = "mnist5k",
    training: Training = "pgd",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> Classifier:
    """The trained network: images float32 (N,1,28,28) in [0,1] -> logits (N,10).

    The parameters are those of `small_cnn`. Raises `UsageError` when weights are missing, changed,
    or another network's.
    """
    return trained(
        "madry_cnn",
        build,
        dataset=dataset,
        training=training,
        weights=weights,
        tiny=tiny,
        seed=seed,
    )


def build(*, tiny: bool = False) -> nn.Module:
    """The untrained network, in training mode, as `bench.training` wants it."""
    first, second, hidden = (4, 8, 16) if tiny else (32, 64, 1024)
    return nn.Sequential(
        nn.Conv2d(1, first, 5, padding=2),  # (N,32,28,28)
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5, padding=2),  # (N,64,14,14)
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * 49, hidden),
        nn.ReLU(),
        nn.Linear(hidden, CLASSES),
    ).to(memory_format=torch.channels_last)
