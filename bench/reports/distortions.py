"""The page of `tiltyard distort`: accuracy and entropy against level, charts by distortion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import sheet
from .blocks import Block, Heading, Paragraph, Table
from .components import percent
from .levels import Line, accuracy_block, entropy_block

if TYPE_CHECKING:
    from ..distort import Distorted, DistortionScore, LevelScore


def write_html(found: Sequence[Distorted], out: Path) -> Path:
    """Write the page, which opens offline, and return `out`."""
    return sheet.write(render(found), out)


def render(found: Sequence[Distorted]) -> str:
    """The page as HTML, for models asked about the same images and distortions."""
    first = found[0]
    return sheet.render(
        topic="distortions (arXiv 1808.08750)",
        heading="Answers to distorted images",
        lede=f"{len(first.labels)} images of {first.dataset} ({first.split}), "
        f"{first.classes} classes, seed {first.seed}.",
        blocks=blocks(found),
        command="tiltyard distort",
    )


def blocks(found: Sequence[Distorted]) -> list[Block]:
    """A summary, then a chart of accuracy and one of entropy for each distortion."""
    by_model = [one.scores() for one in found]
    made: list[Block] = [
        Table(
            "Mean accuracy over the levels of each distortion",
            "distortion",
            tuple(one.model for one in found),
            (
                *(
                    (scores[0].title, tuple(percent(score.mean_accuracy) for score in scores))
                    for scores in zip(*by_model, strict=True)
                ),
                ("mean over distortions", tuple(percent(one.mean_accuracy) for one in found)),
            ),
            emphasised=(len(by_model[0]),),
        )
    ]
    skipped = found[0].skipped
    if skipped:
        left = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        made.append(Paragraph(f"Left out: {left}."))
    names = [one.model for one in found]
    chance, most = 1 / found[0].classes, math.log2(found[0].classes)
    for scores in zip(*by_model, strict=True):
        made += _charts(names, scores, chance, most)
    return made


def _charts(
    names: Sequence[str], scores: Sequence[DistortionScore], chance: float, most: float
) -> list[Block]:
    first = scores[0]
    levels = [level.level for level in first.levels]
    pairs = list(zip(names, scores, strict=True))
    accuracies = [_line(name, score.levels) for name, score in pairs]
    entropies = [
        Line(name, tuple(level.entropy for level in score.levels)) for name, score in pairs
    ]
    return [
        Heading(first.title),
        accuracy_block(
            first.title,
            accuracies,
            levels,
            first.unit,
            chance=chance,
            caption="The band is the 95 % interval (Wilson) of each share.",
        ),
        entropy_block(
            f"{first.title}: which answers",
            entropies,
            levels,
            first.unit,
            most=most,
            caption="0 bits: one answer is always given, however the images differ.",
        ),
    ]


def _line(name: str, levels: Sequence[LevelScore]) -> Line:
    return Line(
        name,
        tuple(level.accuracy for level in levels),
        tuple(level.interval[0] for level in levels),
        tuple(level.interval[1] for level in levels),
    )
