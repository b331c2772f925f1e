"""Measures on tables small enough to work out by hand; categories and decision rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench import observers as o
from bench.observers.categories import INDICES
from bench.observers.trials import number, parse

HEAD = "subj,session,trial,rt,object_response,category,condition,imagename\n"


def table(*rows: str) -> o.Trials:
    """Rows "observer answer category condition image"."""
    lines = []
    for place, row in enumerate(rows):
        observer, answer, category, condition, image = row.split()
        name = f"{place:04d}_x_s{observer}_{image}"
        lines.append(f"{observer},1,{place},0.5,{answer},{category},{condition},{name}\n")
    return parse([(HEAD + "".join(lines), "noise")], source="table")[0]


def test_a_missing_answer_is_wrong() -> None:
    found = o.accuracies(table("a cat cat 0 i", "a na cat 0 j", "b cat cat 0 i", "b dog cat 0 j"))
    assert found["0"] == o.Accuracy(0.5, 0.5, 0.5, 4)


def test_the_range_is_over_observers() -> None:
    found = o.accuracies(table("a cat cat 0 i", "a dog dog 0 j", "b cat cat 0 i", "b cat dog 0 j"))
    assert (found["0"].mean, found["0"].low, found["0"].high) == (0.75, 0.5, 1.0)


def test_entropy_leaves_missing_answers_out_and_averages_over_observers() -> None:
    found = o.entropies(
        table("a cat cat 0 i", "a dog cat 0 j", "a na cat 0 k", "b cat cat 0 i", "b cat cat 0 j")
    )
    assert found["0"] == pytest.approx((1.0 + 0.0) / 2)


def test_confusion_counts_answers_of_each_category() -> None:
    counts = o.confusion(table("a cat cat 0 i", "a dog cat 0 j", "a na dog 0 k"))
    cat, dog = o.CATEGORIES.index("cat"), o.CATEGORIES.index("dog")
    assert counts.shape == (16, 17)
    assert (counts[cat, cat], counts[cat, dog], counts[dog, 16]) == (1, 1, 1)
    assert counts.sum() == 3


def test_error_patterns_are_shares_of_error_rates() -> None:
    """Cats wrong in 1 of 2, dogs in 1 of 1 (a missing answer is not counted): 1/3 and 2/3."""
    pattern = o.error_pattern(
        table("a cat cat 0 i", "a dog cat 0 j", "a cat dog 0 k", "a na dog 0 l")
    )
    cat, dog = o.CATEGORIES.index("cat"), o.CATEGORIES.index("dog")
    assert pattern[cat] == pytest.approx(1 / 3)
    assert pattern[dog] == pytest.approx(2 / 3)
    assert pattern.sum() == pytest.approx(1)
    assert o.error_pattern(table("a cat cat 0 i")).sum() == 0


def test_distances_of_error_patterns() -> None:
    first, second = np.zeros(16), np.zeros(16)
    first[0] = 1.0
    second[:2] = 0.5
    assert o.pattern_distance(first, second) == pytest.approx(0.5)
    assert o.pattern_distance(first, first) == 0
    assert o.pattern_divergence(first, first) == 0
    assert o.pattern_divergence(first, second) == pytest.approx(o.pattern_divergence(second, first))
    wanted = 0.5 * (1.0 * 1.0 + 1e-4 * math.log2(1e-4 / 0.5))  # first to second, in bits
    wanted += 0.5 * (0.5 * -1.0 + 0.5 * math.log2(0.5 / 1e-4))  # second to first
    assert o.pattern_divergence(first, second) == pytest.approx(wanted)


def test_error_consistency_by_hand() -> None:
    """Right in 3 and 2 of 4, alike in 3: expected 1/2, kappa (3/4 - 1/2) / (1/2)."""
    found = o.consistency(np.array([1, 1, 1, 0], bool), np.array([1, 1, 0, 0], bool))
    assert found == o.Consistency(0.75, 0.5, 0.5)
    same = np.ones(3, bool)
    assert o.consistency(same, same).kappa == 1.0
    with pytest.raises(ValueError, match="wanted the same images"):
        o.consistency(same, same[:2])


def test_agreement_compares_observers_on_the_same_images_whatever_their_order() -> None:
    rows = ["a cat cat 0 i", "a dog cat 0 j", "a cat cat 0 k", "a dog dog 0 l"]
    rows += ["b dog dog 0 l", "b cat cat 0 i", "b dog cat 0 j", "b dog cat 0 k"]
    found = o.agreement(table(*rows))
    assert found.accuracy == pytest.approx((0.75 + 0.5) / 2)
    assert found.difference == pytest.approx(0.0625)
    assert found.observed == 0.75
    assert found.kappa == pytest.approx(0.5)


def test_conditions_are_written_in_one_way() -> None:
    assert [number(t) for t in ("0.10", "0.1", "Inf", "inf", "3.0", "c05", "True", "1-0-10")] == [
        *("0.1", "0.1", "inf", "inf", "3", "c05", "true", "1-0-10"),
    ]


def test_columns_select_and_forget_what_does_not_occur() -> None:
    trials = table("a cat cat 0.10 i", "b dog dog 0.2 j")
    part = trials.where(observer="a")
    assert len(part) == 1
    assert part.category.names == ("cat",)
    assert part.condition.names == ("0.1",)
    assert len(trials.where(observer="nobody")) == 0
    assert trials.answer.texts().tolist() == ["cat", "dog"]


def test_the_categories_have_the_papers_classes() -> None:
    counts = (1, 4, 2, 49, 5, 7, 3, 6, 4, 3, 109, 2, 2, 1, 1, 8)
    assert tuple(len(indices) for indices in INDICES.values()) == counts
    assert list(INDICES) == sorted(INDICES)
    everything = [index for indices in INDICES.values() for index in indices]
    assert len(set(everything)) == 207
    assert set(everything) <= set(range(1000))
    # well-known places: Siamese cat, golden retriever, ambulance is no car, bald eagle
    assert 284 in INDICES["cat"]
    assert 207 in INDICES["dog"]
    assert 407 not in INDICES["car"]
    assert 22 in INDICES["bird"]


def test_the_three_rules_may_decide_otherwise() -> None:
    """One probable knife; a bear of four kinds that is surer; many dogs, each improbable."""
    probabilities = np.zeros((1, 1000))
    probabilities[0, INDICES["knife"][0]] = 0.25
    probabilities[0, list(INDICES["bear"])] = [0.3, 0.0, 0.0, 0.0]
    probabilities[0, list(INDICES["dog"])] = 0.45 / 109
    decided = {
        rule: o.CATEGORIES[int(o.decide(probabilities, rule)[0])] for rule in ("max", "sum", "mean")
    }
    assert decided == {"max": "bear", "sum": "dog", "mean": "knife"}


def test_wrong_probabilities_and_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted \\(N, 1000\\)"):
        o.decide(np.zeros((2, 16)), "max")
    with pytest.raises(ValueError, match="wanted max, sum or mean"):
        o.decide(np.zeros((2, 1000)), "median")  # type: ignore[arg-type]
    assert math.isclose(o.category_scores(np.ones((1, 1000)), "sum")[0].sum(), 207)
