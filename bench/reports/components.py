"""What the offline report and the server's pages share: templates, filters, the style sheet.

Templates are rendered with autoescape on and refuse undefined names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from .curves import Curve, Spread

FOLDER = Path(__file__).parent
STYLE = FOLDER / "static" / "tiltyard.css"
HEAT_STEPS = 6
"""Shades of a heat table: classes heat-0 to heat-5 of the style sheet."""


@dataclass(frozen=True)
class Picture:
    """One of the three pictures of a sample.

    Attributes:
        source: an address or a data: URI.
        label: what stands below, such as "7" or "x 5.1".
    """

    source: str
    label: str


@dataclass(frozen=True)
class Sample:
    """One entry of the gallery."""

    image_id: str
    original: Picture
    perturbation: Picture
    adversarial: Picture
    facts: str


@dataclass(frozen=True)
class Cell:
    """One cell of a model x attack table.

    Attributes:
        text: what is printed, always; colour only repeats it.
        value: what the shade follows; None for no shade.
        link: address of the match, or None.
        note: a few words below, such as "playing".
    """

    text: str
    value: float | None = None
    link: str | None = None
    note: str | None = None


def environment(*folders: Path) -> jinja2.Environment:
    """A Jinja environment with the shared templates, and those of `folders` before them."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, FOLDER / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(distance=distance, percent=percent, count=count, mean=mean)
    return made


def distance(value: float | None) -> str:
    """A distance as printed everywhere: three significant digits; None and infinity are "inf"."""
    if value is None or math.isinf(value):
        return "inf"
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= abs(value) < 1e5 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share in 0..1 as printed everywhere: 0.984 -> "98.4 %"."""
    return f"{100.0 * value:.1f} %"


def count(value: float) -> str:
    """A whole number, thousands apart."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def mean(value: float) -> str:
    """A mean of counts, with one decimal, thousands apart."""
    return f"{value:,.1f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def factor(scale: float) -> str:
    """By how much a perturbation was enlarged: "\N{MULTIPLICATION SIGN}5.1"."""
    return f"\N{MULTIPLICATION SIGN}{scale:.3g}"


def shade(value: float | None, largest: float) -> int | None:
    """The heat class of a value in [0, largest]: 0 to HEAT_STEPS - 1; None for no value."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return HEAT_STEPS - 1
    share = value / largest if largest > 0 else 0.0
    return min(HEAT_STEPS - 1, max(0, int(share * HEAT_STEPS)))


def accuracy_table(curves: Sequence[Curve], rows: int = 9) -> list[tuple[str, list[str]]]:
    """The numbers behind an accuracy chart: (epsilon, a percentage for each curve)."""
    reach = max((point[0] for curve in curves for point in curve.points), default=0.0)
    return [
        (distance(x), [_or_dash(curve.at(x), percent) for curve in curves])
        for x in _even(reach, rows)
    ]


def queries_table(curves: Sequence[Curve]) -> list[tuple[str, list[str]]]:
    """The numbers behind a distance-against-queries chart: (queries, a distance for each curve)."""
    last = max((point[0] for curve in curves for point in curve.points), default=1.0)
    steps = [float(x) for power in range(7) for x in (10**power, 2 * 10**power, 5 * 10**power)]
    wanted = [x for x in steps if x < last] + [last]
    return [(count(x), [_or_dash(curve.at(x), distance) for curve in curves]) for x in wanted]


def spread_table(spreads: Sequence[Spread]) -> list[tuple[str, list[str]]]:
    """The numbers behind a distribution: (name, quantiles and failures)."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    return [
        (s.name, [*(distance(s.quantile(share)) for share in shares), str(s.failed)])
        for s in spreads
        if s.distances
    ]


SPREAD_COLUMNS = ("least", "quarter", "median", "three quarters", "most", "failed")


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "\N{EN DASH}" if value is None else text(value)


def _even(reach: float, rows: int) -> list[float]:
    """Round numbers from 0 to the reach, about `rows` of them."""
    if reach <= 0:
        return [0.0]
    rough = reach / (rows - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    return [round(index * step, 10) for index in range(math.ceil(reach / step - 1e-9) + 1)]
