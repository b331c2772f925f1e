"""The rules of a round, from its row: the challenge's tracks on hidden images, with frozen scoring.

And its boards: every entry of one side is scored against every entry of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import hidden, rules, scoring, standings
from .boards import Entry, Played
from .db.tables import Round, RoundEntry, Submission
from .standings import Field

if TYPE_CHECKING:
    from bench.tracks.types import Track


def tracks_of(row: Round) -> list[Track]:
    """The tracks of a round; their names are those of the challenge."""
    found = []
    for track in rules.of_challenge(row.challenge):
        stored = row.scoring[track.name]
        found.append(
            replace(
                track,
                split=hidden.split_of(row.images_sha256),
                images=row.images,
                seed=row.seed,
                scoring=scoring.read(stored["number"], stored),
            )
        )
    return found


def sharing(session: Session, version: str) -> list[Track]:
    """The tracks that are played by these rules, those of rounds among them."""
    row = round_of(session, version)
    if row is None:
        return rules.sharing(version)
    return [track for track in tracks_of(row) if rules.rules_version(track) == version]


def round_of(session: Session, version: str) -> Round | None:
    """The round whose matches are played by these rules, if it is one's."""
    parts = version.split("/")
    if len(parts) < 2 or not parts[1].startswith(hidden.PREFIX):
        return None
    sha256 = parts[1].removeprefix(hidden.PREFIX)
    rows = session.scalars(select(Round).filter_by(images_sha256=sha256))
    return next(
        (row for row in rows if any(rules.rules_version(t) == version for t in tracks_of(row))),
        None,
    )


def refresh(session: Session, row: Round) -> None:
    """Bring the boards of a round up to date with its facts; a published one never moves."""
    if row.state != "playing":
        return
    tracks = tracks_of(row)
    for track in tracks:
        opposing = [t for t in tracks if t.kind == rules.OPPONENTS[track.kind]]
        standings.refresh(
            session, [_field(session, row, track), *(_field(session, row, t) for t in opposing)]
        )


def _field(session: Session, row: Round, track: Track) -> Field:
    played: Mapping[str, dict[str, Played]] = standings.played(session, track)
    query = (
        select(Submission)
        .join(RoundEntry, RoundEntry.submission_id == Submission.id)
        .where(RoundEntry.round_id == row.id, RoundEntry.track == track.name)
        .order_by(Submission.accepted_at, Submission.id)
    )
    entries = tuple(
        Entry(each.id, each.source == "zoo", each.accepted_at or 0.0, played.get(each.id, {}))
        for each in session.scalars(query)
    )
    ids = tuple(entry.id for entry in entries)
    return Field(track, entries, ids, frozenset(ids))
