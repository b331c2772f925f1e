"""Fully invertible network: logits are coordinates of a bijection of the image (arXiv 1811.00401).

What it does not use for its decision is not lost but stands in the other coordinates, the nuisance.
Giving an image the nuisance of another one shows what the decision does not depend on.
"""

from __future__ import annotations

from typing import Literal

from ..trained import filled
from .architectures import MNIST_SHAPE as IMAGE_SHAPE
from .architectures import small
from .classifier import InvertibleClassifier
from .network import InvertibleNetwork

__all__ = ["CLASSES", "IMAGE_SHAPE", "Training", "build", "create"]

CLASSES = 10

Training = Literal["ce", "mle", "ce-mle", "ice", "ice-mle"]
"""The terms of the loss: cross-entropy, maximum likelihood, both, independence cross-entropy (with
cross-entropy), and that with likelihood."""


def create(
    *,
    dataset: str = "mnist5k",
    training: Training = "ce",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> InvertibleClassifier:
    """The trained network: images float32 (N,1,28,28) in [0,1] -> logits (N,10).

    Besides, `encode` gives its 10 semantic and 774 nuisance numbers, and `decode` an image of such.

    The parameters are those of `small_cnn`. Raises `UsageError` when weights are missing, changed,
    or another network's.
    """
    return InvertibleClassifier(
        filled(
            "irevnet",
            build,
            dataset=dataset,
            training=training,
            weights=weights,
            tiny=tiny,
            seed=seed,
        )
    )


def build(*, tiny: bool = False) -> InvertibleNetwork:
    """The untrained network, in training mode, as `bench.training` wants it."""
    return small(steps=(1, 1, 2), widths=(8, 8, 16)) if tiny else small()
