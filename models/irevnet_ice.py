"""The invertible network trained so that its nuisance tells little of the class (1811.00401).

It is `irevnet` with training "ice-mle": independence cross-entropy and maximum likelihood.
"""

from __future__ import annotations

from .irevnet import CLASSES, IMAGE_SHAPE
from .irevnet import create as _create
from .irevnet.classifier import InvertibleClassifier

__all__ = ["CLASSES", "IMAGE_SHAPE", "create"]


def create(*, dataset: str = "mnist5k", weights: str | None = None) -> InvertibleClassifier:
    """The trained network: images float32 (N,1,28,28) in [0,1] -> logits (N,10), and codes.

    `dataset` chooses the checkpoint; `weights` names a safetensors file with a card instead. Raises
    `UsageError` when weights are missing, changed, or another network's.
    """
    return _create(dataset=dataset, training="ice-mle", weights=weights)
