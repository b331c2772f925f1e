"""The job protocol: SQL is the record, whatever runs the job is not.

A worker *claims* a job (a lease by the database's clock and a new fence), *begins* it, *beats*
while it runs, and *finishes* it in one transaction with everything the job found out. Each step is
one UPDATE guarded by id, fence and state: a worker that was superseded writes nothing. A lease
that ran out goes back to the queue. A job that a submission failed is never run again; one that we
failed is, after a pause.

All functions take a writing session (``Database.write``) and leave the commit to its block.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from .db.engine import db_now
from .db.ids import new_id
from .db.tables import Attempt, Job, Outbox
from .db.writes import insert_ignore
from .schemas import JobKind, JobState

MOVES: Final[dict[JobState, frozenset[JobState]]] = {
    "blocked": frozenset({"queued", "dead", "cancelled"}),
    "queued": frozenset({"leased", "dead", "cancelled"}),
    "leased": frozenset({"running", "queued", "dead", "cancelled"}),
    "running": frozenset({"succeeded", "failed_user", "queued", "dead", "cancelled"}),
    "succeeded": frozenset(),
    "failed_user": frozenset(),
    "dead": frozenset(),
    "cancelled": frozenset(),
}
"""From each state, the states that may follow. The only place where moves are written down."""

WAITING: Final = ("blocked", "queued")
HELD: Final = ("leased", "running")
OPEN: Final = (*WAITING, *HELD)
RETRIES = 3
"""Failures of ours after which a job is tried again; the next one is its last."""
LEASES = 3
"""A job that outlives this many of its workers is suspected of killing them."""
BACK_OFF_SECONDS = 5.0
"""Pause after our first failure; three times longer after each further one, up to 50 % jitter."""
QUEUE_SECONDS = 7 * 86400.0
"""A job that is not done by then is given up and says so."""


class Superseded(Exception):
    """Another worker holds the job now, or it has ended: roll back and discard."""


@dataclass(frozen=True)
class Held:
    """A claimed job, as its worker knows it."""

    job_id: str
    fence: int
    kind: JobKind
    submission_id: str
    match_id: str | None
    run_seconds: float


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat."""

    ours: bool
    cancel: bool


def sources(target: JobState) -> list[JobState]:
    """The states from which ``target`` may be reached in one move."""
    return [state for state, following in MOVES.items() if target in following]


