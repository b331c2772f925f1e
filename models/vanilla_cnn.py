"""The CNN that ABS is compared with (Schott et al. 2018, arXiv 1805.09190).

Four convolutions with 20, 70, 256 and 10 outputs, batch norm and ELU; for 28x28x1 images.
"""

from __future__ import annotations

from torch import nn

from .elu_network import CLASSES, TINY, elu_network
from .trained import MNIST_SHAPE, Training, trained
from .wrappers import Classifier

IMAGE_SHAPE = MNIST_SHAPE

__all__ = ["CLASSES", "IMAGE_SHAPE", "build", "create"]


def create(
    *,
    dataset: str = "mnist5k",
    training: Training = "plain",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> Classifier:
    """The trained network: images float32 (N,1,28,28) in [0,1] -> logits (N,10).

    The parameters are those of `small_cnn`. Raises `UsageError` when weights are missing, changed,
    or another network's.
    """
    return trained(
        "vanilla_cnn",
        build,
        dataset=dataset,
        training=training,
        weights=weights,
        tiny=tiny,
        seed=seed,
    )


def build(*, tiny: bool = False) -> nn.Module:
    """The untrained network, in training mode, as `bench.training` wants it."""
    return elu_network(TINY if tiny else (20, 70, 256))
