"""A board as its page shows it: addresses of what else can be asked, strips, the heat table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import ConfigDict, Field

from bench.reports.components import Cell

from ..schemas import BoardQuery, BoardRow, BoardView, EntryRef, Met
from .show import Matrix, table, value_cell

ROWS = 100
"""Rows that a board page shows at a time."""


class PageQuery(BoardQuery):
    """What an address asks of a board's page; somebody may have added to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    limit: int | None = Field(default=ROWS, ge=1, le=1000)


@dataclass(frozen=True)
class Links:
    """Addresses of a board's parts: each says all of the query that is not as it is anyway."""

    query: PageQuery
    here: str
    data: str

    def to(self, **changes: Any) -> str:
        """The page with these changes; from its start, unless they name a page."""
        return self.here + self._said(PageQuery(), {"page": None, **changes})

    def sorted(self, key: str) -> str:
        """By this column; the other way round where it is sorted by it already."""
        again = self.query.sort == key and self.query.order == "asc"
        return self.to(sort=key, order="desc" if again else "asc")

    def shown(self, form: str) -> str:
        """Exactly what is shown, as data."""
        return self.data + self._said(BoardQuery(), {"format": form})

    def whole(self, form: str) -> str:
        """All that was asked for, on every page, as data."""
        return self.data + self._said(BoardQuery(), {"format": form, "page": None, "limit": None})

    @property
    def fragment(self) -> str:
        """The live part of this very view."""
        return f"{self.here}/table{self._said(PageQuery(), {})}"

    def _said(self, usual: BoardQuery, changes: dict[str, Any]) -> str:
        """The query with these changes, but for what is as usual."""
        known = usual.model_dump()
        wanted = self.query.model_dump() | changes
        said = {key: value for key, value in wanted.items() if value != known.get(key)}
        return f"?{urlencode(said)}" if said else ""


@dataclass(frozen=True)
class Strip:
    """A score and its interval on a line that all rows share: 0 to 100."""

    score: float
    lower: float | None
    upper: float | None


def strips(rows: Sequence[BoardRow]) -> dict[str, Strip]:
    """{entry: its strip}, of the rows with a score."""
    scored = [row for row in rows if row.score is not None and math.isfinite(row.score)]
    reach = max(
        (row.interval.upper if row.interval else row.score or 0.0 for row in scored), default=0
    )
    scale = 100 / reach if reach > 0 else 0.0
    return {
        row.entry.id: Strip(
            (row.score or 0.0) * scale,
            row.interval.lower * scale if row.interval else None,
            row.interval.upper * scale if row.interval else None,
        )
        for row in scored
    }


def level(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """The rows behind the first whose intervals overlap its own."""
    first = next((row for row in rows if row.rank == 1), None)
    if first is None or first.interval is None:
        return []
    return [
        row
        for row in rows
        if row is not first and row.interval is not None and row.interval.overlaps(first.interval)
    ]


def matrix(board: BoardView) -> Matrix:
    """The rows of a board against the opponents that count, from the rows alone.

    Models are rows of the table on either side's board.
    """
    models: dict[str, EntryRef] = {}
    attacks: dict[str, EntryRef] = {}
    pairs: dict[tuple[str, str], Met] = {}
    for row in board.rows:
        for met in row.matches:
            model, attack = (row.entry, met.opponent)
            if board.track.kind != "model":
                model, attack = attack, model
            models[model.id], attacks[attack.id] = model, attack
            pairs[model.id, attack.id] = met
    done = [met for met in pairs.values() if met.state == "done"]
    largest = max((met.median_distance or 0.0 for met in done), default=0.0)
    return table(models.values(), attacks.values(), lambda pair: _met(pairs.get(pair), largest))


def _met(met: Met | None, largest: float) -> tuple[Cell, int | None]:
    if met is None:
        return Cell("–"), None
    link = f"/matches/{met.match_id}"
    if met.state != "done":
        return Cell("waiting" if met.state == "open" else "failed", link=link), None
    return value_cell(met.median_distance, met.isolated, link, largest)
