"""How numbers are printed, and the tables behind the charts."""

from __future__ import annotations

import math

import jinja2
import pytest

from bench.reports import components
from bench.reports.curves import Curve, Spread


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.3149, "2.31"),
        (0.5, "0.500"),
        (12.04, "12.0"),
        (100.0, "100"),
        (0.0, "0"),
        (0.30000001, "0.300"),
        (math.inf, "inf"),
        (None, "inf"),
    ],
)
def test_a_distance_has_three_significant_digits(value: float | None, text: str) -> None:
    assert components.distance(value) == text


def test_shares_counts_and_means_are_printed_in_one_way() -> None:
    assert components.percent(0.984) == "98.4 %"
    assert components.count(1000) == "1\N{NARROW NO-BREAK SPACE}000"
    assert components.mean(998.24) == "998.2"
    assert components.factor(12.7) == "×12.7"


def test_shades_follow_the_value_and_infinity_is_the_darkest() -> None:
    assert components.shade(None, 4.0) is None
    assert components.shade(0.0, 4.0) == 0
    assert components.shade(2.0, 4.0) == 3
    assert components.shade(4.0, 4.0) == components.HEAT_STEPS - 1
    assert components.shade(math.inf, 4.0) == components.HEAT_STEPS - 1
    assert components.shade(0.0, 0.0) == 0


def test_the_table_behind_an_accuracy_chart_reads_the_steps() -> None:
    curves = (Curve("one", ((0.0, 1.0), (0.3, 0.25))), Curve("two", ((0.0, 0.5), (2.0, 0.0))))
    rows = dict(components.accuracy_table(curves))
    assert list(rows) == ["0", "0.250", "0.500", "0.750", "1.00", "1.25", "1.50", "1.75", "2.00"]
    assert rows["0"] == ["100.0 %", "50.0 %"]
    assert rows["0.500"] == ["25.0 %", "50.0 %"]
    assert rows["2.00"] == ["25.0 %", "0.0 %"]


def test_the_table_behind_a_query_chart_ends_at_the_last_query() -> None:
    curves = (Curve("one", ((0.0, math.inf), (3.0, 2.0), (40.0, 1.0))),)
    assert components.queries_table(curves) == [
        ("1", ["inf"]),
        ("2", ["inf"]),
        ("5", ["2.00"]),
        ("10", ["2.00"]),
        ("20", ["2.00"]),
        ("40", ["1.00"]),
    ]


def test_the_table_behind_a_distribution_counts_the_failures() -> None:
    spread = Spread("one", (1.0, 2.0, 3.0, math.inf))
    assert components.spread_table([spread]) == [
        ("one", ["1.00", "1.75", "2.50", "inf", "inf", "1"])
    ]


def test_templates_escape_and_refuse_unknown_names() -> None:
    environment = components.environment()
    shown = environment.from_string("{{ name }}").render(name="<script>")
    assert shown == "&lt;script&gt;"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ misspelt }}").render()
