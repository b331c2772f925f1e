"""What is computed from trials: accuracy, entropy, confusion, error patterns, consistency.

Of arXiv 1808.08750 (section 2.4 and the authors' analysis), and of arXiv 2106.07411 (error
consistency after Geirhos, Meding, Wichmann 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ..distort import entropy
from .categories import CATEGORIES
from .trials import MISSING, Trials

NO_ERRORS = 1e-4
"""Stands for a share of 0 in the divergence of error patterns, as in the authors' analysis."""


@dataclass(frozen=True)
class Accuracy:
    """Of one condition.

    Attributes:
        mean: share of all trials that are right.
        low, high: range over observers (of networks: over sessions).
        trials: how many.
    """

    mean: float
    low: float
    high: float
    trials: int


def accuracies(trials: Trials, *, over: str = "observer") -> dict[str, Accuracy]:
    """{condition: accuracy}; a missing answer is wrong.

    Args:
        trials: of one experiment.
        over: "observer" or "session": what the range is over.
    """
    parts = getattr(trials, over)
    correct = trials.correct
    found = {}
    for code, condition in enumerate(trials.condition.names):
        rows = trials.condition.codes == code
        means = [
            float(correct[rows & (parts.codes == part)].mean())
            for part in np.unique(parts.codes[rows])
        ]
        found[condition] = Accuracy(
            float(correct[rows].mean()), min(means), max(means), int(rows.sum())
        )
    return found


def entropies(trials: Trials) -> dict[str, float]:
    """{condition: entropy of the answers in bits}, at most 4 for 16 categories.

    That of each observer, averaged; missing answers are left out.
    """
    answered, group = trials.answered, trials.observer.codes
    found = {}
    for code, condition in enumerate(trials.condition.names):
        rows = (trials.condition.codes == code) & answered
        found[condition] = fmean(
            entropy(trials.answer.codes[rows & (group == one)].tolist())
            for one in np.unique(group[rows])
        )
    return found


def confusion(trials: Trials) -> NDArray[np.int64]:
    """(16, 17): how often a category of row r was answered by column c; the last is no answer."""
    columns = {name: place for place, name in enumerate((*CATEGORIES, MISSING))}
    as_column = np.array([columns[name] for name in trials.answer.names])
    as_row = np.array([columns[name] for name in trials.category.names])
    counts = np.zeros((len(CATEGORIES), len(columns)), np.int64)
    np.add.at(counts, (as_row[trials.category.codes], as_column[trials.answer.codes]), 1)
    return counts


def error_pattern(trials: Trials) -> NDArray[np.float64]:
    """(16,): how the errors are distributed over the categories; sums to 1, or to 0 without any.

    Each category's share of wrong answers among those given, divided by the sum of these shares.
    """
    counts = confusion(trials)[:, :-1]
    given = counts.sum(axis=1)
    rates = 1.0 - np.diagonal(counts) / np.maximum(given, 1)
    rates[given == 0] = 0.0
    total = rates.sum()
    return np.asarray(rates / total if total > 0 else rates)


def pattern_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Sum of squared differences of two error patterns (16,)."""
    return float(((first - second) ** 2).sum())


def pattern_divergence(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Half the sum of both Kullback-Leibler divergences of two error patterns (16,), in bits.

    The authors' Jensen-Shannon variant. Categories without errors count as `NO_ERRORS`, without
    dividing by the sum again, so that patterns with many such categories sum to a little over 1.
    """
    p, q = (np.where(pattern == 0, NO_ERRORS, pattern) for pattern in (first, second))
    return float(((p - q) * np.log2(p / q)).sum() / 2)


def pattern_distances(humans: Trials, networks: Trials, condition: str) -> dict[str, float]:
    """Mean distance of error patterns over pairs of observers, under one condition.

    Keys: "humans-humans", "humans-networks", "networks-networks".
    """
    human, network = (
        [error_pattern(part.where(observer=name)) for name in part.observer.names]
        for part in (humans.where(condition=condition), networks.where(condition=condition))
    )
    pairs = {
        "humans-humans": list(combinations(human, 2)),
        "humans-networks": list(product(human, network)),
        "networks-networks": list(combinations(network, 2)),
    }
    return {
        name: fmean(pattern_distance(*pair) for pair in found)
        for name, found in pairs.items()
        if found
    }


@dataclass(frozen=True)
class Consistency:
    """Of two observers on the same images.

    Attributes:
        observed: share of images on which both are right or both wrong.
        expected: that share if their errors were independent.
        kappa: (observed - expected) / (1 - expected); 1 if they never differ.
    """

    observed: float
    expected: float
    kappa: float


def consistency(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Consistency:
    """Error consistency of right/wrong answers (N,) of two observers to the same N images.

    Raises:
        ValueError: no images, or different numbers of them.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"got {len(first)} and {len(second)} answers; wanted the same images")
    p, q = float(first.mean()), float(second.mean())
    observed = float((first == second).mean())
    expected = p * q + (1 - p) * (1 - q)
    return Consistency(
        observed, expected, 1.0 if observed == 1.0 else (observed - expected) / (1 - expected)
    )


@dataclass(frozen=True)
class Agreement:
    """Of observers among themselves on one data set of model-vs-human.

    Attributes:
        accuracy: mean over observers and conditions.
        difference: mean squared difference of accuracies over pairs and conditions.
        observed, kappa: mean consistency over conditions and pairs.
    """

    accuracy: float
    difference: float
    observed: float
    kappa: float


def agreement(trials: Trials, conditions: Sequence[str] | None = None) -> Agreement:
    """Of all pairs of observers of one data set, who saw the same images (arXiv 2106.07411).

    Args:
        trials: of one data set.
        conditions: kept ones, or None for all of them.
    """
    kept = trials.condition.names if conditions is None else conditions
    means, differences, observed, kappas = [], [], [], []
    for part in (trials.where(condition=name) for name in kept):
        answers = {name: _by_image(part, name) for name in part.observer.names}
        means += [float(np.mean(list(a.values()))) for a in answers.values()]
        for one, other in combinations(answers.values(), 2):
            shared = sorted(one.keys() & other.keys())
            first = np.array([one[image] for image in shared])
            second = np.array([other[image] for image in shared])
            both = consistency(first, second)
            differences.append((float(first.mean()) - float(second.mean())) ** 2)
            observed.append(both.observed)
            kappas.append(both.kappa)
    return Agreement(fmean(means), fmean(differences), fmean(observed), fmean(kappas))


def _by_image(trials: Trials, observer: str) -> Mapping[str, bool]:
    own = trials.where(observer=observer)
    images = own.image.texts()
    return dict(zip(images.tolist(), own.correct.tolist(), strict=True))
