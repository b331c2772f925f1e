"""The charts of reports and pages: pure functions from curves to SVG text.

Altair (Vega-Lite) draws. It takes half a second to import and the first chart another second, a
later one a tenth; both are loaded on first use and a chart is kept by its data. How the SVG reads
without JavaScript, in light and dark and without colour is in svg.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from .curves import Curve, Points, Spread, thin
from .svg import SERIES, TEXT, finish, printable, stand_in

if TYPE_CHECKING:
    import altair as alt

DASHES = ([1, 0], [7, 3], [2, 2], [10, 3, 2, 3], [4, 2], [12, 4], [1, 3], [6, 2, 1, 2, 1, 2])
"""Dash patterns; a ninth series repeats the colours and shifts the dashes by one."""

WIDTH, HEIGHT = 360, 220
"""Size of the plot in SVG units; a page scales the whole drawing to its column."""

MARGIN = 55
"""What the y axis of a line chart takes; a chart without one is that much wider."""

LABEL_LETTERS, ROW_LETTERS = 42, 54
"""A longer "model / attack" is written on two lines: in a legend, above a row of ticks."""


def accuracy_chart(curves: tuple[Curve, ...], norm: str, title: str = "") -> str:
    """Robust accuracy against epsilon, a step line for each curve.

    Args:
        curves: points (epsilon, share of images in 0..1) as from bench.score.accuracy_curve.
        norm: "l0", "l1", "l2" or "linf": the unit of epsilon.
        title: what a screen reader announces; a default names both axes.
    """
    reach = max((point[0] for curve in curves for point in curve.points), default=0.0) or 1.0
    right = reach * 1.05
    curves = _named(curves)
    drawn = tuple(
        Curve(curve.name, _extend(thin(curve.points), right)) for curve in curves if curve.points
    )
    return _lines(
        drawn,
        title=title or f"Robust accuracy against epsilon ({norm_name(norm)})",
        description=_describe_accuracy(curves, norm),
        x_title=f"epsilon ({norm_name(norm)})",
        y_title="robust accuracy",
        x_domain=(0.0, right),
        y_domain=(0.0, 1.0),
        percent=True,
    )


def queries_chart(curves: tuple[Curve, ...], norm: str, title: str = "") -> str:
    """Median best distance against queries, a step line for each curve, queries on a log scale.

    Infinite values (less than half of the images broken so far) are not drawn: a line starts where
    half of the images have an adversarial.
    """
    last = max((point[0] for curve in curves for point in curve.points), default=1.0)
    right = max(10.0, last * 1.15)
    curves = _named(curves)
    drawn = []
    for curve in curves:
        finite = tuple(point for point in curve.points if math.isfinite(point[1]))
        if finite:
            points = tuple((max(1.0, x), y) for x, y in thin(finite))
            drawn.append(Curve(curve.name, _extend(points, right)))
    top = max((y for curve in drawn for _, y in curve.points), default=1.0) or 1.0
    return _lines(
        tuple(drawn),
        title=title or f"Distance ({norm_name(norm)}) against queries",
        description=_describe_queries(curves, norm),
        x_title="queries for each image (log scale)",
        y_title=f"median best distance ({norm_name(norm)})",
        x_domain=(1.0, right),
        y_domain=(0.0, top * 1.05),
        log_x=True,
    )


def progress_chart(curves: tuple[Curve, ...], unit: str, title: str = "") -> str:
    """The best score over time, a step line for each curve.

    Args:
        curves: points (days since the first, score).
        unit: of the score, for the axis.
        title: what a screen reader announces; a default names both axes.
    """
    reach = max((point[0] for curve in curves for point in curve.points), default=0.0)
    right = reach * 1.05 or 1.0
    drawn = tuple(
        Curve(curve.name, _extend(thin(curve.points), right))
        for curve in _named(curves)
        if curve.points
    )
    top = max((y for curve in drawn for _, y in curve.points), default=1.0) or 1.0
    return _lines(
        drawn,
        title=title or f"Best score over time ({unit})",
        description=_describe_progress(curves),
        x_title="days",
        y_title=f"best score ({unit})",
        x_domain=(0.0, right),
        y_domain=(0.0, top * 1.05),
    )


@lru_cache(maxsize=256)
def rank_chart(curve: Curve, title: str = "") -> str:
    """The rank of one entry over time, a step line; the first rank is on top.

    Args:
        curve: points (days since its first rank, rank).
        title: what a screen reader announces.
    """
    right = curve.points[-1][0] * 1.05 or 1.0
    ranks = [rank for _, rank in curve.points]
    return _lines(
        (Curve(curve.name, _extend(thin(curve.points), right)),),
        title=title or "Rank over time",
        description=f"{curve.name}: rank {ranks[0]:.0f} at first, {ranks[-1]:.0f} now, "
        f"{min(ranks):.0f} at best.",
        x_title="days",
        y_title="rank",
        x_domain=(0.0, right),
        y_domain=(max(ranks) + 0.5, 0.5),
    )


@lru_cache(maxsize=256)
def spread_chart(spreads: tuple[Spread, ...], norm: str, title: str = "") -> str:
    """Distance of every image, a row of ticks for each spread, the median as a diamond.

    Failures have no place on the axis; their number stands beside the name.
    """
    import altair as alt

    spreads = tuple(Spread(printable(s.name), s.distances) for s in spreads)
    names = [spread.name for spread in spreads]
    ticks = [
        {"name": spread.name, "x": x} for spread in spreads for x in _thin_values(spread.found)
    ]
    medians = [
        {"name": spread.name, "x": spread.quantile(0.5)}
        for spread in spreads
        if spread.distances and math.isfinite(spread.quantile(0.5))
    ]
    # The names stand above their rows: beside the axis, a long one would squeeze the plot.
    texts = [s.name + (f" ({s.failed} failed)" if s.failed else "") for s in spreads]
    lines = 2 if any(len(text) > ROW_LETTERS for text in texts) else 1
    labels = [
        {"name": name, "text": text.split(" / ") if lines == 2 else [text]}
        for name, text in zip(names, texts, strict=True)
    ]
    right = (max((x for s in spreads for x in s.found), default=0.0) or 1.0) * 1.02
    x = alt.X(
        "x:Q",
        title=f"distance ({norm_name(norm)})",
        scale=alt.Scale(domain=[0, right], nice=False),
        axis=alt.Axis(tickCount=6),
    )
    y = alt.Y("name:N", title=None, sort=None, scale=alt.Scale(domain=names), axis=None)
    colours = alt.Color("name:N", legend=None, scale=colour_scale(names))
    layers = alt.layer(
        alt.Chart(alt.Data(values=ticks))
        .mark_tick(thickness=1.5, opacity=0.8, size=18, yOffset=8 * lines)
        .encode(x=x, y=y, color=colours),
        alt.Chart(alt.Data(values=medians))
        .mark_point(
            shape="diamond", size=110, filled=True, opacity=1, color=TEXT, yOffset=8 * lines
        )
        .encode(x=x, y=y),
        alt.Chart(alt.Data(values=labels))
        .mark_text(
            align="left", dx=4, dy=7 - 19 * lines, fontSize=13, color=TEXT, limit=WIDTH + MARGIN
        )
        .encode(x=alt.value(0), y=y, text="text:N"),
    )
    chart = layers.properties(
        width=WIDTH + MARGIN, height=alt.Step(32 + 22 * lines), background="transparent"
    )
    said = title or f"Distribution of the distances ({norm_name(norm)})"
    return finish(chart, len(names), said, _describe_spread(spreads))


def norm_name(norm: str) -> str:
    """A norm as people write it: "l2" -> "L2", "linf" -> "Linf"."""
    return norm[:1].upper() + norm[1:]


@lru_cache(maxsize=256)
def _lines(
    curves: tuple[Curve, ...],
    *,
    title: str,
    description: str,
    x_title: str,
    y_title: str,
    x_domain: tuple[float, float],
    y_domain: tuple[float, float],
    log_x: bool = False,
    percent: bool = False,
) -> str:
    import altair as alt

    names = [curve.name for curve in curves]
    values = [{"name": curve.name, "x": x, "y": y} for curve in curves for x, y in curve.points]
    parts = (1, 2, 5) if x_domain[1] <= 100 else (1,)
    decades = [p * 10.0**d for d in range(math.ceil(math.log10(x_domain[1])) + 1) for p in parts]
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=1,
        labelLimit=WIDTH - 40,
        labelExpr=f"length(datum.label) > {LABEL_LETTERS}"
        " ? split(datum.label, ' / ') : datum.label",
        symbolSize=520,
    )
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_line(interpolate="step-after", strokeWidth=2, clip=True)
        .encode(
            x=alt.X(
                "x:Q",
                title=x_title,
                scale=alt.Scale(type="log" if log_x else "linear", domain=x_domain, nice=False),
                axis=alt.Axis(values=decades, format="d") if log_x else alt.Axis(tickCount=6),
            ),
            y=alt.Y(
                "y:Q",
                title=y_title,
                scale=alt.Scale(domain=y_domain, nice=False),
                axis=alt.Axis(tickCount=5, format="%" if percent else ""),
            ),
            color=alt.Color("name:N", sort=None, scale=colour_scale(names), legend=legend),
            strokeDash=alt.StrokeDash(
                "name:N",
                sort=None,
                scale=alt.Scale(domain=names, range=[dash(i) for i in range(len(names))]),
                legend=legend,
            ),
        )
        .properties(width=WIDTH, height=HEIGHT, background="transparent")
    )
    return finish(chart, len(names), title, description)


def _named(curves: tuple[Curve, ...]) -> tuple[Curve, ...]:
    return tuple(Curve(printable(curve.name), curve.points) for curve in curves)


def colour_scale(names: Sequence[str]) -> alt.Scale:
    """The colours of so many series, by name."""
    import altair as alt

    return alt.Scale(domain=list(names), range=[stand_in(i) for i in range(len(names))])


def dash(index: int) -> list[int]:
    """The dash pattern of a series."""
    return DASHES[(index + index // len(SERIES)) % len(DASHES)]


def _extend(points: Points, right: float) -> Points:
    """The step curve drawn on to the right edge, where its last value still holds."""
    return (*points, (right, points[-1][1])) if points else ()


def _thin_values(values: tuple[float, ...], most: int = 400) -> tuple[float, ...]:
    return values if len(values) <= most else values[:: math.ceil(len(values) / most)]


def _describe_accuracy(curves: Sequence[Curve], norm: str) -> str:
    said = [
        f"{curve.name}: {curve.points[0][1]:.0%} at epsilon 0, "
        f"{curve.points[-1][1]:.0%} from {norm_name(norm)} {curve.points[-1][0]:.3g} on"
        for curve in curves
        if curve.points
    ]
    return "Step lines, falling. " + ("; ".join(said) + "." if said else "No data.")


def _describe_queries(curves: Sequence[Curve], norm: str) -> str:
    said = []
    for curve in curves:
        finite = [point for point in curve.points if math.isfinite(point[1])]
        if finite:
            said.append(
                f"{curve.name}: {norm_name(norm)} {finite[0][1]:.3g} after {finite[0][0]:.0f} "
                f"queries, {finite[-1][1]:.3g} after {finite[-1][0]:.0f}"
            )
        else:
            said.append(f"{curve.name}: never half of the images broken")
    return "Step lines, falling. " + ("; ".join(said) + "." if said else "No data.")


def _describe_progress(curves: Sequence[Curve]) -> str:
    said = [
        f"{curve.name}: {curve.points[0][1]:.3g} at first, {curve.points[-1][1]:.3g} after "
        f"{curve.points[-1][0]:.3g} days"
        for curve in curves
        if curve.points
    ]
    return "Step lines. " + ("; ".join(said) + "." if said else "No data.")


def _describe_spread(spreads: Sequence[Spread]) -> str:
    said = [
        f"{spread.name}: median {_number(spread.quantile(0.5))}, {len(spread.found)} found, "
        f"{spread.failed} failed"
        for spread in spreads
        if spread.distances
    ]
    return "A tick for each image, a diamond at the median. " + "; ".join(said) + "."


def _number(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:.3g}"
