"""From a Vega-Lite chart to SVG that stands on its own and in a strict page.

vl-convert renders without a browser. The result holds no style element and no style attribute, so
it passes a strict Content-Security-Policy inside a page: colours are presentation attributes that
name the CSS variables of static/tiltyard.css and fall back to the light theme where the file
stands alone. The whole is one image to a screen reader, with a title and a description.
"""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

SERIES = ("#0b6bb5", "#b5520b", "#2b7a3d", "#8a3ea8", "#a3273f", "#0f7c80", "#7a6212", "#5a5f73")
"""Light theme's colours of the series; the dark theme's are in tiltyard.css."""

TEXT, _GRID, _AXIS = "#fd0001", "#fd0002", "#fd0003"
"""Stand-ins for colours of the theme, replaced after rendering."""

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_DROPPED = ("role", "aria-label", "aria-roledescription", "aria-hidden")


def stand_in(index: int) -> str:
    """The colour to give a series; `finish` replaces it by that of the theme."""
    return f"#fe{index:04x}"


def printable(text: str) -> str:
    """A name without characters that XML cannot hold, such as control characters."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def finish(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart, series: int, title: str, description: str
) -> str:
    """Render a chart that uses `series` stand-in colours.

    The text is an svg element of class "chart" whose ids meet no other chart's.
    """
    drawn = _render(chart)
    key = "c" + hashlib.sha256(f"{title}{drawn}".encode()).hexdigest()[:10]
    root = ET.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.get("display") == "none" or child.get("class") == "background":
                parent.remove(child)
    colours = _colours(series)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        for name in _DROPPED:
            element.attrib.pop(name, None)
        for name, value in element.attrib.items():
            own = re.sub(r"^(url\(#)?(clip\d+)(\)?)$", rf"\g<1>{key}-\2\3", value)
            element.set(name, colours.get(own, own))
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
    return ET.tostring(root, encoding="unicode")


def _render(chart: alt.Chart | alt.LayerChart | alt.FacetChart) -> str:
    import vl_convert

    styled = (
        chart.configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=TEXT,
            titleColor=TEXT,
            gridColor=_GRID,
            domainColor=_AXIS,
            tickColor=_AXIS,
            labelFontSize=13,
            titleFontSize=13,
            titleFontWeight="normal",
            labelLimit=150,
        )
        .configure_legend(labelColor=TEXT, labelFontSize=13, symbolStrokeWidth=2.5, rowPadding=4)
    )
    specification: dict[str, Any] = json.loads(json.dumps(styled.to_dict()))
    return vl_convert.vegalite_to_svg(specification)


def _colours(series: int) -> dict[str, str]:
    """{stand-in: what stands in the SVG}."""
    found = {
        TEXT: "currentColor",
        _GRID: "var(--chart-grid, #dcdcdc)",
        _AXIS: "var(--chart-axis, #8a8a8a)",
    }
    for index in range(series):
        number = index % len(SERIES)
        found[stand_in(index)] = f"var(--series-{number + 1}, {SERIES[number]})"
    return found
