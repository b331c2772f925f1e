"""The page of a command that asks models one kind of question: a lede, and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..runs import versions
from . import components
from .blocks import Block

SIDE = 56
"""CSS pixels of a picture in a grid."""


def render(
    *, topic: str, heading: str, lede: str, blocks: Sequence[Block], command: str, side: int = SIDE
) -> str:
    """The page as HTML.

    Args:
        topic: above the heading, such as "distortions (arXiv 1808.08750)".
        heading: which names the page as well.
        lede: what was asked, in a sentence.
        blocks: below it.
        command: that computed it.
        side: CSS pixels of a picture in a grid.
    """
    return (
        components.environment()
        .get_template("sheet.html")
        .render(
            style=components.STYLE.read_text(encoding="utf-8"),
            topic=topic,
            heading=heading,
            lede=lede,
            blocks=blocks,
            command=command,
            side=side,
            versions=list(versions().items()),
        )
    )


def write(html: str, out: Path) -> Path:
    """Write the page, which opens offline, and return `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    return out
