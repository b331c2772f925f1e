"""The three data sets that are played on, each with its baselines, and the tracks of each.

A match between a model and an untargeted attack counts for both of their boards; a targeted attack
plays the same models, by rules of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .types import ATTACK_RULE, MODEL_RULE, Baseline, EntryKind, Limits, Track, TrackThreat

DIRECTION: Final = "apgd:norm=l2,steps=20"
"""What the transfer baselines run against their surrogate."""


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What the tracks of one data set share."""

    title: str
    images: int
    image_shape: tuple[int, int, int]
    classes: int
    models: tuple[Baseline, ...]
    surrogate: str | None
    """A model that no entry is, for attacks that transfer; None where there is no other."""
    limits: Limits = field(default_factory=Limits)

    def attacks(self, *, targeted: bool) -> tuple[Baseline, ...]:
        """The weakest first: a new model is tried against it."""
        noise = (Baseline("gaussian_noise"), Baseline("salt_and_pepper"))
        start = (Baseline("boundary:steps=0", "interpolation"),)
        found = (*(start if targeted else noise), Baseline("boundary"))
        if self.surrogate is None:
            return (*found, Baseline("biased_boundary", slow=True))
        transfer = f"transfer:surrogates={self.surrogate},attack=({DIRECTION})"
        biased = f"biased_boundary:surrogate={self.surrogate}"
        return (
            *found,
            Baseline(transfer, "transfer", slow=True),
            Baseline(f"boundary:start=({transfer})", "transfer + boundary", slow=True),
            Baseline(biased, "biased_boundary", slow=True),
        )


CHALLENGES: Final = {
    "mnist5k": Challenge(
        title="MNIST (5,000)",
        images=50,
        image_shape=(28, 28, 1),
        classes=10,
        models=(
            Baseline("small_cnn"),
            Baseline("small_cnn:training=pgd"),
            Baseline("small_cnn:training=noise", slow=True),
            Baseline("binary_cnn", slow=True),
            Baseline("abs", slow=True),
        ),
        surrogate="transfer_cnn",
    ),
    "fashion-mnist": Challenge(
        title="Fashion-MNIST",
        images=50,
        image_shape=(28, 28, 1),
        classes=10,
        models=(
            Baseline("small_cnn"),
            Baseline("small_cnn:training=pgd"),
            Baseline("small_cnn:training=noise", slow=True),
            Baseline("abs", slow=True),
        ),
        surrogate="distortion_resnet",
    ),
    "tiny-imagenet-avc": Challenge(
        title="Tiny ImageNet, as in 2018",
        images=50,
        image_shape=(64, 64, 3),
        classes=200,
        models=(Baseline("efficientnet_lite0"), Baseline("efficientnet_lite0:resolution=128")),
        surrogate=None,
        limits=Limits(run_seconds=7200.0, memory_mib=4096),
    ),
}

_TITLES: Final[dict[EntryKind, str]] = {
    "model": "Robust models",
    "untargeted-attack": "Untargeted attacks",
    "targeted-attack": "Targeted attacks",
}


def track(dataset: str, kind: EntryKind) -> Track:
    """One track of a challenge."""
    of = CHALLENGES[dataset]
    model = kind == "model"
    return Track(
        name=f"{dataset}-{'robust-model' if model else kind}",
        title=f"{_TITLES[kind]} on {of.title}",
        kind=kind,
        dataset=dataset,
        images=of.images,
        image_shape=of.image_shape,
        classes=of.classes,
        threat=TrackThreat(targeted=kind == "targeted-attack"),
        limits=of.limits,
        rank_by=MODEL_RULE if model else ATTACK_RULE,
        higher_is_better=model,
        baseline_models=of.models,
        baseline_attacks=of.attacks(targeted=kind == "targeted-attack"),
        version="1",
    )
