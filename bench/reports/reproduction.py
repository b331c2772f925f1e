"""The page of a reproduction: claims with what was published and measured, then its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..runs import versions
from . import components

if TYPE_CHECKING:
    from ..papers.types import Claim, Reproduction

PICTURE_SIDE = 56
"""CSS pixels of a picture in a grid."""


def write_html(done: Reproduction, out: Path) -> Path:
    """Write the page, which opens offline, and return `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(done), encoding="utf-8")
    return out


def render(done: Reproduction) -> str:
    """The page as HTML."""
    return (
        components.environment()
        .get_template("reproduction.html")
        .render(
            style=components.STYLE.read_text(encoding="utf-8"),
            done=done,
            holding=sum(claim.holds for claim in done.claims),
            measured=[measured(claim) for claim in done.claims],
            side=PICTURE_SIDE,
            versions=list(versions().items()),
        )
    )


def measured(claim: Claim) -> str:
    """What was measured, with its interval."""
    if isinstance(claim.measured, str):
        return claim.measured
    text = components.distance(claim.measured)
    if claim.interval is None:
        return text
    low, high = (components.distance(value) for value in claim.interval)
    return f"{text} [{low}, {high}]"
