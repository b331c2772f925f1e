"""fi-RevNet48, the fully invertible network of arXiv 1811.00401 as in its authors' public code.

Three levels of 16 steps and two splits, 2,366,624 parameters. Images are padded to 3x32x32 with
zeros, so that a decoded image is a part of what was decoded; `irevnet` needs no padding.
"""

from __future__ import annotations

from .irevnet import CLASSES, IMAGE_SHAPE, Training
from .irevnet.architectures import published
from .irevnet.classifier import InvertibleClassifier
from .irevnet.network import InvertibleNetwork
from .trained import filled

__all__ = ["CLASSES", "IMAGE_SHAPE", "build", "create"]


def create(
    *,
    dataset: str = "mnist",
    training: Training = "ice-mle",
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> InvertibleClassifier:
    """The trained network: images float32 (N,1,28,28) in [0,1] -> logits (N,10), and codes (3072).

    The parameters are those of `small_cnn`. No checkpoint comes with Tiltyard: `tiltyard train
    fi_revnet48` makes one. Raises `UsageError` when weights are missing, changed, or another
    network's.
    """
    return InvertibleClassifier(
        filled(
            "fi_revnet48",
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
    return published(steps=1, width=8) if tiny else published()
