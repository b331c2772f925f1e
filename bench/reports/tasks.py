"""The page of `tiltyard task`: quality against radius for attack and noise, and distortions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import sheet
from .blocks import Block, Chart, Heading, Paragraph, Table
from .components import distance, percent
from .levels import Line, accuracy_block, figure_block

if TYPE_CHECKING:
    from ..tasks.facts import Found, Row


def write_html(found: Found, out: Path) -> Path:
    """Write the page, which opens offline, and return `out`."""
    return sheet.write(render(found), out)


def render(found: Found) -> str:
    """The page as HTML."""
    samples = len({fact.sample for fact in found.facts})
    better = "higher" if found.higher_is_better else "lower"
    return sheet.render(
        topic=found.task,
        heading=f"{found.model} under attack, noise and distortions",
        lede=f"{samples} samples of {found.dataset} ({found.split}), seed {found.seed}; "
        f"quality is {found.measure}, the {better} the better.",
        blocks=blocks(found),
        command="tiltyard task",
    )


def blocks(found: Found) -> list[Block]:
    """Tables of all rows, and a chart for each norm and surface."""
    rows = found.rows()
    chance = next(row.figure for row in rows if row.kind == "chance")
    clean = next(row.figure for row in rows if row.kind == "clean")
    made: list[Block] = [
        Table(
            f"{found.measure} by condition",
            "condition",
            (found.measure, "retention", "broken"),
            tuple((said(row), cells(row)) for row in rows if row.kind != "smallest"),
        ),
        Paragraph(
            "In brackets: 95 % intervals over samples. Retention is what is left of the way from "
            "chance to the clean figure; broken is the share of samples on which an adversary has "
            "what it wants. Noise moves every value by as much as the attack may, at random."
        ),
    ]
    minimal = tuple((said(row), (_interval(row),)) for row in rows if row.kind == "smallest")
    if minimal:
        made.append(Table("Smallest radius that breaks a sample", "attack", ("median",), minimal))
    for norm, surface in dict.fromkeys((r.name, r.surface) for r in rows if r.kind == "attack"):
        kinds = {
            kind: [r for r in rows if (r.kind, r.name, r.surface) == (kind, norm, surface)]
            for kind in ("attack", "noise")
        }
        made += [
            Heading(f"{norm} on {surface}"),
            _chart(found, f"{norm} on {surface}", f"{norm} radius", kinds, clean, chance),
        ]
    if found.skipped:
        left = "; ".join(f"{name}: {why}" for name, why in found.skipped.items())
        made.append(Paragraph(f"Distortions left out: {left}."))
    return made


def _chart(
    found: Found,
    heading: str,
    unit: str,
    kinds: Mapping[str, Sequence[Row]],
    clean: float,
    chance: float,
) -> Chart:
    lines = [_line(kind, clean, rows) for kind, rows in kinds.items()]
    levels = ["0", *(row.level for row in kinds["attack"])]
    caption = f"The figure is {found.measure}; the band is its 95 % interval."
    if found.higher_is_better:
        return accuracy_block(heading, lines, levels, unit, chance=chance, caption=caption)
    return figure_block(
        heading,
        lines,
        levels,
        unit,
        measure=found.measure,
        reference=("chance", chance),
        caption=caption,
    )


def said(row: Row) -> str:
    """A condition in a few words."""
    if row.kind in ("clean", "chance"):
        return row.kind
    return f"{row.kind}, {row.name} {row.level} on {row.surface}".replace("  ", " ")


def cells(row: Row) -> tuple[str, str, str]:
    """Figure with interval, retention, share broken."""
    kept = "" if row.retention is None else percent(row.retention)
    return _interval(row), kept, percent(row.broken)


def _interval(row: Row) -> str:
    low, high = row.interval
    return f"{distance(row.figure)} [{distance(low)}, {distance(high)}]"


def _line(name: str, clean: float, rows: Sequence[Row]) -> Line:
    return Line(
        name,
        (clean, *(row.figure for row in rows)),
        (clean, *(row.interval[0] for row in rows)),
        (clean, *(row.interval[1] for row in rows)),
    )
