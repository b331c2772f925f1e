"""How a classifier is trained: every number of it, so that a card can state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Adam on slightly moved images."""

    training: Literal["plain", "pgd", "vae"]
    epochs: int
    """Passes over the training images."""
    batch_size: int = 100
    learning_rate: float = 2e-3
    """The highest."""
    rotation: float = 0.2
    """Images are turned by up to this many radians either way."""
    scale: float = 0.1
    """Images are made larger or smaller by up to this fraction."""
    shear: float = 0.15
    """Images are sheared by up to this fraction of their height."""
    shift: float = 2.0
    """Images are moved by up to this many pixels along each axis."""
    stored: Literal["float32", "float16"] = "float32"
    """Weights are rounded to this before anything is measured, and kept so on disk."""


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(Recipe):
    """Cross-entropy, on the images or on attacked ones.

    The learning rate rises over the first 5 % of the steps and falls to 0 along a cosine.
    """

    epsilon: float = 0.0
    """Linf radius of the inner attack on [0,1]; 0: train on the images themselves."""
    attack_steps: int = 0
    """Gradient steps of the inner attack, after a random start."""
    relative_step: float = 0.0
    """Size of such a step, as a fraction of epsilon."""
    warm_up: float = 0.0
    """Fraction of the steps over which epsilon grows from 0."""


PLAIN = ClassifierRecipe(training="plain", epochs=30)

PGD = ClassifierRecipe(
    training="pgd",
    epochs=75,
    epsilon=0.3,
    attack_steps=6,
    relative_step=1 / 3,
    warm_up=0.3,
)


@dataclass(frozen=True, kw_only=True)
class VAERecipe(Recipe):
    """One variational autoencoder a class, by reconstruction and divergence (1805.09190).

    The loss is |x - G(z)|^2 plus a weight times the divergence from the prior, in nats an image.
    """

    first_weight: float = 10.0
    """Of the divergence, at the beginning."""
    last_weight: float = 1.0
    """Of the divergence, once it has fallen linearly."""
    falling: float = 0.3
    """Fraction of the steps over which the weight falls; from there on the learning rate falls to 0
    along a cosine."""


VAE = VAERecipe(
    training="vae",
    epochs=60,
    batch_size=16,
    learning_rate=1.5e-3,
    rotation=0.08,
    scale=0.04,
    shear=0.05,
    shift=0.5,
)

RECIPES: dict[str, ClassifierRecipe] = {"plain": PLAIN, "pgd": PGD}
"""Of classifiers, by the name of the training."""

OWN_RECIPES: dict[str, dict[str, Recipe]] = {
    "abs": {"vae": VAE},
    **{
        name: {"plain": replace(PLAIN, epochs=12), "pgd": PGD}
        for name in ("vanilla_cnn", "binary_cnn", "transfer_cnn")
    },
    "madry_cnn": {"plain": PLAIN, "pgd": replace(PGD, epochs=40, stored="float16")},
}
"""Of models that differ from that."""


def recipes(model: str) -> Mapping[str, Recipe]:
    """How a model may be trained: name of the training -> recipe."""
    return OWN_RECIPES.get(model, RECIPES)
