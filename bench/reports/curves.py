"""The lines behind the charts: plain numbers in, points out.

Every curve is a step function: the value at x holds until the next point. An image that the model
gets wrong before any attack has distance 0; an attack that failed has distance infinity. Robust
accuracy against epsilon is bench.score.accuracy_curve.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """A named step curve.

    Attributes:
        name: what the legend says, such as "abs / boundary".
        points: (x, y) with x ascending; y may be infinite where nothing can be drawn.
    """

    name: str
    points: Points

    def at(self, x: float) -> float | None:
        """The value at x, or None left of the first point.

        With the relative slack of bench.score.robust_count, so that both give the same figure.
        """
        index = bisect_right([point[0] for point in self.points], x * (1 + 1e-5)) - 1
        return self.points[index][1] if index >= 0 else None


@dataclass(frozen=True)
class Spread:
    """A named sample of distances, one for each image; infinite where the attack failed."""

    name: str
    distances: tuple[float, ...]

    @property
    def found(self) -> tuple[float, ...]:
        """The finite distances, ascending."""
        return tuple(sorted(value for value in self.distances if math.isfinite(value)))

    @property
    def failed(self) -> int:
        """How many images have no adversarial."""
        return sum(math.isinf(value) for value in self.distances)

    def quantile(self, share: float) -> float:
        """The distance below which `share` of the images lie, failures counted as infinite.

        Linear between neighbours, like numpy's default; infinite as soon as a failure takes part.
        """
        ordered = sorted(self.distances)
        position = share * (len(ordered) - 1)
        low, high = math.floor(position), math.ceil(position)
        if ordered[low] == ordered[high]:
            return ordered[low]
        if math.isinf(ordered[high]):
            return math.inf
        return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def query_points(traces: Sequence[Sequence[tuple[int, float]]]) -> Points:
    """The median over images of the best distance so far, against the queries spent on each.

    An image without an adversarial by then counts as infinite, so the curve is infinite until
    half of the images have one.

    Args:
        traces: for each image its (queries, best distance) pairs, queries ascending; for a clean
            error the single pair (0, 0.0).

    Returns:
        points (queries, median distance), only where the median changes.
    """
    if not traces:
        return ()
    events = sorted((queries, row, best) for row, t in enumerate(traces) for queries, best in t)
    best = [math.inf] * len(traces)
    points: list[tuple[float, float]] = [(0.0, math.inf)]
    for position, (queries, row, distance) in enumerate(events):
        best[row] = min(best[row], distance)
        last_of_its_kind = position + 1 == len(events) or events[position + 1][0] != queries
        if last_of_its_kind:
            value = median(best)
            if value != points[-1][1]:
                points.append((float(queries), value))
    return tuple(points)


def pick_evenly(items: Sequence[T], most: int | None) -> list[T]:
    """At most `most` of the items, evenly spread, with the first and the last; None for all."""
    if most is None or len(items) <= most:
        return list(items)
    if most < 2:
        return list(items[:most])
    step = (len(items) - 1) / (most - 1)
    return [items[round(index * step)] for index in range(most)]


def thin(points: Points, most: int = 240) -> Points:
    """A curve of at most `most` points: enough for a drawing."""
    return tuple(pick_evenly(points, most))
