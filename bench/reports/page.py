"""The report: run folders in, one HTML file out that opens anywhere, offline.

Everything shown is computed from the facts in the folders by bench.score; nothing is fetched.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..playing import score_run
from ..runs import Run
from ..score import Score, accuracy_curve
from . import charts, components, images
from .components import Cell, Picture, Sample
from .curves import Curve, Spread, pick_evenly, query_points

if TYPE_CHECKING:
    from ..datasets.types import Dataset
    from ..match import Outcome

GALLERY_ONE, GALLERY_MANY = 12, 6
"""Pictures of a run: with one run in the report, with several."""

_FACTS = {
    "dataset": "",
    "split": "",
    "images": "images",
    "epsilon": "epsilon",
    "max_queries": "queries at most",
    "targeted": "targeted",
    "access": "access",
    "quantised": "8-bit",
    "seed": "seed",
}
"""What may tell two runs of one model and attack apart, and the word for it."""


@dataclass(frozen=True)
class Played:
    """A run as the report shows it."""

    run: Run
    label: str

    @property
    def norm(self) -> str:
        return self.run.config.norm

    @cached_property
    def score(self) -> Score:
        return score_run(self.run)

    @property
    def warnings(self) -> list[str]:
        """What stands below its name; the failed checks have a table of their own."""
        failed = [finding.text for finding in self.run.checks if not finding.ok]
        told = [text for text in self.score.warnings if text not in failed]
        if failed:
            told.append(f"{len(failed)} of {len(self.run.checks)} checks failed: see below")
        return told

    @property
    def accuracy(self) -> Curve:
        distances = [outcome.distance for outcome in self.run.outcomes]
        return Curve(self.label, tuple(accuracy_curve(distances)))

    @property
    def queries(self) -> Curve:
        clean_error = ((0, 0.0),)
        traces = [
            clean_error if outcome.status == "clean_error" else outcome.trace
            for outcome in self.run.outcomes
        ]
        return Curve(self.label, query_points(traces))

    @property
    def spread(self) -> Spread:
        attacked = [o.distance for o in self.run.outcomes if o.status != "clean_error"]
        return Spread(self.label, tuple(attacked))

    @property
    def failures(self) -> list[Outcome]:
        """Attacked images without an adversarial."""
        outcomes = self.run.outcomes
        return [o for o in outcomes if not o.success and o.status != "clean_error"]

    @property
    def clean_errors(self) -> list[Outcome]:
        return [o for o in self.run.outcomes if o.status == "clean_error"]


def write_html(run_dirs: Sequence[Path], out: Path) -> Path:
    """Write the report of some run folders and return `out`.

    Args:
        run_dirs: folders that `tiltyard play --out` wrote, in the order in which to show them.
        out: the HTML file; its folder is made.

    Raises:
        UserError: no folder, a folder without a run, or a run without an outcome yet.
    """
    if not run_dirs:
        raise UserError("no run to report on; name a folder that `tiltyard play --out` wrote")
    runs = [Run.load(folder) for folder in run_dirs]
    for run in runs:
        if not run.outcomes:
            raise UserError(f"{run.folder} holds no outcome yet; let its run finish a batch first")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(runs), encoding="utf-8")
    return out


def render(runs: Sequence[Run]) -> str:
    """The report as HTML."""
    played = [Played(run, label) for run, label in zip(runs, _labels(runs), strict=True)]
    norms = list(dict.fromkeys(one.norm for one in played))
    template = components.environment().get_template("report.html")
    most = GALLERY_ONE if len(played) == 1 else GALLERY_MANY
    return template.render(
        style=components.STYLE.read_text(encoding="utf-8"),
        title=_title(played),
        sections=[_section(norm, [one for one in played if one.norm == norm]) for norm in norms],
        galleries=[_gallery(one, most) for one in played],
        played=played,
        versions=_versions(runs),
        failures=", ".join(dict.fromkeys(one.score.failures for one in played)),
        norm_name=charts.norm_name,
    )


def _section(norm: str, played: Sequence[Played]) -> dict[str, Any]:
    """Everything about the runs of one norm; distances of two norms are never compared."""
    accuracy = tuple(one.accuracy for one in played)
    queries = tuple(one.queries for one in played)
    spreads = tuple(one.spread for one in played if one.spread.distances)
    names = [one.label for one in played]
    found = [
        {
            "heading": "Robust accuracy against epsilon",
            "svg": charts.accuracy_chart(accuracy, norm),
            "caption": "The share of all images that are classified correctly and that no "
            "adversarial within epsilon was found for. It starts at the clean accuracy.",
            "first": "epsilon",
            "columns": names,
            "rows": components.accuracy_table(accuracy),
        },
        {
            "heading": "Distance against queries",
            "svg": charts.queries_chart(queries, norm),
            "caption": "The median over all images of the best adversarial asked so far. An image "
            "without one counts as infinite, so a line starts where half of the images have one; "
            "clean errors count as 0.",
            "first": "queries",
            "columns": names,
            "rows": components.queries_table(queries),
        },
    ]
    if spreads:
        found.append(
            {
                "heading": "Distribution of the distances",
                "svg": charts.spread_chart(spreads, norm),
                "caption": "A tick for each attacked image, a diamond at the median with failures "
                "counted as infinite. Failures have no place on the axis.",
                "first": "run",
                "columns": list(components.SPREAD_COLUMNS),
                "rows": components.spread_table(spreads),
            }
        )
    return {
        "norm": norm,
        "played": played,
        "thresholds": sorted({radius for one in played for radius in one.score.robust_accuracy}),
        "charts": found,
        "matrix": _matrix(played),
    }


def _matrix(played: Sequence[Played]) -> dict[str, Any] | None:
    """Models by attacks, where there are several of both and each pair was played once."""
    models = list(dict.fromkeys(one.run.config.model for one in played))
    attacks = list(dict.fromkeys(one.run.config.attack for one in played))
    pairs = {(one.run.config.model, one.run.config.attack): one for one in played}
    if len(pairs) != len(played) or min(len(models), len(attacks)) < 2:
        return None
    medians = [one.score.median_distance for one in played]
    largest = max((value for value in medians if math.isfinite(value)), default=0.0)

    def cell(model: str, attack: str) -> tuple[Cell, int | None]:
        one = pairs.get((model, attack))
        if one is None:
            return Cell("–"), None
        value = one.score.median_distance
        return Cell(components.distance(value), value), components.shade(value, largest)

    return {
        "columns": [(attack, None) for attack in attacks],
        "rows": [(model, None, [cell(model, attack) for attack in attacks]) for model in models],
    }


def _gallery(one: Played, most: int) -> dict[str, Any]:
    found = sorted(
        (o for o in one.run.outcomes if o.adversarial is not None),
        key=lambda o: (o.distance, o.image_id),
    )
    samples, note = [], ""
    try:
        data = _dataset(one.run.config.dataset, one.run.config.split)
        rows = {image_id: row for row, image_id in enumerate(data.ids)}
        for outcome in pick_evenly(found, most):
            original = data.pixels[rows[outcome.image_id]]
            samples.append(_sample(one, outcome, original, data.class_names))
    except (UserError, OSError, ValueError, KeyError) as error:
        samples, note = [], f"The pictures cannot be shown: {error}"
    return {"played": one, "samples": samples, "total": len(found), "note": note}


def _sample(
    one: Played, outcome: Outcome, original: NDArray[np.uint8], names: Sequence[str]
) -> Sample:
    adversarial = images.to_pixels(one.run.adversarial(outcome))
    difference, scale = images.perturbation(original, adversarial)
    label = names[outcome.clean_label]
    fooled = f"not {label}"  # what was played before the label was kept
    if outcome.adversarial_label is not None:
        fooled = names[outcome.adversarial_label]
    if outcome.target is not None:
        fooled = f"{names[outcome.target]} (wanted)"
    return Sample(
        outcome.image_id,
        Picture(images.data_uri(original), label),
        Picture(images.data_uri(difference), components.factor(scale)),
        Picture(images.data_uri(adversarial), fooled),
        f"{charts.norm_name(one.norm)} {components.distance(outcome.distance)} · "
        f"{components.count(outcome.queries)} queries",
    )


def _dataset(name: str, split: str) -> Dataset:
    from ..datasets import dataset

    return dataset(name, split)


def _labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run: model and attack, and whatever else tells it from the others."""
    bases = [f"{run.config.model} / {run.config.attack}" for run in runs]
    counts = Counter(bases)
    labels = []
    for run, base in zip(runs, bases, strict=True):
        twins = [other for other, name in zip(runs, bases, strict=True) if name == base]
        parts = [
            f"{word} {getattr(run.config, field)}".strip()
            for field, word in _FACTS.items()
            if counts[base] > 1 and len({getattr(twin.config, field) for twin in twins}) > 1
        ]
        labels.append(", ".join([base, *parts]))
    seen: Counter[str] = Counter()
    for index, label in enumerate(labels):
        seen[label] += 1
        if seen[label] > 1:
            labels[index] = f"{label} ({seen[label]})"
    return labels


def _title(played: Sequence[Played]) -> str:
    if len(played) == 1:
        config = played[0].run.config
        return f"{config.model} against {config.attack}"
    models = {one.run.config.model for one in played}
    attacks = {one.run.config.attack for one in played}
    return (
        f"{len(models)} {'model' if len(models) == 1 else 'models'} against "
        f"{len(attacks)} {'attack' if len(attacks) == 1 else 'attacks'}"
    )


def _versions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Packages with their versions; several where the runs differ."""
    packages = dict.fromkeys(package for run in runs for package in run.config.versions)
    return [
        (name, ", ".join(dict.fromkeys(run.config.versions.get(name, "–") for run in runs)))
        for name in packages
    ]
