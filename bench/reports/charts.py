"""Charts as static SVG that reads without JavaScript, in light and dark, and without colour.

Altair (Vega-Lite) draws, vl-convert renders without a browser. The SVG holds no style element and
no style attribute, so it passes a strict Content-Security-Policy inside a page: colours are
presentation attributes that name the CSS variables of static/tiltyard.css and fall back to the
light theme where the file stands alone. Lines differ by dash as well as by colour.

Altair takes half a second to import and the first chart another second, a later one a tenth;
both are loaded on first use and a chart is kept by its data.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .curves import Curve, Points, Spread, thin

if TYPE_CHECKING:
    import altair as alt

SERIES = ("#0b6bb5", "#b5520b", "#2b7a3d", "#8a3ea8", "#a3273f", "#0f7c80", "#7a6212", "#5a5f73")
"""Light theme's colours of the series; the dark theme's are in tiltyard.css."""

MARGIN = 55
"""What the y axis of a line chart takes; a chart without one is that much wider."""

DASHES = ([1, 0], [7, 3], [2, 2], [10, 3, 2, 3], [4, 2], [12, 4], [1, 3], [6, 2, 1, 2, 1, 2])
"""Dash patterns; a ninth series repeats the colours and shifts the dashes by one."""

WIDTH, HEIGHT = 360, 220
"""Size of the plot in SVG units; a page scales the whole drawing to its column."""

LABEL_LETTERS = 42
"""A longer "model / attack" is written on two lines."""

_SVG = "{http://www.w3.org/2000/svg}"
_TEXT, _GRID, _AXIS = "#fd0001", "#fd0002", "#fd0003"  # stand-ins, replaced after rendering


def accuracy_chart(curves: tuple[Curve, ...], norm: str, title: str = "") -> str:
    """Robust accuracy against epsilon, a step line for each curve.

    Args:
        curves: points (epsilon, share of images in 0..1) as from bench.score.accuracy_curve.
        norm: "l0", "l1", "l2" or "linf": the unit of epsilon.
        title: what a screen reader announces; a default names both axes.
    """
    reach = max((point[0] for curve in curves for point in curve.points), default=0.0) or 1.0
    right = reach * 1.05
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


@lru_cache(maxsize=256)
def spread_chart(spreads: tuple[Spread, ...], norm: str, title: str = "") -> str:
    """Distance of every image, a row of ticks for each spread, the median as a diamond.

    Failures have no place on the axis; their number stands beside the name.
    """
    import altair as alt

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
    lines = 2 if any(len(text) > LABEL_LETTERS for text in texts) else 1
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
    colours = alt.Color("name:N", legend=None, scale=_colour_scale(names))
    layers = alt.layer(
        alt.Chart(alt.Data(values=ticks))
        .mark_tick(thickness=1.5, opacity=0.8, size=18, yOffset=8 * lines)
        .encode(x=x, y=y, color=colours),
        alt.Chart(alt.Data(values=medians))
        .mark_point(
            shape="diamond", size=110, filled=True, opacity=1, color=_TEXT, yOffset=8 * lines
        )
        .encode(x=x, y=y),
        alt.Chart(alt.Data(values=labels))
        .mark_text(
            align="left", dx=4, dy=8 - 20 * lines, fontSize=13, color=_TEXT, limit=WIDTH + MARGIN
        )
        .encode(x=alt.value(0), y=y, text="text:N"),
    )
    chart = layers.properties(
        width=WIDTH, height=alt.Step(34 + 16 * lines), background="transparent"
    )
    said = title or f"Distribution of the distances ({norm_name(norm)})"
    return _finish(_render(chart), len(names), said, _describe_spread(spreads))


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
            color=alt.Color("name:N", sort=None, scale=_colour_scale(names), legend=legend),
            strokeDash=alt.StrokeDash(
                "name:N",
                sort=None,
                scale=alt.Scale(domain=names, range=[_dash(i) for i in range(len(names))]),
                legend=legend,
            ),
        )
        .properties(width=WIDTH, height=HEIGHT, background="transparent")
    )
    return _finish(_render(chart), len(names), title, description)


def _colour_scale(names: Sequence[str]) -> alt.Scale:
    import altair as alt

    return alt.Scale(domain=list(names), range=[_stand_in(i) for i in range(len(names))])


def _stand_in(index: int) -> str:
    return f"#fe{index:04x}"


def _dash(index: int) -> list[int]:
    return DASHES[(index + index // len(SERIES)) % len(DASHES)]


def _extend(points: Points, right: float) -> Points:
    """The step curve drawn on to the right edge, where its last value still holds."""
    return (*points, (right, points[-1][1])) if points else ()


def _thin_values(values: tuple[float, ...], most: int = 400) -> tuple[float, ...]:
    return values if len(values) <= most else values[:: math.ceil(len(values) / most)]


def _render(chart: alt.Chart | alt.LayerChart | alt.FacetChart) -> str:
    import vl_convert

    styled = (
        chart.configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_TEXT,
            titleColor=_TEXT,
            gridColor=_GRID,
            domainColor=_AXIS,
            tickColor=_AXIS,
            labelFontSize=13,
            titleFontSize=13,
            titleFontWeight="normal",
            labelLimit=150,
        )
        .configure_legend(labelColor=_TEXT, labelFontSize=13, symbolStrokeWidth=2.5, rowPadding=4)
    )
    specification: dict[str, Any] = json.loads(json.dumps(styled.to_dict()))
    return vl_convert.vegalite_to_svg(specification)


def _finish(svg: str, series: int, title: str, description: str) -> str:
    """Names for screen readers, CSS variables for colours, ids that don't meet another chart's."""
    root = ET.fromstring(svg)
    key = "c" + hashlib.sha256(f"{title}{svg}".encode()).hexdigest()[:10]
    for parent in list(root.iter()):
        for child in list(parent):
            if child.get("display") == "none" or child.get("class") == "background":
                parent.remove(child)
    for element in root.iter():
        for name in ("role", "aria-label", "aria-roledescription", "aria-hidden"):
            element.attrib.pop(name, None)
        element.tag = element.tag.removeprefix(_SVG)
    width, height = root.get("width", "0"), root.get("height", "0")
    root.attrib.clear()
    root.attrib.update(
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "chart",
            "width": width,
            "height": height,
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-labelledby": f"{key}-title {key}-desc",
        }
    )
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{key}-{tag}"})
        element.text = text
        root.insert(position, element)
    return _themed(ET.tostring(root, encoding="unicode"), series, key)


def _themed(svg: str, series: int, key: str) -> str:
    svg = re.sub(r"\bclip(\d+)\b(?=[\")])", rf"{key}-clip\1", svg)
    svg = svg.replace(f'"{_TEXT}"', '"currentColor"')
    svg = svg.replace(f'"{_GRID}"', '"var(--chart-grid, #dcdcdc)"')
    svg = svg.replace(f'"{_AXIS}"', '"var(--chart-axis, #8a8a8a)"')
    for index in range(series):
        number = index % len(SERIES)
        colour = f'"var(--series-{number + 1}, {SERIES[number]})"'
        svg = svg.replace(f'"{_stand_in(index)}"', colour)
    return svg


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
