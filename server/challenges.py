"""Which challenges this server plays: a data set with its tracks, opened and closed by operators.

An open challenge takes entries. A closed one takes none, and its boards stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from bench.errors import UserError

from . import rules
from .db.engine import db_now
from .db.tables import Challenge
from .db.writes import append_event, insert_ignore
from .errors import Conflict, NotFound

if TYPE_CHECKING:
    from bench.tracks.types import Track


def open_first(session: Session, names: Iterable[str]) -> None:
    """Open challenges that were never opened; those that an operator has closed stay closed.

    Raises UserError for one that does not exist.
    """
    known = rules.challenges()
    for name in names:
        if name not in known:
            raise UserError(f"there is no challenge {name!r}; there are {', '.join(known)}")
        if insert_ignore(session, Challenge, [{"name": name, "opened_at": db_now()}]):
            append_event(session, "challenge.opened", payload={"challenge": name})


def opened(session: Session, name: str, actor: str) -> None:
    """Open a challenge, or open it again. Twice is harmless. Raises NotFound."""
    rules.of_challenge(name)
    row = session.get(Challenge, name)
    if row is not None and row.closed_at is None:
        return
    if row is None:
        session.add(Challenge(name=name))
    else:
        row.closed_at = None
    append_event(session, "challenge.opened", actor=actor, payload={"challenge": name})


def closed(session: Session, name: str, actor: str) -> None:
    """Take no more entries for a challenge; boards and running matches stay. Raises NotFound."""
    row = session.get(Challenge, name)
    if row is None:
        raise NotFound(f"the challenge {name!r} was never opened on this server")
    if row.closed_at is None:
        row.closed_at = session.execute(select(db_now())).scalar_one()
        append_event(session, "challenge.closed", actor=actor, payload={"challenge": name})


def listed(session: Session) -> dict[str, Challenge]:
    """Every challenge that was ever opened here, by name."""
    rows = session.scalars(select(Challenge).order_by(Challenge.opened_at, Challenge.name))
    return {row.name: row for row in rows}


def tracks(session: Session) -> list[Track]:
    """The tracks of all challenges that were ever opened here."""
    return [track for name in listed(session) for track in rules.of_challenge(name)]


def require_open(session: Session, name: str) -> None:
    """Raise Conflict unless the challenge takes entries."""
    row = session.get(Challenge, name)
    if row is not None and row.closed_at is None:
        return
    taking = [each.name for each in listed(session).values() if each.closed_at is None]
    raise Conflict(
        f"the challenge {name!r} takes no entries {'any more' if row else 'on this server'}; "
        f"open are: {', '.join(taking) or 'none'}"
    )
