"""Invertible network of fully connected couplings, for images whose places matter (1811.00401).

Eight additive couplings of pixels in random order, 3,613,076 parameters. On shiftMNIST it leans on
the cue as a network with convolutions does, and independence cross-entropy makes it look at the
digit as well, which it did not do for those with convolutions (docs/design/invariance.md).
"""

from __future__ import annotations

from .irevnet import CLASSES, IMAGE_SHAPE, Training
from .irevnet.architectures import flat
from .irevnet.classifier import InvertibleClassifier
from .irevnet.network import InvertibleNetwork
from .trained import filled

__all__ = ["CLASSES", "IMAGE_SHAPE", "build", "create"]


def create(
    *,
    dataset: str = "binary-shiftmnist",
    training: Training = "ice-mle",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> InvertibleClassifier:
    """The trained network: images float32 (N,1,28,28) in [0,1] -> logits (N,10), and codes (784).

    The parameters are those of `small_cnn`. No checkpoint comes with Tiltyard: `tiltyard train
    irevnet_flat` makes one. Raises `UsageError` when weights are missing, changed, or another
    network's.
    """
    return InvertibleClassifier(
        filled(
            "irevnet_flat",
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
    return flat(steps=2, width=8) if tiny else flat()
