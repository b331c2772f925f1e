"""Distortions of images, as in arXiv 1808.08750, one file each; a file of your own works as well.

distort = bench.distortions.load("uniform-noise")
noisy = distort(images, 0.35, bench.distortions.seeds(ids))
"""

from __future__ import annotations

from .noise import seeds
from .types import REFERENCE_SIDE, Distortion, Level

PAPER = (
    "colour",
    "contrast",
    "uniform-noise",
    "low-pass",
    "high-pass",
    "phase-noise",
    "power-equalisation",
    "opponent-colour",
    "rotation",
    "eidolon:coherence=1.0",
    "eidolon:coherence=0.3",
    "eidolon:coherence=0.0",
)
"""The paper's twelve, in its order."""

ALL = (*PAPER, "salt-and-pepper")
"""Those and the one that only networks saw."""


def load(spec: str) -> Distortion:
    """A distortion by specification: a name, eidolon:coherence=0.3, or FILE.py.

    Raises:
        UserError: unknown name, with the near ones, or bad parameters.
    """
    from ..plugins import load_distortion

    return load_distortion(spec)


__all__ = ["ALL", "PAPER", "REFERENCE_SIDE", "Distortion", "Level", "load", "seeds"]
