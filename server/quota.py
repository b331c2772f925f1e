"""Submissions a day: reserved with the submission, given back once when our side failed."""

from __future__ import annotations

import time

from sqlalchemy import distinct, func, select, update
from sqlalchemy.orm import Session

from .db.engine import db_now
from .db.ids import new_id
from .db.tables import Job, QuotaDay, QuotaLedger, Submission
from .db.writes import insert_ignore
from .errors import QuotaSpent
from .jobs import OPEN

SUBMITTED = "submitted"
REFUNDED = "refunded"


def reserve(session: Session, submission: Submission, limit: int) -> None:
    """Take one of today's (UTC) submissions; raises QuotaSpent when there is none left."""
    now = session.execute(select(db_now())).scalar_one()
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    where = {"account_id": submission.account_id, "track": submission.track, "day": day}
    insert_ignore(session, QuotaDay, [{**where, "used": 0}])
    taken = session.execute(
        update(QuotaDay).filter_by(**where).where(QuotaDay.used < limit)
        .values(used=QuotaDay.used + 1).returning(QuotaDay.used)
    ).first()  # fmt: skip
    if taken is None:
        raise QuotaSpent(
            f"{limit} submissions a day are allowed on {submission.track} and today's are used; "
            "the next day starts at 00:00 UTC"
        )
    _enter(session, submission, day, +1, SUBMITTED)


def require_room(session: Session, submission: Submission, limit: int) -> None:
    """Raise QuotaSpent when as many entries of this account wait for their first result."""
    waiting = session.scalar(
        select(func.count(distinct(Submission.id)))
        .join(Job, Job.submission_id == Submission.id)
        .where(
            Submission.account_id == submission.account_id,
            Submission.track == submission.track,
            Job.kind == "validate",
            Job.state.in_(OPEN),
        )
    )
    if waiting is not None and waiting >= limit:
        raise QuotaSpent(
            f"{waiting} of your submissions on {submission.track} are being tried, and {limit} at "
            "a time are allowed; wait for one of them, or :cancel it"
        )


def refund(session: Session, submission_id: str) -> bool:
    """Give the submission's quota back; False when it cost nothing or was refunded before."""
    entry = session.scalars(
        select(QuotaLedger).filter_by(submission_id=submission_id, reason=SUBMITTED)
    ).one_or_none()
    submission = session.get(Submission, submission_id)
    if entry is None or submission is None:
        return False
    if not _enter(session, submission, entry.day, -1, REFUNDED):
        return False
    session.execute(
        update(QuotaDay)
        .filter_by(account_id=entry.account_id, track=entry.track, day=entry.day)
        .values(used=QuotaDay.used - 1)
    )
    return True


def _enter(session: Session, submission: Submission, day: str, amount: int, reason: str) -> bool:
    row = {
        "id": new_id(),
        "submission_id": submission.id,
        "account_id": submission.account_id,
        "track": submission.track,
        "day": day,
        "amount": amount,
        "reason": reason,
        "created_at": db_now(),
    }
    return insert_ignore(session, QuotaLedger, [row]) == 1
