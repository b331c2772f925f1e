"""From facts to scores: pure functions, so that anyone can compute a board again.

Intervals hold 95 %: Wilson's for shares (Wilson 1927), percentile bootstrap for medians.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import UserError

if TYPE_CHECKING:
    from attacks.checks import Finding

    from .match import Outcome

THRESHOLDS: dict[str, tuple[float, ...]] = {
    "l0": (12.0,),
    "l1": (10.0,),
    "l2": (1.5,),
    "linf": (0.3,),
}
"""Radii that robust accuracy is quoted at; l0, l2 and linf as in arXiv 1805.09190, table 1."""

RADIUS_SLACK = 1e-5
"""Relative slack of a radius: adversarials of attacks that stay within one lie on its very edge."""

RESAMPLES = 2000
Interval = tuple[float, float]
Failures = Literal["infinite", "worst_case"]
"""What an image counts that the attack did not fool: infinity, or its farthest corner."""


@dataclass(frozen=True)
class Score:
    """What a run says of a model under an attack.

    Attributes:
        n: images.
        clean_accuracy: share of clean images that the model gets right.
        robust_accuracy: {radius: share of images right and not fooled within it}.
        median_distance: over all images; 0 for clean errors, and failures as `failures` says.
        interval: of the median.
        mean_queries: over the images that were attacked.
        warnings: what a reader must know before quoting the figures; failed checks among it.
        clean_interval, robust_intervals: of the shares.
        success_rate: share of the attacked images that were fooled.
        failures: what a failure counts in the median: infinity, or the image's farthest corner. In
            robust accuracy it is a robust image in any case.
        median_after: {queries: the median distance after so many for each image}.
        checks: what the soundness checks of the run found; none where they were switched off.
    """

    n: int
    clean_accuracy: float
    robust_accuracy: dict[float, float]
    median_distance: float
    interval: Interval
    mean_queries: float
    warnings: tuple[str, ...]
    clean_interval: Interval
    robust_intervals: dict[float, Interval]
    success_rate: float
    failures: Failures
    median_after: dict[int, float]
    checks: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard play --json`: infinite values are null."""
        return {
            "n": self.n,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": {f"{e:g}": a for e, a in self.robust_accuracy.items()},
            "median_distance": finite(self.median_distance),
            "interval": [finite(v) for v in self.interval],
            "mean_queries": self.mean_queries,
            "warnings": list(self.warnings),
            "clean_interval": list(self.clean_interval),
            "robust_intervals": {f"{e:g}": list(i) for e, i in self.robust_intervals.items()},
            "success_rate": self.success_rate,
            "failures": self.failures,
            "median_after": {str(q): finite(d) for q, d in self.median_after.items()},
            "checks": [finding.to_json() for finding in self.checks],
        }


def score(
    outcomes: Iterable[Outcome],
    thresholds: Sequence[float] = (),
    *,
    failures: Failures = "infinite",
    worst: Mapping[str, float] | None = None,
    after: Sequence[int] = (),
    checks: Sequence[Finding] = (),
) -> Score:
    """Score a run. The order of the outcomes does not matter.

    Args:
        outcomes: one for each image.
        thresholds: radii for robust accuracy, in the threat model's norm.
        failures: what a failure counts in a median.
        worst: {image id: distance to its farthest corner}, for "worst_case".
        after: numbers of queries to quote the median distance at.
        checks: what the soundness checks found; those that failed become warnings.

    Raises:
        UserError: no outcomes, the same image twice, or no worst case for a failure.
    """
    facts = sorted(outcomes, key=lambda outcome: outcome.image_id)
    if not facts:
        raise UserError("no outcomes to score; the run has not finished its first batch")
    if len({fact.image_id for fact in facts}) != len(facts):
        raise UserError("an image stands twice in the outcomes; score one run at a time")
    n = len(facts)
    limits = [math.inf] * n if failures == "infinite" else _worst_of(facts, worst or {})
    distance = np.array([fact.distance for fact in facts])
    counted = np.minimum(distance, limits)
    correct = sum(fact.clean_correct for fact in facts)
    attacked = [fact for fact in facts if fact.status != "clean_error"]
    robust = {e: robust_count(distance, e) for e in thresholds}
    return Score(
        n=n,
        clean_accuracy=correct / n,
        robust_accuracy={e: count / n for e, count in robust.items()},
        median_distance=float(np.median(counted)),
        interval=median_interval(counted),
        mean_queries=float(np.mean([fact.queries for fact in attacked])) if attacked else 0.0,
        warnings=(*_warnings(facts, failures), *(c.text for c in checks if not c.ok)),
        clean_interval=wilson(correct, n),
        robust_intervals={e: wilson(count, n) for e, count in robust.items()},
        success_rate=sum(fact.success for fact in attacked) / len(attacked) if attacked else 0.0,
        failures=failures,
        median_after={q: median_after(facts, q, limits) for q in after},
        checks=tuple(checks),
    )


