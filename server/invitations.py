"""Codes to sign up with, or to join a team. Each is good once, for a while; it is shown once."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from .accounts import digest
from .db.engine import db_now
from .db.tables import Invitation
from .db.writes import append_event
from .errors import Invalid

DAYS: Final = 14.0
"""How long a code is good where nothing is said."""
LONGEST: Final = 365.0
"""Most days that one may be good for."""


def create(
    session: Session, actor: str, *, team_id: str | None = None, days: float = DAYS
) -> tuple[Invitation, str]:
    """An invitation and its code, which is not kept: to sign up, or to join the team.

    Raises Invalid for a strange number of days.
    """
    if not 0 < days <= LONGEST:
        raise Invalid(f"got {days} days; wanted more than 0 and {LONGEST:.0f} at most")
    code = f"tilti_{secrets.token_urlsafe(24)}"
    now = session.execute(select(db_now())).scalar_one()
    row = Invitation(
        digest=digest(code), team_id=team_id, actor=actor, expires_at=now + days * 86400.0
    )
    session.add(row)
    session.flush()
    append_event(
        session, "invitation.created", actor=actor, payload={"invitation": row.id, "team": team_id}
    )
    return row, code


def redeem(session: Session, code: str, account_id: str) -> Invitation:
    """Use up the invitation of a code. Raises Invalid for one that is not good (any more)."""
    used = session.scalars(
        update(Invitation)
        .where(
            Invitation.digest == digest(code),
            Invitation.used_at.is_(None),
            Invitation.expires_at > db_now(),
        )
        .values(used_by=account_id, used_at=db_now())
        .returning(Invitation)
    ).one_or_none()
    if used is None:
        raise Invalid("this invitation is unknown, used or expired; ask for another one")
    return used
