"""From views to what templates print: the heat table, the charts and the gallery of a match."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

import bench
from bench.reports import charts, components, images
from bench.reports.blocks import Chart
from bench.reports.components import Cell, Picture, Sample
from bench.reports.curves import Curve, Spread, pick_evenly

from ..schemas import EntryRef, HistoryRow, MatchRef, MatchView, SampleView, TrackView
from ..storage import Store

DAY = 86400.0
ENDED = ("succeeded", "failed_user", "dead", "cancelled")


@dataclass(frozen=True)
class Matrix:
    """A heat table: columns (name, link), rows (name, link, [(cell, shade)])."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, str, list[tuple[Cell, int | None]]]]


def matrix(matches: Sequence[MatchRef]) -> Matrix:
    """Models by attacks; of several matches of a pair the first counts: the newest, as listed."""
    models: dict[str, EntryRef] = {}
    attacks: dict[str, EntryRef] = {}
    pairs: dict[tuple[str, str], MatchRef] = {}
    for match in matches:
        models[match.model.id] = match.model
        attacks[match.attack.id] = match.attack
        pairs.setdefault((match.model.id, match.attack.id), match)
    finite = [m.median_distance for m in pairs.values() if m.median_distance is not None]
    largest = max(finite, default=0.0)
    return table(
        sorted(models.values(), key=_baselines_last),
        sorted(attacks.values(), key=_baselines_last),
        lambda pair: _cell(pairs.get(pair), largest),
    )


def table(
    models: Collection[EntryRef],
    attacks: Collection[EntryRef],
    cell: Callable[[tuple[str, str]], tuple[Cell, int | None]],
) -> Matrix:
    """A heat table of models by attacks; ``cell``: of a pair of ids, model and attack."""
    return Matrix(
        columns=[(attack.name, f"/entries/{attack.id}") for attack in attacks],
        rows=[
            (
                model.name,
                f"/entries/{model.id}",
                [cell((model.id, attack.id)) for attack in attacks],
            )
            for model in models
        ],
    )


def match_charts(match: MatchView, samples: Sequence[SampleView]) -> list[Chart]:
    """The curves of a played match, and the distribution where its samples may be seen."""
    if match.summary is None:
        return []
    name = f"{match.model.name} / {match.attack.name}"
    norm = match.threat.norm
    unit = charts.norm_name(norm)
    accuracy = (Curve(name, tuple((p.x, p.y) for p in match.accuracy_curve)),)
    queries = (Curve(name, tuple((p.x, p.y) for p in match.query_curve)),)
    made = [
        Chart(
            "Accuracy against epsilon",
            charts.accuracy_chart(accuracy, norm),
            f"The share of images that no adversarial within epsilon ({unit}) was found for.",
            "epsilon",
            [name],
            components.accuracy_table(accuracy),
        ),
        Chart(
            "Distance against queries",
            charts.queries_chart(queries, norm),
            "The median over attacked images of the best adversarial so far, from the referee's "
            "own record of what was asked. Until an image has one, its worst case counts.",
            "queries",
            [name],
            components.queries_table(queries),
        ),
    ]
    attacked = [s for s in samples if s.clean_correct]
    if attacked:
        found = tuple(float("inf") if s.distance is None else s.distance for s in attacked)
        spread = (Spread(name, found),)
        made.append(
            Chart(
                "Distribution of the distances",
                charts.spread_chart(spread, norm),
                "A tick for each attacked image, a diamond at the median; failures have no place.",
                "",
                list(components.SPREAD_COLUMNS),
                components.spread_table(spread),
            )
        )
    return made


def progress_chart(track: TrackView, steps: Sequence[tuple[float, float, str]]) -> Chart | None:
    """The best score of a board over time; None before there is one."""
    if not steps:
        return None
    first = steps[0][0]
    points = tuple(((moment - first) / DAY, score) for moment, score, _ in steps)
    norm = charts.norm_name(track.scoring.norm or track.threat.norm)
    return Chart(
        "Best score over time",
        charts.progress_chart((Curve("best", points),), norm),
        f"The score of whoever led the board ({norm}, "
        f"{'higher' if track.higher_is_better else 'lower'} is better), from its first score on.",
        "day",
        ["best"],
        [(f"{day:.2f}", [components.distance(score)]) for day, score in points],
    )


