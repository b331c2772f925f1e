"""Robust models on fashion-mnist, by decision-based attacks (rules of arXiv 1808.01976)."""

from __future__ import annotations

from ._challenges import track
from .types import Track


def create() -> Track:
    """Make the track."""
    return track("fashion-mnist", "model")