def distance_after(outcome: Outcome, queries: int) -> float:
    """The distance of the best adversarial known after so many queries; infinite without one.

    0 for a clean error. It never rises with the queries. With an epsilon, an adversarial that was
    asked farther away counts at its distance.
    """
    if outcome.status == "clean_error":
        return 0.0
    asked = min((d for q, d in outcome.trace if q <= queries), default=math.inf)
    return min(asked, outcome.distance) if queries >= outcome.queries else asked


def median_after(
    outcomes: Sequence[Outcome], queries: int, worst: Sequence[float] | None = None
) -> float:
    """The median distance after so many queries for each image, from the traces.

    Args:
        outcomes: at least one.
        queries: for each image.
        worst: what each image without an adversarial counts by then; infinity when not given.
    """
    known = [distance_after(outcome, queries) for outcome in outcomes]
    limits = [math.inf] * len(known) if worst is None else worst
    return float(np.median(np.minimum(known, limits)))


def robust_count(distance: NDArray[np.float64], radius: float) -> int:
    """How many images are farther than the radius from an adversarial, with its slack."""
    return int((distance > radius * (1 + RADIUS_SLACK)).sum())


def accuracy_curve(distances: Iterable[float]) -> list[tuple[float, float]]:
    """Robust accuracy against the radius, as steps: [(radius, accuracy from there on), ...]."""
    ordered = sorted(distances)
    n = len(ordered)
    curve = [(0.0, sum(d > 0 for d in ordered) / n)] if n else []
    for radius in sorted({d for d in ordered if 0 < d < math.inf}):
        curve.append((radius, sum(d > radius for d in ordered) / n))
    return curve


def wilson(count: int, n: int) -> Interval:
    """The 95 % score interval of a share count / n (Wilson 1927)."""
    z = 1.959963984540054
    share = count / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (
        0.0 if count == 0 else max(0.0, centre - half),
        1.0 if count == n else min(1.0, centre + half),
    )