def rank_chart(changes: Sequence[HistoryRow]) -> Chart | None:
    """The rank of one entry over time; None before it has one.

    Args:
        changes: of the entry, newest first.
    """
    ranked = [(row.at.timestamp(), row.rank) for row in reversed(changes) if row.rank is not None]
    if not ranked:
        return None
    first = ranked[0][0]
    points = tuple(((moment - first) / DAY, float(rank)) for moment, rank in ranked)
    return Chart(
        "Rank over time",
        charts.rank_chart(Curve(changes[0].entry.name, points)),
        "After each change of its own score; the first rank is on top. What others did in between "
        "shows at its next change.",
        "day",
        ["rank"],
        [(f"{day:.2f}", [f"{rank:.0f}"]) for day, rank in points],
    )


def gallery(
    match: MatchView, samples: Sequence[SampleView], store: Store, most: int | None
) -> tuple[list[Sample], int]:
    """Samples with an adversarial, nearest first, thinned evenly to `most`; and how many there are.

    Raises TiltyardError when the data set that the match was played on is not on this machine.
    """
    shown = sorted(
        (s for s in samples if s.adversarial_sha256 is not None and s.success),
        key=lambda s: (s.distance or 0.0, s.index),
    )
    unit = charts.norm_name(match.threat.norm)
    entries = []
    for sample in pick_evenly(shown, most):
        label = sample.label_name or str(sample.clean_label)
        original, adversarial = arrays(match, sample, store)
        _, scale = images.perturbation(original, adversarial)
        address = f"/matches/{match.id}/images/{sample.index}"
        entries.append(
            Sample(
                sample.image_id,
                Picture(f"{address}/original.png", label),
                Picture(f"{address}/perturbation.png", components.factor(scale)),
                Picture(f"{address}/adversarial.png", f"not {label}"),
                f"{unit} {components.distance(sample.distance)} · "
                f"{components.count(sample.queries)} queries",
            )
        )
    return entries, len(shown)


def arrays(
    match: MatchView, sample: SampleView, store: Store
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The clean image and the adversarial of a sample, uint8 (H, W, C).

    Raises TiltyardError (data set missing), KeyError (no such image) and FileNotFoundError.
    """
    if sample.adversarial_sha256 is None:
        raise FileNotFoundError(f"sample {sample.index} has no adversarial")
    with _one_loader:  # a page asks for many pictures at once: the first of them loads the data
        pixels, rows = _pixels(match.dataset, match.split)
    return pixels[rows[sample.image_id]], store.get_array(sample.adversarial_sha256)


_one_loader = threading.Lock()


@lru_cache(maxsize=4)
def _pixels(dataset: str, split: str) -> tuple[NDArray[np.uint8], dict[str, int]]:
    data = bench.dataset(dataset, split)
    return data.pixels, {image_id: row for row, image_id in enumerate(data.ids)}


def _baselines_last(ref: EntryRef) -> tuple[bool, str]:
    return ref.baseline, ref.name


def _cell(match: MatchRef | None, largest: float) -> tuple[Cell, int | None]:
    if match is None:
        return Cell("–"), None
    link = f"/matches/{match.id}"
    if match.state != "succeeded":
        word = "failed" if match.state in ENDED else "waiting"
        if match.state in ("leased", "running"):
            word = "playing"
        return Cell(word, link=link), None
    return value_cell(match.median_distance, match.isolated, link, largest)


def value_cell(
    median: float | None, isolated: bool, link: str, largest: float
) -> tuple[Cell, int | None]:
    """A median distance in a heat table, shaded by the largest; None is infinite."""
    value = float("inf") if median is None else median
    note = None if isolated else "not isolated"
    return Cell(components.distance(value), value, link, note), components.shade(value, largest)
