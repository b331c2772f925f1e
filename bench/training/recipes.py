"""How a classifier is trained: every number of it, so that a card can state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Adam on slightly moved images."""

    training: str
    """Its name, as in `tiltyard train -M training=`."""
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
    noise: float = 0.0
    """Gaussian noise on [0,1]: for each image a standard deviation from 0 to this is drawn."""


PLAIN = ClassifierRecipe(training="plain", epochs=30)

NOISE = replace(PLAIN, training="noise", noise=0.5)

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


@dataclass(frozen=True, kw_only=True)
class DistortionRecipe(Recipe):
    """Cross-entropy on distorted images (1808.08750), whose levels are drawn for each image.

    The learning rate rises over the first 5 % of the steps and falls to 0 along a cosine.
    """

    distortions: tuple[str, ...]
    """Specifications; each image gets one of them, "plain" being none."""
    levels: dict[str, tuple[str, ...]]
    """Where others than the paper's levels are drawn from: specification -> numbers as text."""
    images: int
    """Training images, from the first."""


SINGLE = ("contrast", "low-pass", "high-pass", "phase-noise", "rotation")
"""Of the paper's distortions, those of one grey image that one trains on besides the two noises."""

NOISES = ("uniform-noise", "salt-and-pepper")

UNSCALED_HIGH_PASS = ("inf", "24", "12", "8", "5.6", "4.4", "3.6", "3.2")
"""The paper's standard deviations in pixels of 28x28, written in those of 224x224: scaled to the
image, all but the first two would be shorter than a pixel and leave an even grey."""


def _distortion_recipes() -> dict[str, Recipe]:
    """The paper's networks A (one distortion), B (with uniform noise) and C (all but one noise)."""
    alone = ("plain", *SINGLE, *NOISES)
    kinds: dict[str, tuple[str, ...]] = {name: (name,) for name in alone}
    for name in alone:
        if name != "uniform-noise":
            kinds[f"{name}-and-uniform-noise"] = (name, "uniform-noise")
    for name in NOISES:
        kinds[f"all-but-{name}"] = tuple(other for other in alone if other != name)
    return {
        name: DistortionRecipe(
            training=name,
            epochs=4,
            batch_size=64,
            learning_rate=4e-3,
            rotation=0.0,
            scale=0.0,
            shear=0.0,
            shift=0.0,
            stored="float16",
            distortions=distortions,
            levels={k: v for k, v in {"high-pass": UNSCALED_HIGH_PASS}.items() if k in distortions},
            images=20_000,
        )
        for name, distortions in kinds.items()
    }


@dataclass(frozen=True, kw_only=True)
class InvertibleRecipe(Recipe):
    """Cross-entropy, likelihood and independence of the nuisance (1811.00401), by Adamax.

    The learning rate rises over the first 100 steps and falls to 0 along a cosine. A weight of 0
    leaves a term out.
    """

    cross_entropy: float = 1.0
    """Weight of the cross-entropy of the logits."""
    likelihood: float = 0.0
    """Weight of the negative log-likelihood, in nats a dimension."""
    independence: float = 0.0
    """Weight of the nuisance classifier's confusion, in nats."""
    ramp: float = 0.2
    """Fraction of the steps over which that weight grows from 0."""
    rival_steps: int = 10
    """Updates of the nuisance classifier for each one of the network."""
    rival_rate: float = 1e-3
    """Learning rate of the nuisance classifier (Adam)."""
    rival_width: int = 512
    """Units of each of its two hidden layers."""
    weight_decay: float = 0.0
    """By this times the learning rate all weights shrink in a step."""
    noise: float = 0.1
    """Standard deviation of the noise on training images: dequantisation."""

    @property
    def moves(self) -> bool:
        """Whether images are moved at all."""
        return any((self.rotation, self.scale, self.shear, self.shift))


INVERTIBLE = InvertibleRecipe(
    training="ce",
    epochs=30,
    learning_rate=2e-3,
    weight_decay=1.5,
    stored="float16",
)

SHIFTED = replace(
    INVERTIBLE,
    epochs=20,
    weight_decay=0.0,
    rotation=0.0,
    scale=0.0,
    shear=0.0,
    shift=0.0,
)
"""For images whose cue has a place, which moving them would blur (shiftMNIST)."""


PUBLISHED_INVERTIBLE = InvertibleRecipe(
    training="ce",
    epochs=200,
    batch_size=128,
    learning_rate=1e-3,
    rotation=0.0,
    scale=0.0,
    shear=0.0,
    shift=0.0,
    ramp=0.0,
    rival_steps=5,
    noise=1 / 512,
)
"""The authors' public code's, as far as a recipe here can say it: theirs lowers the learning rate
in steps, adds uniform noise, and weighs its own independence term by 0.05."""


def _invertible_recipes(recipe: InvertibleRecipe) -> dict[str, Recipe]:
    """Each term of the loss by itself, and together: an ablation is `-M training=`.

    A network that plays against a rival needs a larger weight of the cross-entropy to stay right.
    """
    against: dict[str, Any] = {"cross_entropy": 5.0, "independence": 2.0}
    return {
        "ce": recipe,
        "mle": replace(recipe, training="mle", cross_entropy=0.0, likelihood=1.0),
        "ce-mle": replace(recipe, training="ce-mle", likelihood=1.0),
        "ice": replace(recipe, training="ice", **against),
        "ice-mle": replace(recipe, training="ice-mle", likelihood=1.0, **against),
    }


RECIPES: dict[str, ClassifierRecipe] = {"plain": PLAIN, "noise": NOISE, "pgd": PGD}
"""Of classifiers, by the name of the training."""

OWN_RECIPES: dict[str, dict[str, Recipe]] = {
    "abs": {"vae": VAE},
    "distortion_resnet": _distortion_recipes(),
    "irevnet": _invertible_recipes(INVERTIBLE),
    "irevnet_flat": _invertible_recipes(SHIFTED),
    "fi_revnet48": _invertible_recipes(PUBLISHED_INVERTIBLE),
    **{
        name: {"plain": replace(PLAIN, epochs=12), "pgd": PGD}
        for name in ("vanilla_cnn", "binary_cnn", "transfer_cnn")
    },
    "madry_cnn": {"plain": PLAIN, "pgd": replace(PGD, epochs=40, stored="float16")},
}
"""Of models that differ from that."""

LARGE = ("mnist", "fashion-mnist")
"""Data sets with 60,000 training images: far fewer passes make as many steps."""

LARGE_RECIPES: dict[str, dict[str, Recipe]] = {
    "abs": {"vae": replace(VAE, epochs=30, batch_size=64)},
    "small_cnn": {
        "plain": replace(PLAIN, epochs=4, stored="float16"),
        "noise": replace(NOISE, epochs=4, stored="float16"),
        "pgd": replace(PGD, epochs=6, epsilon=0.1, stored="float16"),
    },
    **{
        name: {"plain": replace(PLAIN, epochs=4)}
        for name in ("vanilla_cnn", "binary_cnn", "transfer_cnn")
    },
}
"""Of models that differ there; each replaces one of the model's recipes."""


def recipes(model: str, dataset: str = "") -> Mapping[str, Recipe]:
    """How a model may be trained on a data set: name of the training -> recipe."""
    own = OWN_RECIPES.get(model, RECIPES)
    return {**own, **LARGE_RECIPES.get(model, {})} if dataset in LARGE else own
