"""Curves against brute force."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.reports.curves import Curve, Spread, pick_evenly, query_points, thin

TRACE = st.lists(
    st.tuples(st.integers(1, 40), st.floats(0.01, 9.0)), max_size=6, unique_by=lambda p: p[0]
).map(sorted)


@given(st.lists(TRACE, min_size=1, max_size=7))
def test_the_query_curve_is_the_median_of_the_best_so_far_at_every_count(
    traces: list[list[tuple[int, float]]],
) -> None:
    curve = Curve("any", query_points(traces))
    for queries in range(42):
        best = [min((d for q, d in t if q <= queries), default=math.inf) for t in traces]
        value = curve.at(queries)
        assert value is not None
        assert value == median(best)


def test_a_clean_error_counts_as_zero_in_the_query_curve() -> None:
    points = query_points([((0, 0.0),), ((5, 2.0),), ()])
    assert points == ((0.0, math.inf), (5.0, 2.0))


def test_nothing_played_gives_no_points() -> None:
    assert query_points([]) == ()


def test_a_step_curve_holds_its_value_until_the_next_point() -> None:
    curve = Curve("steps", ((0.0, 1.0), (2.0, 0.5)))
    assert curve.at(-1.0) is None
    assert [curve.at(x) for x in (0.0, 1.999, 2.0, 9.0)] == [1.0, 1.0, 0.5, 0.5]


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=30), st.floats(0.0, 1.0))
def test_quantiles_are_numpys(distances: list[float], share: float) -> None:
    ours = Spread("any", tuple(distances)).quantile(share)
    assert ours == pytest.approx(float(np.quantile(distances, share)), abs=1e-9)


def test_a_quantile_that_a_failure_takes_part_in_is_infinite() -> None:
    spread = Spread("half failed", (1.0, 2.0, math.inf, math.inf))
    assert spread.quantile(0.25) == 1.75
    assert spread.quantile(0.5) == math.inf
    assert spread.found == (1.0, 2.0)
    assert spread.failed == 2


def test_a_choice_spreads_evenly_and_keeps_both_ends() -> None:
    assert pick_evenly(range(101), 5) == [0, 25, 50, 75, 100]
    assert pick_evenly(range(3), 5) == [0, 1, 2]
    assert pick_evenly(range(3), None) == [0, 1, 2]
    assert pick_evenly(range(9), 1) == [0]


def test_a_thinned_curve_keeps_its_ends() -> None:
    points = tuple((float(x), float(-x)) for x in range(5000))
    drawn = thin(points, 100)
    assert (len(drawn), drawn[0], drawn[-1]) == (100, points[0], points[-1])
