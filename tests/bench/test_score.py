from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench
from attacks.checks import Finding
from bench.errors import UserError
from bench.match import Outcome
from bench.score import (
    accuracy_curve,
    attack_score,
    counted_distance,
    distance_after,
    median_after,
    median_interval,
    model_score,
    ranks,
    score,
    wilson,
    worst_case_distance,
)

PLAIN = Outcome(
    image_id="a",
    clean_label=1,
    predicted=1,
    clean_correct=True,
    target=None,
    success=True,
    distance=1.0,
    distances=None,
    queries=10,
    gradients=0,
    seconds=0.0,
    status="success",
    reason=None,
    trace=(),
)
FAILED = replace(PLAIN, success=False, distance=math.inf, status="failed")
CLEAN_ERROR = replace(
    PLAIN, success=False, distance=0.0, status="clean_error", clean_correct=False, queries=0
)
distances = st.lists(st.floats(0, 30), min_size=1, max_size=12)


def run(*outcomes: Outcome) -> list[Outcome]:
    return [replace(outcome, image_id=f"image-{i}") for i, outcome in enumerate(outcomes)]


def test_a_failure_is_infinite_a_clean_error_zero_and_both_count_in_the_median() -> None:
    result = score(run(PLAIN, FAILED, CLEAN_ERROR), thresholds=(0.5, 2.0))
    assert result.median_distance == 1.0
    assert result.clean_accuracy == pytest.approx(2 / 3)
    assert result.robust_accuracy == {0.5: pytest.approx(2 / 3), 2.0: pytest.approx(1 / 3)}
    assert result.mean_queries == 10
    assert result.success_rate == 0.5
    assert any("not fooled" in warning for warning in result.warnings)


def test_most_failures_make_the_median_infinite_and_null_in_json() -> None:
    result = score(run(PLAIN, FAILED, FAILED))
    assert result.median_distance == math.inf
    assert result.to_json()["median_distance"] is None
    assert not any(math.isnan(v) for v in result.interval)


def test_a_failure_may_count_as_the_farthest_corner_and_the_policy_is_stated() -> None:
    outcomes = run(PLAIN, FAILED, FAILED)
    worst = {f"image-{i}": 5.0 + i for i in range(3)}
    result = score(outcomes, (0.5, 20.0), failures="worst_case", worst=worst)
    assert result.median_distance == 6.0
    assert result.to_json()["failures"] == "worst_case"
    assert score(outcomes).to_json()["failures"] == "infinite"
    assert result.robust_accuracy == {0.5: 1.0, 20.0: pytest.approx(2 / 3)}  # a failure is robust
    assert "2 of 3 images not fooled: they count as their farthest corner" in result.warnings
    with pytest.raises(UserError, match="no worst-case distance is known for image-1"):
        score(outcomes, failures="worst_case")


def test_the_worst_case_never_makes_an_adversarial_that_was_found_nearer_or_farther() -> None:
    worst = {"image-0": 5.0, "image-1": 5.0}
    found = run(PLAIN, CLEAN_ERROR)
    policies = [score(found), score(found, failures="worst_case", worst=worst)]
    assert policies[0].median_distance == policies[1].median_distance == 0.5


TRACED = replace(PLAIN, queries=10, distance=0.9, trace=((2, 4.0), (5, 1.0)))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (TRACED, {1: math.inf, 2: 4.0, 4: 4.0, 5: 1.0, 9: 1.0, 10: 0.9, 99: 0.9}),
        (CLEAN_ERROR, {1: 0.0, 99: 0.0}),
        (FAILED, {1: math.inf, 99: math.inf}),
        (replace(FAILED, trace=((3, 2.0),)), {2: math.inf, 3: 2.0, 99: 2.0}),
    ],
)
def test_the_distance_after_some_queries_is_that_of_the_best_asked_by_then(
    outcome: Outcome, expected: dict[int, float]
) -> None:
    assert {queries: distance_after(outcome, queries) for queries in expected} == expected


def test_the_median_after_some_queries_counts_every_image_by_the_policy() -> None:
    outcomes = run(TRACED, CLEAN_ERROR, FAILED)
    assert median_after(outcomes, 1) == math.inf
    assert median_after(outcomes, 2) == 4.0
    assert median_after(outcomes, 2, [9.0, 9.0, 3.0]) == 3.0
    scored = score(outcomes, after=(1, 10))
    assert scored.median_after == {1: math.inf, 10: 0.9}
    assert scored.to_json()["median_after"] == {"1": None, "10": 0.9}
    assert scored.median_after[10] == scored.median_distance


def test_a_check_that_failed_is_a_warning_and_every_check_is_listed() -> None:
    findings = [
        Finding(name=name, ok=ok, measured=0.5, limit=0.1, text=f"{name} was measured")
        for name, ok in (("noise", True), ("rounding", False))
    ]
    result = score(run(PLAIN), checks=findings)
    assert "rounding was measured" in result.warnings
    assert "noise was measured" not in result.warnings
    assert result.to_json()["checks"] == [finding.to_json() for finding in findings]
    assert score(run(PLAIN)).to_json()["checks"] == []


