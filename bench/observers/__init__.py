"""Human observers' and networks' trials of arXiv 1808.08750 and 2106.07411, and their analysis.

noise = bench.observers.load("humans").where(experiment="noise")
bench.observers.accuracies(noise)["0.35"].mean
"""

from __future__ import annotations

from .categories import CATEGORIES, Rule, category_scores, decide
from .measures import (
    Accuracy,
    Agreement,
    Consistency,
    accuracies,
    agreement,
    confusion,
    consistency,
    entropies,
    error_pattern,
    pattern_distance,
    pattern_distances,
    pattern_divergence,
)
from .sources import SOURCES, Which, load
from .trials import Column, Trials

__all__ = [
    "CATEGORIES",
    "SOURCES",
    "Accuracy",
    "Agreement",
    "Column",
    "Consistency",
    "Rule",
    "Trials",
    "Which",
    "accuracies",
    "agreement",
    "category_scores",
    "confusion",
    "consistency",
    "decide",
    "entropies",
    "error_pattern",
    "load",
    "pattern_distance",
    "pattern_distances",
    "pattern_divergence",
]
