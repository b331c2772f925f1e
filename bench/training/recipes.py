"""How a classifier is trained: every number of it, so that a card can state them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Adam with one cycle of the learning rate, on slightly moved images, attacked or not."""

    training: Literal["plain", "pgd"]
    epochs: int
    """Passes over the training images."""
    batch_size: int = 100
    learning_rate: float = 2e-3
    """The highest; it rises over the first 5 % of the steps and falls to 0 along a cosine."""
    rotation: float = 0.2
    """Images are turned by up to this many radians either way."""
    scale: float = 0.1
    """Images are made larger or smaller by up to this fraction."""
    shear: float = 0.15
    """Images are sheared by up to this fraction of their height."""
    shift: float = 2.0
    """Images are moved by up to this many pixels along each axis."""
    epsilon: float = 0.0
    """Linf radius of the inner attack on [0,1]; 0: train on the images themselves."""
    attack_steps: int = 0
    """Gradient steps of the inner attack, after a random start."""
    relative_step: float = 0.0
    """Size of such a step, as a fraction of epsilon."""
    warm_up: float = 0.0
    """Fraction of the steps over which epsilon grows from 0."""


PLAIN = Recipe(training="plain", epochs=30)

PGD = Recipe(
    training="pgd",
    epochs=75,
    epsilon=0.3,
    attack_steps=6,
    relative_step=1 / 3,
    warm_up=0.3,
)

RECIPES = {"plain": PLAIN, "pgd": PGD}