def test_an_adversarial_on_the_very_edge_of_the_radius_counts_as_within_it() -> None:
    on_edge = replace(PLAIN, distance=float(np.float32(0.3)))
    assert score(run(on_edge), thresholds=(0.3,)).robust_accuracy[0.3] == 0


def test_no_outcomes_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no outcomes"):
        score([])


def test_the_same_image_twice_is_refused() -> None:
    with pytest.raises(UserError, match="twice"):
        score([PLAIN, PLAIN])


@given(values=distances, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_a_score_does_not_depend_on_the_order(values: list[float], seed: int) -> None:
    outcomes = run(*(replace(PLAIN, distance=v) for v in values))
    shuffled = [outcomes[i] for i in np.random.default_rng(seed).permutation(len(outcomes))]
    assert score(outcomes, (1.0,)) == score(shuffled, (1.0,))


@given(values=distances, more=st.floats(0, 5), data=st.data())
@settings(deadline=None, max_examples=25)
def test_scores_rise_with_any_single_distance(
    values: list[float], more: float, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(values) - 1))
    higher = [*values]
    higher[index] += more
    other = [15.0] * len(values)
    assert model_score([higher, other]).value >= model_score([values, other]).value
    assert attack_score([higher, other]).value >= attack_score([values, other]).value


def test_a_models_score_is_the_median_of_the_smallest_distances() -> None:
    result = model_score([[1.0, 5.0, 9.0], [2.0, 4.0, 8.0]])
    assert result.value == 4.0
    assert result.decisive == (0, 1, 1)
    assert result.interval[0] <= 4.0 <= result.interval[1]


def test_an_attacks_score_is_the_mean_over_models_of_its_medians() -> None:
    assert attack_score([[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]]).value == 3.0


def test_opponents_with_different_samples_are_refused() -> None:
    with pytest.raises(UserError, match="different numbers"):
        model_score([[1.0], [1.0, 2.0]])
    with pytest.raises(UserError, match="no finished match"):
        attack_score([])


def test_a_failure_counts_as_the_farthest_corner_on_a_board() -> None:
    pixels = np.array([0, 127, 128, 255], dtype=np.uint8).reshape(1, 2, 2, 1)
    corner = np.array([255, 255, 0, 0]).reshape(1, 2, 2, 1)
    expected = float(np.linalg.norm((corner - pixels.astype(float)) / 255))
    assert worst_case_distance(pixels)[0] == pytest.approx(expected)
    assert counted_distance(FAILED, expected) == pytest.approx(expected)
    assert counted_distance(CLEAN_ERROR, expected) == 0
    assert counted_distance(PLAIN, expected) == 1.0


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("linf", np.inf)])
def test_no_image_lies_farther_than_the_farthest_corner(norm: str, order: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(5, 2, 2, 3), dtype=np.uint8)
    worst = worst_case_distance(pixels, norm)
    flat = pixels.reshape(5, -1) / 255
    corners = np.array(np.meshgrid(*[[0, 1]] * 12)).reshape(12, -1).T
    for image, farthest in zip(flat, worst, strict=True):
        lengths = np.linalg.norm(corners - image, ord=order, axis=1)
        assert farthest == pytest.approx(lengths.max())


def test_every_pixel_can_be_changed_so_that_l0_counts_them_all() -> None:
    pixels = np.zeros((2, 5, 4, 3), dtype=np.uint8)
    assert worst_case_distance(pixels, "l0").tolist() == [20.0, 20.0]


def test_the_worst_case_of_the_2018_images_has_the_published_median() -> None:
    try:
        pixels = bench.dataset("tiny-imagenet-avc").pixels
    except UserError as error:
        pytest.skip(str(error))
    assert np.median(worst_case_distance(pixels)) == pytest.approx(83.9, abs=0.05)


def test_the_accuracy_curve_starts_at_clean_accuracy_and_falls() -> None:
    curve = accuracy_curve([0.0, 1.0, 2.0, math.inf])
    assert curve == [(0.0, 0.75), (1.0, 0.5), (2.0, 0.25)]


def test_wilson_intervals_agree_with_published_figures() -> None:
    low, high = wilson(50, 100)
    assert (round(100 * low, 1), round(100 * high, 1)) == (40.4, 59.6)
    low, high = wilson(500, 1000)
    assert (round(100 * low, 1), round(100 * high, 1)) == (46.9, 53.1)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1


def test_the_interval_of_a_median_holds_infinite_values_without_nan() -> None:
    low, high = median_interval(np.array([1.0, 2.0, np.inf, np.inf]))
    assert low >= 1.0
    assert high == math.inf


def test_ties_share_a_rank_and_missing_scores_have_none() -> None:
    found = ranks({"a": 3.0, "b": 3.0, "c": 1.0, "d": None}, higher_is_better=True)
    assert found == {"a": 1, "b": 1, "c": 3, "d": None}
    assert ranks({"a": 3.0, "c": 1.0}, higher_is_better=False) == {"a": 2, "c": 1}
