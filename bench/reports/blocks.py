"""What the page of a reproduction is made of: paragraphs, tables, charts, rows of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .components import Picture


@dataclass(frozen=True)
class Heading:
    """Begins a part of the page."""

    text: str
    kind: Literal["heading"] = field(default="heading", init=False)


@dataclass(frozen=True)
class Paragraph:
    """Text."""

    text: str
    kind: Literal["paragraph"] = field(default="paragraph", init=False)


@dataclass(frozen=True)
class Table:
    """Rows with a head each; `emphasised` are the indices of rows that sum up."""

    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    emphasised: tuple[int, ...] = ()
    kind: Literal["table"] = field(default="table", init=False)


@dataclass(frozen=True)
class Chart:
    """A drawing with the numbers behind it, as _components.html prints it."""

    heading: str
    svg: str
    caption: str
    first: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    kind: Literal["chart"] = field(default="chart", init=False)


@dataclass(frozen=True)
class Pictures:
    """A grid of images: a row of pictures (or gaps) for each name."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Picture | None, ...]], ...]
    kind: Literal["pictures"] = field(default="pictures", init=False)


Block = Heading | Paragraph | Table | Chart | Pictures
