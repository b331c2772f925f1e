from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench
from bench.errors import UserError
from bench.match import Outcome
from bench.score import (
    accuracy_curve,
    attack_score,
    counted_distance,
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