def key_of(**parts: Any) -> str:
    """The unique key of a job: a hash of all that makes it the same job."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def enqueue(
    session: Session,
    *,
    key: str,
    kind: JobKind,
    submission_id: str,
    account_id: str,
    run_seconds: float,
    match_id: str | None = None,
    priority: int = 0,
    repeat: int = 0,
    blocked: bool = False,
) -> str | None:
    """Add a job and return its id, or None when one with this key is there already."""
    job_id = new_id()
    row = {
        "id": job_id,
        "key": key,
        "kind": kind,
        "state": "blocked" if blocked else "queued",
        "submission_id": submission_id,
        "account_id": account_id,
        "match_id": match_id,
        "priority": priority,
        "repeat": repeat,
        "run_seconds": run_seconds,
        "run_after": db_now(),
        "deadline": db_now() + QUEUE_SECONDS,
        "created_at": db_now(),
    }
    return job_id if insert_ignore(session, Job, [row]) else None


def unblock(session: Session, job_id: str) -> bool:
    """blocked -> queued; False when it was not blocked."""
    return _move(session, "queued", Job.id == job_id, Job.state == "blocked") is not None


def claim(session: Session, *, owner: str, host: str, lease_seconds: float) -> Held | None:
    """Lease the next job, or None when nothing may run now.

    Next is the job of the account that has the fewest running, then of the one served longest ago
    (so that five hundred submissions of one team do not starve another's single one), then by
    priority and age.
    """
    share = (
        select(
            Job.account_id.label("account_id"),
            func.sum(case((Job.state.in_(HELD), 1), else_=0)).label("running"),
            func.max(Job.started_at).label("served"),
        )
        .group_by(Job.account_id)
        .subquery()
    )
    chosen = session.scalar(
        select(Job.id)
        .join(share, share.c.account_id == Job.account_id)
        .where(Job.state == "queued", Job.run_after <= db_now(), Job.deadline > db_now())
        .order_by(
            share.c.running,
            func.coalesce(share.c.served, 0.0),
            Job.priority.desc(),
            Job.created_at,
            Job.id,
        )
        .limit(1)
        .with_for_update(skip_locked=True, of=Job)
    )
    if chosen is None:
        return None
    job = _move(
        session,
        "leased",
        Job.id == chosen,
        fence=Job.fence + 1,
        owner=owner,
        lease_until=db_now() + lease_seconds,
        started_at=db_now(),
        reason=None,
    )
    if job is None:
        return None
    session.add(Attempt(job_id=job.id, fence=job.fence, worker=owner, host=host))
    session.flush()
    return Held(job.id, job.fence, job.kind, job.submission_id, job.match_id, job.run_seconds)


def begin(session: Session, job_id: str, fence: int) -> None:
    """leased -> running, the first thing a worker does. Raises Superseded."""
    _fenced(session, "running", job_id, fence)


def beat(session: Session, job_id: str, fence: int, lease_seconds: float) -> Beat:
    """Extend the lease; says whether the job is still ours and whether to cancel it."""
    row = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD))
        .values(lease_until=db_now() + lease_seconds)
        .returning(Job.cancel_requested_at)
    ).first()
    return Beat(ours=row is not None, cancel=row is not None and row[0] is not None)


def succeed(
    session: Session,
    job_id: str,
    fence: int,
    provenance: dict[str, Any],
    logs: dict[str, str] | None = None,
    ledger_sha256: str | None = None,
) -> Job:
    """running -> succeeded. The caller stores what was found in the same transaction.

    ``logs``: {submission id: SHA-256 of what its program printed}, for that one's owner;
    ``ledger_sha256``: of every question of a match.

    Raises Superseded: let it leave the ``write()`` block, which rolls everything back.
    """
    job = _fenced(session, "succeeded", job_id, fence, finished_at=db_now(), reason=None)
    _end_attempt(
        session,
        job_id,
        fence,
        "succeeded",
        None,
        provenance=provenance,
        logs=logs or {},
        ledger_sha256=ledger_sha256,
    )
    return job


def fail_user(
    session: Session,
    job_id: str,
    fence: int,
    reason: str,
    *,
    fault_id: str,
    exit_code: int | None = None,
    oom: bool = False,
    logs: dict[str, str] | None = None,
    provenance: dict[str, Any] | None = None,
) -> Job:
    """running -> failed_user: submission ``fault_id`` failed; never tried again."""
    job = _fenced(
        session,
        "failed_user",
        job_id,
        fence,
        finished_at=db_now(),
        reason=reason,
        fault_id=fault_id,
    )
    _end_attempt(
        session,
        job_id,
        fence,
        "failed_user",
        reason,
        exit_code=exit_code,
        oom=oom,
        logs=logs or {},
        provenance=provenance or {},
    )
    return job


def fail_infra(
    session: Session,
    job_id: str,
    fence: int,
    reason: str,
    provenance: dict[str, Any] | None = None,
) -> Job:
    """Our failure: back to the queue after a pause, or dead when the retries are used up."""
    job = session.scalars(select(Job).where(Job.id == job_id)).one()
    if job.cancel_requested_at is not None:
        return stop_cancelled(session, job_id, fence)
    failures = job.failures + 1
    if failures > RETRIES:
        ended = _fenced(
            session, "dead", job_id, fence,
            failures=failures, finished_at=db_now(), reason=reason,
        )  # fmt: skip
    else:
        ended = _fenced(
            session, "queued", job_id, fence,
            failures=failures, owner=None, lease_until=None, reason=reason,
            run_after=db_now() + pause_seconds(failures),
        )  # fmt: skip
    _end_attempt(session, job_id, fence, "infrastructure", reason, provenance=provenance or {})
    return ended


def pause_seconds(failures: int) -> float:
    """How long to wait after that many failures of ours, with jitter."""
    pause: float = BACK_OFF_SECONDS * 3.0 ** (failures - 1)
    return pause * (1.0 + random.random() / 2.0)


def release(session: Session, job_id: str, fence: int) -> None:
    """Give a job back unharmed (an orderly stop). Raises Superseded."""
    job = session.scalars(select(Job).where(Job.id == job_id)).one()
    if job.cancel_requested_at is not None:
        stop_cancelled(session, job_id, fence)
        return
    _fenced(session, "queued", job_id, fence, owner=None, lease_until=None)
    _end_attempt(session, job_id, fence, "released", None)


def stop_cancelled(session: Session, job_id: str, fence: int) -> Job:
    """The worker has obeyed a cancel request: its sandboxes are gone."""
    job = _fenced(
        session, "cancelled", job_id, fence, finished_at=db_now(), reason="cancelled on request"
    )
    _end_attempt(session, job_id, fence, "cancelled", None)
    return job


def request_cancel(session: Session, job_id: str) -> JobState:
    """Cancel at once what waits, ask the worker to stop what runs; returns the state after it.

    What has ended stays as it is: calling this twice is harmless.
    """
    waiting = _move(
        session, "cancelled", Job.id == job_id, Job.state.in_(WAITING),
        finished_at=db_now(), reason="cancelled on request",
    )  # fmt: skip
    if waiting is None:
        session.execute(
            update(Job)
            .where(Job.id == job_id, Job.state.in_(HELD), Job.cancel_requested_at.is_(None))
            .values(cancel_requested_at=db_now())
        )
    return session.scalars(select(Job.state).where(Job.id == job_id)).one()


def expire(session: Session, *, instance: str | None = None) -> list[Job]:
    """Take back every lease that ran out and give up what is past its deadline.

    With ``instance``: also the running leases of that server, whose process is known to be dead.
    Returns the jobs that ended here (dead, cancelled); the rest are queued again.
    """
    lost: ColumnElement[bool] = Job.lease_until <= db_now()
    if instance is not None:
        lost = or_(lost, Job.owner.startswith(instance + ":", autoescape=True))
    ended: list[Job] = []
    for job in session.scalars(select(Job).where(Job.state.in_(HELD), lost)).all():
        ended += _lose(session, job.id, job.fence, job.leases_lost + 1, lost)
    late = select(Job.id).where(Job.state.in_(WAITING), Job.deadline <= db_now())
    for job_id in session.scalars(late).all():
        moved = _move(
            session, "dead", Job.id == job_id, Job.state.in_(WAITING), Job.deadline <= db_now(),
            finished_at=db_now(),
            reason=f"not run within {QUEUE_SECONDS / 86400:.0f} days; our queue is too long",
        )  # fmt: skip
        ended += [moved] if moved is not None else []
    return ended


def post(session: Session, job_id: str, kind: str, payload: dict[str, Any] | None = None) -> None:
    """Leave something to do after the commit; once for each (job, kind)."""
    row = {
        "id": new_id(),
        "job_id": job_id,
        "kind": kind,
        "payload": payload or {},
        "created_at": db_now(),
    }
    insert_ignore(session, Outbox, [row])


def _lose(
    session: Session, job_id: str, fence: int, leases_lost: int, lost: ColumnElement[bool]
) -> list[Job]:
    """Take one lease back; the guard is asked again, so a beat in between keeps the job."""
    guard = and_(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD), lost)
    reason = "the worker was lost"
    cancelled = _move(
        session, "cancelled", guard, Job.cancel_requested_at.is_not(None),
        finished_at=db_now(), reason="cancelled on request",
    )  # fmt: skip
    job = cancelled
    if job is None and leases_lost >= LEASES:
        reason = f"its worker was lost {leases_lost} times"
        job = _move(
            session, "dead", guard,
            leases_lost=leases_lost, finished_at=db_now(), reason=reason,
        )  # fmt: skip
    if job is None:
        job = _move(
            session, "queued", guard,
            leases_lost=leases_lost, owner=None, lease_until=None, reason=reason,
            run_after=db_now(),
        )  # fmt: skip
    if job is None:
        return []
    _end_attempt(session, job_id, fence, "lease_lost", reason)
    return [job] if job.state in ("dead", "cancelled") else []


def _fenced(session: Session, target: JobState, job_id: str, fence: int, **values: Any) -> Job:
    job = _move(session, target, Job.id == job_id, Job.fence == fence, **values)
    if job is None:
        raise Superseded(f"job {job_id} is no longer held under fence {fence}")
    return job


def _move(
    session: Session, target: JobState, *guards: ColumnElement[bool], **values: Any
) -> Job | None:
    """One guarded UPDATE from the states that MOVES allows; None when no row matched."""
    return session.scalars(
        update(Job)
        .where(Job.state.in_(sources(target)), *guards)
        .values(state=target, **values)
        .returning(Job)
        .execution_options(populate_existing=True, synchronize_session=False)
    ).one_or_none()


def _end_attempt(
    session: Session, job_id: str, fence: int, outcome: str, reason: str | None, **values: Any
) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.fence == fence, Attempt.ended_at.is_(None))
        .values(ended_at=db_now(), outcome=outcome, reason=reason, **values)
        .execution_options(synchronize_session=False)
    )
