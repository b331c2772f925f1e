"""Training that needs both the zoo and attacks: `train` makes a checkpoint and its card.

A model can be trained when its file has, beside `create`, a function `build` that returns the
untrained network, and `IMAGE_SHAPE` and `CLASSES` that say what it takes and gives.
"""

from __future__ import annotations

from .checkpoint import parameters, train

__all__ = ["parameters", "train"]
