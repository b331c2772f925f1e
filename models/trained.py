"""A network of ours with its checkpoint, as every trained model of the zoo is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from torch import nn

from .weights import fill, find, load_verified
from .wrappers import Classifier, seeded

Training = Literal["plain", "noise", "pgd"]

MNIST_SHAPE = (1, 28, 28)


Network = TypeVar("Network", bound=nn.Module)


def trained(
    name: str,
    build: Callable[..., nn.Module],
    *,
    dataset: str,
    training: str,
    weights: str | None,
    tiny: bool,
    seed: int,
    image_shape: tuple[int, int, int] = MNIST_SHAPE,
    classes: int = 10,
) -> Classifier:
    """The network that `build(tiny=...)` returns, filled and frozen.

    Args:
        name: of the model; with `dataset` and `training` it names the checkpoint.
        build: returns the untrained network; called with a generator seeded by `seed`.
        dataset: that it was trained on.
        training: how it was trained.
        weights: a safetensors file with a card, instead of the three above.
        tiny: build the dwarf; without `weights` it stays untrained.
        seed: of an untrained network.
        image_shape: (C, H, W) of one image.
        classes: K.

    Raises:
        UsageError: weights are missing, changed, or another network's.
    """
    network = filled(
        name, build, dataset=dataset, training=training, weights=weights, tiny=tiny, seed=seed
    )
    return Classifier(network, image_shape=image_shape, classes=classes)


def filled(
    name: str,
    build: Callable[..., Network],
    *,
    dataset: str,
    training: str,
    weights: str | None,
    tiny: bool,
    seed: int,
) -> Network:
    """The same before it is frozen, for networks that are more than classifiers."""
    network = seeded(seed, lambda: build(tiny=tiny))
    if weights is not None or not tiny:
        path = Path(weights) if weights is not None else find(name, dataset, training)
        fill(network, load_verified(path), source=path)
    return network
