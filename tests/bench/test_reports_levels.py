"""Level charts: entropies, gaps, names as text, both colour schemes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from bench.reports.blocks import Chart
from bench.reports.levels import Line, accuracy_block, entropy_block

LEVELS = ["0", "0.2", "0.9"]
ENTROPIES = [
    Line("humans", (3.97, 3.88, 3.31), (3.9, 3.8, 3.0), (4.0, 3.9, 3.6)),
    Line("VGG-19", (3.9, 0.37, 0.91)),
]


def entropies() -> Chart:
    return entropy_block("Answers", ENTROPIES, LEVELS, "noise width", most=4.0, caption="c")


def said(svg: str) -> str:
    """The texts of a picture, without its markup."""
    return " | ".join(text.strip() for text in ET.fromstring(svg).itertext() if text.strip())


def test_entropies_are_in_bits_beside_the_most_that_is_possible() -> None:
    block = entropies()
    text = said(block.svg)
    assert "entropy of the answers in bits" in text
    assert "all answers equally often: 4 bits" in text
    assert "noise width" in text
    assert "%" not in text
    assert block.columns == ("humans", "humans, range", "VGG-19")
    assert block.rows[1] == ("0.2", ["3.88", "3.80 to 3.90", "0.37"])


def test_levels_keep_their_order_and_all_have_a_label() -> None:
    """Mild ones are on the left, even where the numbers fall."""
    levels = ["inf", "3", "1.5", "0.4"]
    block = accuracy_block(
        "High-pass", [Line("a", (0.9, 0.8, 0.7, 0.1))], levels, "pixels", chance=0.1, caption=""
    )
    ticks = [element.text for element in ET.fromstring(block.svg).iter() if element.text in levels]
    assert ticks == levels
    assert [level for level, _ in block.rows] == levels


def test_a_level_without_a_figure_has_no_point() -> None:
    def points(last: float | None) -> int:
        block = accuracy_block(
            "Noise", [Line("a", (0.9, 0.5, last))], LEVELS, "width", chance=0.1, caption=""
        )
        groups = (element for element in ET.fromstring(block.svg).iter() if len(element))
        return sum(len(g) for g in groups if "mark-symbol role-mark" in g.get("class", ""))

    assert points(0.1) == 3
    assert points(None) == 2


def test_names_of_networks_are_text_and_not_markup() -> None:
    block = accuracy_block(
        "N", [Line("<b>&net", (0.9, 0.5, 0.1))], LEVELS, "<i>", chance=0.1, caption=""
    )
    assert "<b>" not in block.svg
    assert "<b>&net" in said(block.svg)


def test_charts_take_their_text_colour_from_the_page() -> None:
    """What reads on a light page reads on a dark one."""
    svg = entropies().svg
    assert "currentColor" in svg or "var(--" in svg
    assert 'fill="#000' not in svg
    assert 'fill="black"' not in svg
