"""Two writes that need a dialect's own words: insert-or-ignore, and an event without a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from .tables import Base, Event

_LOCKS = {"event": 0x7117_0001, "settle": 0x7117_0003}


def serialise(session: Session, what: Literal["event", "settle"]) -> None:
    """Let one transaction at a time do this, until it commits. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCKS[what]})


def insert_ignore(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> int:
    """``INSERT ... ON CONFLICT DO NOTHING``; returns how many rows were new.

    All rows name the same columns. One is inserted by itself, as its values may be expressions
    (``db_now()``); of several all values are plain, and they go in one statement.
    """
    if not rows:
        return 0
    keys = table.__table__.primary_key
    statement = _insert(session, table).on_conflict_do_nothing().returning(*keys)
    if len(rows) == 1:
        return len(session.execute(statement.values(**rows[0])).all())
    return len(session.execute(statement, [dict(row) for row in rows]).all())


def upsert(session: Session, table: type[Base], row: Mapping[str, Any]) -> None:
    """Insert by primary key, or overwrite every other given column."""
    keys = [column.name for column in table.__table__.primary_key]
    values = {name: value for name, value in row.items() if name not in keys}
    statement = _insert(session, table).values(**row)
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))


def append_event(
    session: Session,
    kind: str,
    *,
    track: str | None = None,
    submission_id: str | None = None,
    actor: str | None = None,
    payload: Mapping[str, Any] | None = None,
) -> int:
    """Append to the event table; ids count up by one in the order of commit.

    Writers queue here until they commit (SQLite has one writer anyway), so that a reader who has
    seen event n will never miss a smaller one that commits later.
    """
    serialise(session, "event")
    number = (session.scalar(select(func.max(Event.id))) or 0) + 1
    session.execute(
        insert(Event).values(
            id=number,
            kind=kind,
            track=track,
            submission_id=submission_id,
            actor=actor,
            payload=dict(payload or {}),
        )
    )
    return number


def _insert(session: Session, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
