"""Charts of a figure against distortion level: lines, a band between observers, a chance line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .blocks import Chart
from .charts import HEIGHT, WIDTH, colour_scale, dash
from .components import distance, percent
from .svg import TEXT, finish, printable

MARKS = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
"""Shapes of the points, so that lines are told apart without colour."""


@dataclass(frozen=True)
class Line:
    """A named figure at each level.

    Attributes:
        name: what the legend says.
        values: one for each level; None where there is none.
        low, high: a band around them, such as the range over observers; none if empty.
    """

    name: str
    values: tuple[float | None, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def accuracy_block(
    heading: str,
    lines: Sequence[Line],
    levels: Sequence[str],
    unit: str,
    *,
    chance: float,
    caption: str,
) -> Chart:
    """A chart of accuracies in [0,1] with the numbers behind it."""
    reference = (f"chance {percent(chance)}", chance)
    return _block(heading, lines, levels, unit, caption, "accuracy", 1.0, reference, shares=True)


def figure_block(
    heading: str,
    lines: Sequence[Line],
    levels: Sequence[str],
    unit: str,
    *,
    measure: str,
    reference: tuple[str, float],
    caption: str,
) -> Chart:
    """A chart of figures of any measure that is never negative, with the numbers behind it.

    `reference` is what a dashed line stands for, and its height.
    """
    reached = [value for line in lines for value in (*line.values, *line.high) if value is not None]
    word, height = reference
    top = 1.1 * max(height, *reached)
    reference = (f"{word} {distance(height)}", height)
    return _block(heading, lines, levels, unit, caption, measure, top, reference, shares=False)


def entropy_block(
    heading: str,
    lines: Sequence[Line],
    levels: Sequence[str],
    unit: str,
    *,
    most: float,
    caption: str,
) -> Chart:
    """A chart of entropies in bits, `most` of which are possible, with the numbers behind it."""
    said = "entropy of the answers in bits"
    reference = (f"all answers equally often: {most:.3g} bits", most)
    return _block(heading, lines, levels, unit, caption, said, 1.1 * most, reference, shares=False)


def _block(
    heading: str,
    lines: Sequence[Line],
    levels: Sequence[str],
    unit: str,
    caption: str,
    y_title: str,
    top: float,
    reference: tuple[str, float],
    *,
    shares: bool,
) -> Chart:
    unit = unit or "level"
    svg = level_chart(
        tuple(Line(printable(x.name), x.values, x.low, x.high) for x in lines),
        tuple(levels),
        unit,
        y_title=y_title,
        top=top,
        reference=reference,
        shares=shares,
        title=f"{heading}: {y_title.partition(' ')[0]} against level",
    )
    rows = _rows(lines, levels, shares=shares)
    return Chart(heading, svg, caption, unit, _columns(lines), rows)


@lru_cache(maxsize=256)
def level_chart(
    lines: tuple[Line, ...],
    levels: tuple[str, ...],
    unit: str,
    *,
    y_title: str,
    top: float,
    reference: tuple[str, float],
    shares: bool,
    title: str,
) -> str:
    """SVG text: levels side by side at even distances, as in the paper, mildest on the left.

    Args:
        lines: with a value for each level.
        levels: labels, all different.
        unit: title of the x axis.
        y_title: of the y axis, which begins at 0.
        top: of the y axis.
        reference: label and height of the dashed line.
        shares: write the y axis in %.
        title: what a screen reader announces.
    """
    import altair as alt

    names = [line.name for line in lines]
    points = [
        {"name": line.name, "level": level, "y": value}
        for line in lines
        for level, value in zip(levels, line.values, strict=True)
        if value is not None
    ]
    bands = [
        {"name": line.name, "level": level, "low": low, "high": high}
        for line in lines
        if line.low
        for level, low, high in zip(levels, line.low, line.high, strict=True)
    ]
    x = alt.X(
        "level:O",
        title=unit,
        sort=None,
        scale=alt.Scale(type="point", domain=list(levels), padding=0.3),
        axis=alt.Axis(labelAngle=0, labelOverlap=False, labelFontSize=12),
    )
    scale = alt.Scale(domain=[0, top], nice=False)
    y = alt.Y(
        "y:Q",
        title=y_title,
        scale=scale,
        axis=alt.Axis(tickCount=5, format="%" if shares else ""),
    )
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=1,
        labelLimit=WIDTH - 40,
        symbolSize=140,
        symbolOpacity=1,
        symbolStrokeWidth=0,  # else the lines' dashes fray the symbols
    )
    colours = alt.Color("name:N", sort=None, scale=colour_scale(names), legend=legend)
    shapes = alt.Shape(
        "name:N",
        sort=None,
        scale=alt.Scale(domain=names, range=[MARKS[i % len(MARKS)] for i in range(len(names))]),
        legend=legend,
    )
    dashes = alt.StrokeDash(
        "name:N",
        sort=None,
        scale=alt.Scale(domain=names, range=[dash(i) for i in range(len(names))]),
        legend=None,
    )
    label, height = reference
    rule = alt.Data(values=[{"y": height, "text": label}])
    layers = [
        alt.Chart(rule).mark_rule(color=TEXT, strokeDash=[3, 3], opacity=0.8).encode(y=y),
        alt.Chart(rule)
        .mark_text(align="left", baseline="bottom", dx=4, dy=-3, fontSize=12, color=TEXT)
        .encode(x=alt.value(0), y=y, text="text:N"),
        alt.Chart(alt.Data(values=points)).mark_line(strokeWidth=2).encode(x, y, colours, dashes),
        alt.Chart(alt.Data(values=points))
        .mark_point(size=45, filled=True, opacity=1)
        .encode(x, y, colours, shapes),
    ]
    if bands:
        band = alt.Chart(alt.Data(values=bands)).mark_area(opacity=0.22)
        edges = alt.Y("low:Q", scale=scale), alt.Y2("high:Q")
        layers.insert(0, band.encode(x, *edges, colours))
    chart = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, background="transparent")
    return finish(chart, len(names), title, _describe(lines, levels, shares))


def _columns(lines: Sequence[Line]) -> tuple[str, ...]:
    return tuple(
        column
        for line in lines
        for column in ((line.name, f"{line.name}, range") if line.low else (line.name,))
    )


def _rows(
    lines: Sequence[Line], levels: Sequence[str], *, shares: bool
) -> list[tuple[str, list[str]]]:
    rows = []
    for place, level in enumerate(levels):
        cells = []
        for line in lines:
            value = line.values[place]
            cells.append("\N{EN DASH}" if value is None else _text(value, shares))
            if line.low:
                ends = (_text(end[place], shares) for end in (line.low, line.high))
                cells.append(" to ".join(ends))
        rows.append((level, cells))
    return rows


def _text(value: float, shares: bool) -> str:
    return percent(value) if shares else f"{value:.2f}"


def _describe(lines: Sequence[Line], levels: Sequence[str], shares: bool) -> str:
    said = []
    for line in lines:
        known = [(level, v) for level, v in zip(levels, line.values, strict=True) if v is not None]
        if known:
            (first, start), (last, end) = known[0], known[-1]
            said.append(
                f"{line.name}: {_text(start, shares)} at {first}, {_text(end, shares)} at {last}"
            )
    return "Lines with a point at each level. " + "; ".join(said) + "."
