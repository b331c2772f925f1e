"""A small convolutional network for 28x28x1 images, plain or robust by PGD (arXiv 1706.06083).

Two convolutions with stride 2 and two linear layers, 436,202 parameters: small enough that
attacks are played on a laptop. `training="noise"` adds Gaussian noise to the training images;
`training="pgd"` is Madry et al.'s adversarial training, within Linf 0.3 (0.1 on fashion-mnist).
Weights for `mnist5k` and `fashion-mnist` are shipped; `tiltyard train small_cnn` makes others.
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
        "small_cnn",
        build,
        dataset=dataset,
        training=training,
        weights=weights,
        tiny=tiny,
        seed=seed,
    )


def build(*, tiny: bool = False) -> nn.Module:
    """The untrained network, in training mode, as `bench.training` wants it."""
    first, second, hidden = (4, 8, 16) if tiny else (32, 64, 128)
    return nn.Sequential(
        nn.Conv2d(1, first, 4, stride=2, padding=1),  # (N,32,14,14)
        nn.ReLU(),
        nn.Conv2d(first, second, 4, stride=2, padding=1),  # (N,64,7,7)
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * 49, hidden),
        nn.ReLU(),
        nn.Linear(hidden, CLASSES),
    ).to(memory_format=torch.channels_last)
