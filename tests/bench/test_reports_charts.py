"""Charts as readers, screen readers and a strict browser meet them."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from bench.reports import charts
from bench.reports.curves import Curve, Spread
from bench.reports.svg import SERIES

SVG = "{http://www.w3.org/2000/svg}"
ACCURACY = tuple(
    Curve(f"model {i} / <b>attack</b> & co", ((0.0, 1.0), (0.5 + i, 0.5), (2.0 + i, 0.0)))
    for i in range(11)
)
QUERIES = tuple(
    Curve(c.name, ((0.0, math.inf), (10.0, 3.0 + i), (700.0, 1.0))) for i, c in enumerate(ACCURACY)
)
SPREADS = tuple(Spread(c.name, (0.5 + i, 1.0 + i, math.inf)) for i, c in enumerate(ACCURACY))
ALL: list[Callable[[], str]] = [
    lambda: charts.accuracy_chart(ACCURACY, "l2"),
    lambda: charts.queries_chart(QUERIES, "l2"),
    lambda: charts.spread_chart(SPREADS, "l2"),
]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("draw", ALL)
def test_a_chart_is_an_image_with_a_title_and_a_description(draw: Callable[[], str]) -> None:
    root = ET.fromstring(draw())
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img"
    assert title is not None
    assert description is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "L2" in (title.text or "")
    assert "model 0" in (description.text or "")


@pytest.mark.parametrize("draw", ALL)
def test_a_chart_passes_a_strict_content_security_policy(draw: Callable[[], str]) -> None:
    for element in ET.fromstring(draw()).iter():
        assert element.tag not in (f"{SVG}style", f"{SVG}script", f"{SVG}image", f"{SVG}a")
        for name in element.attrib:
            assert name != "style"
            assert not name.startswith("on")
            assert "href" not in name


@pytest.mark.parametrize("draw", ALL)
def test_names_of_participants_are_text_and_nothing_else(draw: Callable[[], str]) -> None:
    svg = draw()
    assert "<b>" not in svg
    assert any("model 3 / <b>attack</b> & co" in text for text in texts(svg))


@pytest.mark.parametrize("draw", ALL)
def test_every_colour_follows_the_theme(draw: Callable[[], str]) -> None:
    svg = draw()
    bare = re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', svg)
    assert bare == []
    assert "var(--series-1, #0b6bb5)" in svg
    assert 'fill="currentColor"' in svg


def test_lines_differ_by_dash_where_colours_repeat() -> None:
    root = ET.fromstring(charts.accuracy_chart(ACCURACY, "l2"))
    looks = [
        (path.get("stroke"), path.get("stroke-dasharray"))
        for group in root.iter(f"{SVG}g")
        if "mark-line" in (group.get("class") or "")
        for path in group.iter(f"{SVG}path")
        if path.get("stroke")
    ]
    assert len(looks) == len(ACCURACY) > len(SERIES)
    assert len(set(looks)) == len(ACCURACY)
    assert len({dash for _, dash in looks[:8]}) == 8


def test_ids_of_two_charts_on_a_page_do_not_meet() -> None:
    first, second = (set(re.findall(r'id="([^"]+)"', draw())) for draw in ALL[:2])
    assert first
    assert second
    assert not first & second


def test_every_reference_within_a_chart_is_kept() -> None:
    svg = charts.accuracy_chart(ACCURACY, "l2")
    asked = set(re.findall(r"url\(#([^)]+)\)", svg))
    assert asked
    assert asked <= set(re.findall(r'id="([^"]+)"', svg))


def test_failures_are_named_beside_the_distribution() -> None:
    assert "model 0 / <b>attack</b> & co (1 failed)" in texts(charts.spread_chart(SPREADS, "l2"))


def test_an_attack_that_never_broke_half_of_the_images_is_said_so() -> None:
    never = (Curve("model / weak", ((0.0, math.inf),)),)
    svg = charts.queries_chart(never, "linf")
    assert "model / weak: never half of the images broken" in svg
    assert "Linf" in svg


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.accuracy_chart((), "l2"),
        lambda: charts.queries_chart((), "l2"),
        lambda: charts.spread_chart((), "l2"),
        lambda: charts.accuracy_chart((Curve("all wrong", ((0.0, 0.0),)),), "l2"),
        lambda: charts.spread_chart((Spread("all failed", (math.inf,)),), "l2"),
    ],
)
def test_a_chart_of_nothing_is_still_a_chart(draw: Callable[[], str]) -> None:
    assert ET.fromstring(draw()).get("role") == "img"


@pytest.mark.parametrize("name", ["a\x0bb / \x00", "clip1)", '"#fd0001"', "]]> &amp;"])
def test_odd_names_do_not_break_a_chart(name: str) -> None:
    shown = name.replace("\x0b", "\ufffd").replace("\x00", "\ufffd")
    curve = Curve(name, ((0.0, 1.0), (1.0, 0.5)))
    assert shown in texts(charts.accuracy_chart((curve,), "l2"))
    assert shown in texts(charts.queries_chart((curve,), "l2"))
    assert shown in texts(charts.spread_chart((Spread(name, (1.0,)),), "l2"))


def test_importing_the_reports_loads_neither_altair_nor_torch() -> None:
    code = (
        "import sys, bench.reports, bench.reports.charts, bench.reports.components;"
        "print([m for m in ('altair', 'vl_convert', 'torch', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
