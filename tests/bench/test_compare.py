"""Two runs on the same images, against figures computed another way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from bench.compare import compare, compare_runs, discordant, names, subject, verdicts
from bench.errors import UserError
from bench.match import Outcome
from bench.runs import Run, RunConfig

CONFIG = RunConfig(
    model="m", attack="a", dataset="digits", split="test", images=3, norm="l2", epsilon=None,
    max_queries=None, targeted=False, quantised=True, access="decision", seed=0, batch_size=2,
    versions={},
)  # fmt: skip


def outcomes(distances: Iterable[float], *, first: int = 0) -> list[Outcome]:
    return [
        Outcome(
            image_id=f"image-{first + i:03}", clean_label=1, predicted=1, clean_correct=True,
            target=None, success=math.isfinite(d), distance=float(d), distances=None, queries=3,
            gradients=0, seconds=0.0, status="success" if math.isfinite(d) else "failed",
            reason=None, trace=(),
        )
        for i, d in enumerate(distances)
    ]  # fmt: skip


def compared(first: Iterable[float], second: Iterable[float], **options: Any) -> Any:
    return compare(outcomes(first), outcomes(second), **{"norm": "l2", "radius": 1.5, **options})


RNG = np.random.default_rng(0)
BASE = RNG.uniform(1.0, 4.0, size=100)


def test_a_constant_shift_is_found_exactly_where_two_intervals_would_overlap() -> None:
    found = compared(BASE, BASE + 0.1)
    assert found.median.difference == pytest.approx(0.1)
    assert found.median.separable
    low, high = found.median.interval
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)
    assert found.farther.second == 100
    assert found.farther.p == pytest.approx(2 / 2**100)


def test_the_same_distances_are_not_separable() -> None:
    found = compared(BASE, BASE)
    assert found.median.difference == 0
    assert not found.median.separable
    assert not found.robust.separable
    assert found.held.p == found.farther.p == 1


def test_the_interval_of_a_difference_is_that_of_a_bootstrap_over_pairs() -> None:
    second = BASE + RNG.normal(0, 0.5, size=100)
    found = compared(BASE, second)
    rng = np.random.default_rng(7)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, 100, size=100)
        drawn.append(np.median(second[rows]) - np.median(BASE[rows]))
    assert found.median.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.03)


def test_swapping_the_runs_swaps_the_signs_and_nothing_else() -> None:
    second = BASE + RNG.normal(0.2, 0.5, size=100)
    one, other = compared(BASE, second), compared(second, BASE)
    assert one.median.difference == pytest.approx(-other.median.difference)
    assert one.median.separable == other.median.separable
    assert one.median.interval[0] == pytest.approx(-other.median.interval[1], abs=1e-9)
    assert (one.held.first, one.held.second) == (other.held.second, other.held.first)


@given(first=st.integers(0, 40), second=st.integers(0, 40))
@settings(deadline=None, max_examples=40)
def test_the_exact_test_is_the_binomial_one(first: int, second: int) -> None:
    found = discordant(first, second)
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p == pytest.approx(min(1.0, expected), abs=1e-12)


def test_robust_accuracies_are_compared_on_the_images_that_disagree() -> None:
    first = [2.0] * 30 + [1.0] * 20
    second = [2.0] * 22 + [1.0] * 8 + [2.0] * 1 + [1.0] * 19
    found = compared(first, second)
    assert (found.held.first, found.held.second) == (8, 1)
    assert found.robust.first == 0.6
    assert found.robust.second == pytest.approx(0.46)
    assert found.held.p == pytest.approx(binomtest(1, 9).pvalue)
    assert found.robust.separable


def test_few_images_that_disagree_are_not_enough_whatever_the_bootstrap_says() -> None:
    found = compared([2.0] * 50, [2.0] * 45 + [1.0] * 5)
    assert found.robust.interval[1] < 0
    assert found.held.p == pytest.approx(0.0625)
    assert not found.robust.separable


def test_failures_are_infinite_or_the_farthest_corner_and_never_nan() -> None:
    first, second = [1.0, math.inf, math.inf], [1.0, 2.0, math.inf]
    found = compared(first, second)
    assert found.median.first == math.inf
    assert found.median.second == 2.0
    assert found.median.difference == -math.inf
    assert found.to_json()["median_distance"]["first"] is None
    both = compared([math.inf] * 3, [math.inf] * 3)
    assert both.median.difference == 0
    assert not both.median.separable
    worst = {f"image-{i:03}": 9.0 for i in range(3)}
    cornered = compared(first, second, failures="worst_case", worst=worst)
    assert (cornered.median.first, cornered.median.second) == (9.0, 2.0)
    assert not any(math.isnan(v) for v in cornered.median.interval)
    assert cornered.to_json()["failures"] == "worst_case"


def test_the_order_of_the_outcomes_does_not_matter() -> None:
    first, second = outcomes(BASE), outcomes(BASE + 0.3)
    ordered = compare(first, second, norm="l2", radius=1.5)
    assert compare(first[::-1], second, norm="l2", radius=1.5) == ordered


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (outcomes([1.0, 2.0]), outcomes([1.0]), "1 are in the first only, such as image-001"),
        (outcomes([1.0]), outcomes([1.0, 2.0]), "1 are in the second only, such as image-001"),
        (outcomes([1.0]), outcomes([1.0], first=5), "such as image-000"),
        (outcomes([]), outcomes([1.0]), "no outcomes to compare"),
        (
            outcomes([1.0]),
            [replace(outcomes([1.0])[0], clean_label=7)],
            "image-000 has the label 1 in the first run and 7 in the second",
        ),
    ],
)
def test_other_images_are_refused_with_what_differs(
    first: list[Outcome], second: list[Outcome], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compare(first, second, norm="l2", radius=1.5)


def run(folder: Path, distances: Iterable[float], **changes: Any) -> Run:
    made = Run.start(folder, replace(CONFIG, **changes))
    made.append(outcomes(distances))
    return Run.load(folder)


def test_two_models_under_one_attack_the_farther_one_is_more_robust(tmp_path: Path) -> None:
    one = run(tmp_path / "a", [*BASE])
    other = run(tmp_path / "b", [*(BASE + 0.5)], model="n")
    assert subject(one, other) == "models"
    assert names(one, other) == ("m", "n")
    found = compare_runs(one, other)
    said = verdicts(found, "models", ("m", "n"))
    assert said[0] == "median l2 distance: n is more robust by 0.5 [0.5, 0.5]"
    assert said[1].startswith("robust accuracy at l2 1.5: n is more robust by ")


def test_two_attacks_on_one_model_the_nearer_one_is_stronger(tmp_path: Path) -> None:
    one = run(tmp_path / "a", [*BASE])
    other = run(tmp_path / "b", [*(BASE + 0.5)], attack="b")
    said = verdicts(compare_runs(one, other), subject(one, other), names(one, other))
    assert said[0] == "median l2 distance: a is stronger by 0.5 [0.5, 0.5]"


def test_where_both_differ_the_folders_are_named(tmp_path: Path) -> None:
    one = run(tmp_path / "a", [*BASE])
    other = run(tmp_path / "b", [*(BASE - 0.5)], attack="b", model="n")
    said = verdicts(compare_runs(one, other), subject(one, other), names(one, other))
    assert said[0] == f"median l2 distance: {tmp_path / 'a'} is higher by 0.5 [0.5, 0.5]"


def test_what_cannot_be_told_apart_is_said_to_be_so(tmp_path: Path) -> None:
    one = run(tmp_path / "a", [*BASE])
    other = run(tmp_path / "b", [*BASE[::-1]], attack="b")
    for line in verdicts(compare_runs(one, other), "attacks", ("a", "b")):
        assert "not separable" in line


def test_runs_within_a_radius_are_compared_by_robust_accuracy_at_it(tmp_path: Path) -> None:
    one = run(tmp_path / "a", [0.3, math.inf], epsilon=0.3, norm="linf")
    other = run(tmp_path / "b", [0.2, 0.4], norm="linf", attack="b")
    found = compare_runs(one, other)
    assert found.median is None
    assert found.radius == 0.3
    assert found.to_json()["median_distance"] is None
    assert found.robust.first == found.robust.second == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "linf"}, "measures in l2, .* in linf; play both with the same --norm"),
        ({"epsilon": 0.5}, "stays within 0.3, .* within 0.5; play both with the same --epsilon"),
    ],
)
def test_runs_that_measure_something_else_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    one = run(tmp_path / "a", [1.0], epsilon=0.3)
    other = run(tmp_path / "b", [1.0], **{"epsilon": 0.3, **changes})
    with pytest.raises(UserError, match=message):
        compare_runs(one, other)


def test_the_worst_case_comes_from_the_data_that_was_played(tmp_path: Path) -> None:
    import bench
    from bench.score import worst_case_distance

    data = bench.dataset("digits").take(3)
    failed = [
        replace(o, image_id=image_id)
        for o, image_id in zip(outcomes([math.inf] * 3), data.ids, strict=True)
    ]
    runs = []
    for name in ("a", "b"):
        made = Run.start(tmp_path / name, replace(CONFIG, attack=name))
        made.append(failed)
        runs.append(made)
    found = compare_runs(*runs, failures="worst_case")
    assert found.median is not None
    assert found.median.first == pytest.approx(np.median(worst_case_distance(data.pixels)))
