"""The rules of a round, from its row: the challenge's tracks on hidden images, with frozen scoring.

And its boards: every entry of one side is scored against every entry of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import hidden, rules, scoring, standings
from .db.tables import Round, RoundEntry, Submission

if TYPE_CHECKING:
    from bench.tracks.types import Track

    from .standings import Due


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


def refresh(session: Session, row: Round, touched: Collection[str] | None) -> None:
    """Bring the boards of a round up to date with its facts; a published one never moves.

    Args:
        touched: entries of which a match has changed; None: look at all.
    """
    if row.state != "playing":
        return
    for due in dues(session, row, touched):
        standings.update(session, due)


def dues(session: Session, row: Round, touched: Collection[str] | None) -> Iterator[Due]:
    """What each board of a round has to be brought up to date with; as in `standings.due`."""
    tracks = tracks_of(row)
    entered = {track.name: _entered(session, row, track) for track in tracks}
    for track in tracks:
        opposing = [t for t in tracks if t.kind == rules.OPPONENTS[track.kind]]
        foes = tuple(foe for t in opposing for foe in entered[t.name])
        present = entered[track.name]
        yield standings.among(session, track, present, foes, frozenset(foes), touched)


def _entered(session: Session, row: Round, track: Track) -> list[str]:
    query = (
        select(Submission.id)
        .join(RoundEntry, RoundEntry.submission_id == Submission.id)
        .where(RoundEntry.round_id == row.id, RoundEntry.track == track.name)
        .order_by(Submission.accepted_at, Submission.id)
    )
    return list(session.scalars(query))
