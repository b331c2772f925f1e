"""Two runs on the same images: which is better, by how much, and whether that can be told.

Everything is paired by image, which tells differences apart that two intervals side by side do not.
Intervals hold 95 %: percentile bootstrap over the images, the same draws for both runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import UserError
from .score import (
    RADIUS_SLACK,
    RESAMPLES,
    THRESHOLDS,
    Failures,
    Interval,
    finite,
    percentiles,
)

if TYPE_CHECKING:
    from .match import Outcome
    from .runs import Run

LEVEL = 0.05
"""Of the exact test that robust accuracies must pass to be called different."""

Subject = Literal["models", "attacks", "runs"]
"""What differs between two runs; "runs" where it is both, or neither."""


@dataclass(frozen=True)
class Difference:
    """A figure of two runs.

    Attributes:
        first, second: the figure of each; may be infinite.
        difference: second less first; 0 where both are infinite.
        interval: of the difference.
        separable: 0 lies outside of the interval (and an exact test agrees, where there is one).
    """

    first: float
    second: float
    difference: float
    interval: Interval
    separable: bool

    def to_json(self) -> dict[str, Any]:
        """Infinite values are null."""
        return {
            "first": finite(self.first),
            "second": finite(self.second),
            "difference": finite(self.difference),
            "interval": [finite(value) for value in self.interval],
            "separable": self.separable,
        }


@dataclass(frozen=True)
class Discordant:
    """Images on which two runs disagree, with the exact two-sided p of an even chance.

    Attributes:
        first, second: how many images speak for each.
        p: of a split as uneven as this or more, if both were equally likely (binomial).
    """

    first: int
    second: int
    p: float

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard compare --json`."""
        return {"first": self.first, "second": self.second, "p": self.p}


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same images.

    Attributes:
        n: images.
        norm, radius: of the distances, and where robust accuracy is compared.
        failures: what an image that was not fooled counts in a median.
        median: of the distances; None where a run stayed within a radius instead of minimising.
        robust: robust accuracy at the radius.
        farther: images whose distance is larger in one run than in the other (sign test).
        held: images that are robust at the radius in one run only (McNemar's exact test).
    """

    n: int
    norm: str
    radius: float
    failures: Failures
    median: Difference | None
    robust: Difference
    farther: Discordant
    held: Discordant

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard compare --json`."""
        return {
            "n": self.n,
            "norm": self.norm,
            "failures": self.failures,
            "median_distance": None if self.median is None else self.median.to_json(),
            "farther": self.farther.to_json(),
            "robust_accuracy": {"radius": self.radius, **self.robust.to_json()},
            "held": self.held.to_json(),
        }


def compare(
    first: Sequence[Outcome],
    second: Sequence[Outcome],
    *,
    norm: str,
    radius: float,
    minimised: bool = True,
    failures: Failures = "infinite",
    worst: dict[str, float] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare the outcomes of two runs, matched by image id; their order does not matter.

    Args:
        first, second: outcomes in one norm.
        norm: which one.
        radius: where robust accuracy is compared.
        minimised: both runs made the distance small, so that medians can be compared.
        failures: what a failure counts in a median.
        worst: {image id: distance to its farthest corner}, for "worst_case".
        seed: of the bootstrap.

    Raises:
        UserError: no outcomes, other images in one than in the other, or other labels.
    """
    ids = _same_images(first, second)
    ours, theirs = ({o.image_id: o.distance for o in side} for side in (first, second))
    a, b = (np.array([side[i] for i in ids]) for side in (ours, theirs))
    held_a, held_b = (side > radius * (1 + RADIUS_SLACK) for side in (a, b))
    limits = np.full(len(ids), np.inf)
    if failures == "worst_case":
        limits = np.array([(worst or {})[i] for i in ids])
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(ids), size=(RESAMPLES, len(ids)))
    held = discordant(int((held_a & ~held_b).sum()), int((held_b & ~held_a).sum()))
    robust = _difference(np.mean, held_a.astype(float), held_b.astype(float), picks)
    counted = (np.minimum(a, limits), np.minimum(b, limits))
    return Comparison(
        n=len(ids),
        norm=norm,
        radius=radius,
        failures=failures,
        median=_difference(np.median, *counted, picks) if minimised else None,
        robust=Difference(
            robust.first,
            robust.second,
            robust.difference,
            robust.interval,
            robust.separable and held.p < LEVEL,
        ),
        farther=discordant(int((a > b).sum()), int((b > a).sum())),
        held=held,
    )


def compare_runs(first: Run, second: Run, *, failures: Failures = "infinite") -> Comparison:
    """Compare two runs by their facts.

    Robust accuracy is compared at their radius, or at the norm's usual one.

    Raises:
        UserError: as `compare`; runs in different norms or within different radii; for the worst
            case, a data set that is not here.
    """
    from .playing import worst_cases

    one, other = first.config, second.config
    if one.norm != other.norm:
        raise UserError(
            f"{first.folder} measures in {one.norm}, {second.folder} in {other.norm}; play both "
            "with the same --norm"
        )
    radii = {config.epsilon for config in (one, other)} - {None}
    if len(radii) > 1:
        raise UserError(
            f"{first.folder} stays within {one.epsilon:g}, {second.folder} within "
            f"{other.epsilon:g}; play both with the same --epsilon"
        )
    radius = next((r for r in radii if r is not None), THRESHOLDS[one.norm][0])
    return compare(
        first.outcomes,
        second.outcomes,
        norm=one.norm,
        radius=radius,
        minimised=not radii,
        failures=failures,
        worst=worst_cases(first) if failures == "worst_case" else None,
    )


def subject(first: Run, second: Run) -> Subject:
    """What the comparison is of."""
    one, other = first.config, second.config
    if (one.model == other.model) == (one.attack == other.attack):
        return "runs"
    return "attacks" if one.model == other.model else "models"


def names(first: Run, second: Run) -> tuple[str, str]:
    """What to call each of them."""
    kind = subject(first, second)
    if kind == "runs":
        return str(first.folder), str(second.folder)
    one, other = (getattr(run.config, kind.removesuffix("s")) for run in (first, second))
    return str(one), str(other)


def verdicts(comparison: Comparison, kind: Subject, called: tuple[str, str]) -> list[str]:
    """A sentence for each figure: which run is better and by how much, or that none is."""
    word = {"models": "is more robust", "attacks": "is stronger", "runs": "is higher"}[kind]
    lines = []
    figures = [(comparison.robust, f"robust accuracy at {comparison.norm} {comparison.radius:g}")]
    if comparison.median is not None:
        figures.insert(0, (comparison.median, f"median {comparison.norm} distance"))
    for figure, name in figures:
        percent = figure is comparison.robust
        low, high = (_shown(value, percent) for value in figure.interval)
        if not figure.separable:
            exact = f", exact test p = {comparison.held.p:.2g}" if percent else ""
            size = _shown(figure.difference, percent)
            lines.append(f"{name}: not separable (difference {size} [{low}, {high}]{exact})")
            continue
        larger = called[figure.difference > 0]
        smaller = called[figure.difference < 0]
        better = smaller if kind == "attacks" else larger
        size = _shown(abs(figure.difference), percent)
        ends = sorted(abs(value) for value in figure.interval)
        lines.append(
            f"{name}: {better} {word} by {size} "
            f"[{_shown(ends[0], percent)}, {_shown(ends[1], percent)}]"
        )
    return lines


def discordant(first: int, second: int) -> Discordant:
    """The exact two-sided binomial test of two counts against an even chance; p 1 for no count."""
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1)) / 2**n
    return Discordant(first, second, min(1.0, 2 * tail))


def _same_images(first: Sequence[Outcome], second: Sequence[Outcome]) -> list[str]:
    labels, others = ({o.image_id: o.clean_label for o in side} for side in (first, second))
    if not labels or not others:
        raise UserError("no outcomes to compare; a run has not finished its first batch")
    for mine, theirs, which in ((labels, others, "first"), (others, labels, "second")):
        alone = sorted(mine.keys() - theirs.keys())
        if alone:
            raise UserError(
                f"the runs hold different images: {len(alone)} are in the {which} only, such as "
                f"{alone[0]}; play both on the same --dataset, --split and --images, to the end"
            )
    unlike = sorted(i for i in labels if labels[i] != others[i])
    if unlike:
        raise UserError(
            f"{unlike[0]} has the label {labels[unlike[0]]} in the first run and "
            f"{others[unlike[0]]} in the second ({len(unlike)} images differ); these are not the "
            "same data"
        )
    return sorted(labels)


def _difference(
    figure: Any,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    picks: NDArray[np.int64],
) -> Difference:
    one, other = float(figure(first)), float(figure(second))
    drawn = _less(figure(second[picks], axis=1), figure(first[picks], axis=1))
    low, high = percentiles(drawn)
    difference = float(_less(np.array([other]), np.array([one]))[0])
    return Difference(one, other, difference, (low, high), not low <= 0 <= high)


def _less(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a - b, and 0 where both are infinite."""
    same = a == b
    return np.where(same, 0.0, np.where(same, 0.0, a) - np.where(same, 0.0, b))


def _shown(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} points" if percent else f"{value:.3g}"
