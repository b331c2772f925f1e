"""Which rule a board's scores follow today. Number 1 is the track's own; later ones are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from .db.tables import Scoring as Row

if TYPE_CHECKING:
    from bench.tracks.types import Scoring, Track


def current(session: Session, track: Track) -> Track:
    """The track, with the newest scoring that was published for it."""
    row = latest(session, track.name)
    return track if row is None else judged(track, row.number, row.rule)


def judged(track: Track, number: int, rule: Mapping[str, Any]) -> Track:
    """The track with a stored scoring."""
    return replace(track, scoring=read(number, rule))


def latest(session: Session, track: str) -> Row | None:
    """The newest stored scoring of a track."""
    query = select(Row).where(Row.track == track).order_by(Row.number.desc()).limit(1)
    return session.scalars(query).one_or_none()


def versions(session: Session, track: str) -> list[Row]:
    """Every scoring that was published for a track, oldest first."""
    return list(session.scalars(select(Row).where(Row.track == track).order_by(Row.number)))


def read(number: int, rule: Mapping[str, Any]) -> Scoring:
    """A scoring from what `Scoring.to_json` gave."""
    from bench.tracks.types import Scoring

    exclude = tuple(rule.get("exclude", ()))
    return Scoring(
        number=number, queries=rule.get("queries"), norm=rule.get("norm"), exclude=exclude
    )
