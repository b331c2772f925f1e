"""What the two mnist5k tracks share: their entries play each other, a match counts for both."""

from __future__ import annotations

from dataclasses import dataclass

from .types import ATTACK_RULE, MODEL_RULE, EntryKind, Track

BASELINE_MODELS = ("small_cnn", "small_cnn:training=pgd")
BASELINE_ATTACKS = ("gaussian_noise", "salt_and_pepper", "boundary")


@dataclass(frozen=True)
class _Side:
    title: str
    rank_by: str
    higher_is_better: bool


_SIDES: dict[EntryKind, _Side] = {
    "model": _Side("Robust models on MNIST (5,000)", MODEL_RULE, True),
    "untargeted-attack": _Side("Untargeted attacks on MNIST (5,000)", ATTACK_RULE, False),
}


def track(name: str, kind: EntryKind) -> Track:
    """One of the two tracks."""
    side = _SIDES[kind]
    return Track(
        name=name,
        title=side.title,
        kind=kind,
        dataset="mnist5k",
        images=50,
        image_shape=(28, 28, 1),
        classes=10,
        rank_by=side.rank_by,
        higher_is_better=side.higher_is_better,
        baseline_models=BASELINE_MODELS,
        baseline_attacks=BASELINE_ATTACKS,
        version="1",
    )