def median_interval(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """The 95 % percentile-bootstrap interval of the median; infinite values are allowed."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(values), size=(RESAMPLES, len(values)))
    return percentiles(np.median(values[picks], axis=1))


def percentiles(values: NDArray[np.float64]) -> Interval:
    """The 2.5 and 97.5 percentiles of resampled figures (N,), which may be infinite."""
    ordered = np.sort(values)  # no interpolation: it would turn infinite values into NaN
    low = ordered[math.floor(0.025 * (len(ordered) - 1))]
    high = ordered[math.ceil(0.975 * (len(ordered) - 1))]
    return float(low), float(high)


def worst_case_distance(pixels: NDArray[np.uint8], norm: str = "l2") -> NDArray[np.float64]:
    """Distance to the farthest corner of the cube, what a failed attack counts as on a board.

    In L2 as in 1808.01976's scripts: the corner is 255 where the pixel is below 128, else 0. The
    same corner is the farthest one in every norm; L0 counts all pixels.

    Args:
        pixels: (N, H, W, C) uint8.
        norm: "l0", "l1", "l2" or "linf".

    Returns:
        (N,) on values in [0, 1].
    """
    corner = np.where(pixels < 128, 255, 0)
    size = (np.abs(corner - pixels.astype(np.float64)) / 255).reshape(len(pixels), -1)
    lengths: NDArray[np.float64]
    if norm == "l0":
        lengths = np.full(len(pixels), float(np.prod(pixels.shape[1:3])))
    elif norm == "l1":
        lengths = size.sum(axis=1)
    elif norm == "l2":
        lengths = np.sqrt((size**2).sum(axis=1))
    else:
        lengths = size.max(axis=1)
    return lengths


@dataclass(frozen=True)
class TrackScore:
    """A cell of a board.

    Attributes:
        value: the score by the track's rule.
        interval: 95 %, bootstrap over the samples (the same ones for every opponent).
        decisive: for each sample the index of the opponent that set it, for a model's score.
    """

    value: float
    interval: Interval
    decisive: tuple[int, ...] = ()


def counted_distance(outcome: Outcome, worst: float) -> float:
    """What a sample counts on a board: 0 for a clean error, the worst case for a failure."""
    if outcome.status == "clean_error":
        return 0.0
    return outcome.distance if outcome.success else worst


def model_score(by_attack: Sequence[Sequence[float]], seed: int = 0) -> TrackScore:
    """Median over samples of the smallest distance over attacks; higher is better.

    Args:
        by_attack: (attacks, samples) counted distances, in L2.

    Raises:
        UserError: no attack, or attacks with different numbers of samples.
    """
    table = _table(by_attack)
    smallest = table.min(axis=0)
    return TrackScore(
        float(np.median(smallest)),
        median_interval(smallest, seed),
        tuple(int(i) for i in table.argmin(axis=0)),
    )


def attack_score(by_model: Sequence[Sequence[float]], seed: int = 0) -> TrackScore:
    """For each model the median over samples, averaged over models; lower is better.

    Args:
        by_model: (models, samples) counted distances, in L2.

    Raises:
        UserError: no model, or models with different numbers of samples.
    """
    table = _table(by_model)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, table.shape[1], size=(RESAMPLES, table.shape[1]))
    resampled = np.median(table[:, picks], axis=2).mean(axis=0)
    return TrackScore(float(np.median(table, axis=1).mean()), percentiles(resampled))


def ranks(scores: Mapping[str, float | None], *, higher_is_better: bool) -> dict[str, int | None]:
    """Competition ranks (1, 2, 2, 4); a missing score has none."""
    known = sorted((s for s in scores.values() if s is not None), reverse=higher_is_better)
    return {name: known.index(s) + 1 if s is not None else None for name, s in scores.items()}


def _table(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    lengths = {len(row) for row in rows}
    if not rows or lengths == {0}:
        raise UserError("no distances to score; the entry has no finished match")
    if len(lengths) > 1:
        raise UserError(f"opponents with different numbers of samples: {sorted(lengths)}")
    return np.asarray(rows, dtype=np.float64)


def _worst_of(facts: Sequence[Outcome], worst: Mapping[str, float]) -> list[float]:
    missing = [f.image_id for f in facts if not f.success and f.image_id not in worst]
    if missing:
        raise UserError(
            f"no worst-case distance is known for {missing[0]} ({len(missing)} images); the data "
            "set that was played is needed, or count failures as infinite"
        )
    return [worst.get(fact.image_id, math.inf) for fact in facts]


def _warnings(facts: Sequence[Outcome], failures: Failures) -> list[str]:
    warnings = []
    n = len(facts)
    if n < 50:
        warnings.append(f"{n} images only: the intervals are wide")
    failed = sum(not f.success and f.status != "clean_error" for f in facts)
    if failed:
        counted = "infinite distance" if failures == "infinite" else "their farthest corner"
        warnings.append(f"{failed} of {n} images not fooled: they count as {counted}")
    invalid = sum(f.status == "invalid" for f in facts)
    if invalid:
        warnings.append(f"{invalid} of {n} answers were not finite images")
    return warnings


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
