"""What owners read: their submissions, the queue, logs. Part of queries.py's interface."""

from __future__ import annotations

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session

from .. import jobs
from .. import schemas as views
from ..errors import NotFound
from ..policy import ANONYMOUS, Actor
from .engine import db_now
from .tables import Attempt, Job, Match, Submission
from .views import PUBLIC_STATES, attempt_view, entry_ref, job_view, when


def submission(session: Session, submission_id: str, actor: Actor) -> views.SubmissionView:
    """One submission as its owner sees it; as anybody does once it is accepted."""
    row = visible(session, submission_id, actor)
    return _submission_views(session, [row], actor)[0]


def submissions(
    session: Session, actor: Actor, *, after: str | None = None, limit: int = 50
) -> views.Page[views.SubmissionView]:
    """The actor's own submissions and its team's, newest first (operators: everybody's)."""
    query = select(Submission).order_by(Submission.id.desc()).limit(limit + 1)
    if not actor.everybodys:
        query = query.where(Submission.account_id.in_([actor.account_id, actor.party]))
    if after is not None:
        query = query.where(Submission.id < after)
    found = list(session.scalars(query))
    return views.Page[views.SubmissionView](
        items=_submission_views(session, found[:limit], actor),
        next=found[limit - 1].id if len(found) > limit else None,
    )


def queue(session: Session, workers: int = 0, actor: Actor | None = None) -> views.QueueView:
    """Everything that waits or runs: the running first, then in the order of the queue."""
    actor = actor or ANONYMOUS
    now = session.execute(select(db_now())).scalar_one()
    order = queue_order(session)
    query = (
        select(Job, Submission)
        .join(Submission, Submission.id == Job.submission_id)
        .where(Job.state.in_(jobs.OPEN))
        .order_by(Job.id)
    )
    found = sorted(session.execute(query).all(), key=lambda pair: order.get(pair[0].id, 0))
    listed = [
        job_view(
            job,
            owner,
            position=order.get(job.id),
            now=now,
            private=actor.sees_private(owner.account_id),
            public_name=owner.state in PUBLIC_STATES,
        )
        for job, owner in found
    ]
    return views.QueueView(
        queued=sum(job.state in jobs.WAITING for job in listed),
        running=sum(job.state in jobs.HELD for job in listed),
        workers=workers,
        jobs=listed,
    )


def logs(session: Session, submission_id: str) -> list[tuple[views.AttemptView, str]]:
    """Attempts in which this submission printed something, oldest first: (attempt, SHA-256)."""
    plays = select(Match.id).where(
        or_(Match.model_id == submission_id, Match.attack_id == submission_id)
    )
    found = session.scalars(
        select(Attempt)
        .join(Job, Job.id == Attempt.job_id)
        .where(or_(Job.submission_id == submission_id, Job.match_id.in_(plays)))
        .order_by(Attempt.started_at)
    )
    listed = [row for row in found if submission_id in row.logs]
    return [(attempt_view(row), row.logs[submission_id]) for row in listed]


def visible(session: Session, submission_id: str, actor: Actor) -> Submission:
    """The submission, if it is accepted, the actor's own, or the actor an operator."""
    row = session.get(Submission, submission_id)
    if row is None or not (row.state in PUBLIC_STATES or actor.sees_private(row.account_id)):
        raise NotFound(f"there is no submission {submission_id!r} that you may see")
    return row


def _submission_views(
    session: Session, rows: list[Submission], actor: Actor
) -> list[views.SubmissionView]:
    now = session.execute(select(db_now())).scalar_one()
    order = queue_order(session)
    by_submission: dict[str, list[Job]] = {}
    query = select(Job).where(Job.submission_id.in_([row.id for row in rows]))
    for job in session.scalars(query.order_by(Job.created_at, Job.id)):
        by_submission.setdefault(job.submission_id, []).append(job)
    made = []
    for row in rows:
        private = actor.sees_private(row.account_id)
        listed = [
            job_view(
                job,
                row,
                position=order.get(job.id),
                now=now,
                private=private,
                public_name=row.state in PUBLIC_STATES,
            )
            for job in by_submission.get(row.id, [])
        ]
        ref = entry_ref(row)
        made.append(
            views.SubmissionView(
                id=row.id,
                name=row.name,
                owner=ref.owner,
                track=row.track,
                kind=ref.kind,
                source=row.source,
                state=row.state,
                reason=row.reason if private else None,
                sha256=row.sha256,
                baseline=ref.baseline,
                position=min((j.position for j in listed if j.position), default=None),
                jobs=listed,
                created_at=when(row.created_at),
                updated_at=when(row.updated_at),
                accepted_at=when(row.accepted_at),
            )
        )
    return made


def queue_order(session: Session) -> dict[str, int]:
    """{job: position} of what is queued, 1 next, by the rule that ``jobs.claim`` goes by.

    Accounts take turns: the one that runs least and was served longest ago comes first.
    """
    share = select(
        Job.account_id,
        func.sum(case((Job.state.in_(jobs.HELD), 1), else_=0)),
        func.coalesce(func.max(Job.started_at), 0.0),
    ).group_by(Job.account_id)
    running: dict[str, int] = {}
    served: dict[str, float] = {}
    for account, held, last in session.execute(share):
        running[account], served[account] = held, last
    waiting: dict[str, list[str]] = {}
    backwards = (Job.priority, Job.created_at.desc(), Job.id.desc())
    queued = select(Job.account_id, Job.id).where(Job.state == "queued")
    for account, job_id in session.execute(queued.order_by(*backwards)):
        waiting.setdefault(account, []).append(job_id)
    order: dict[str, int] = {}
    turn = max(served.values(), default=0.0)
    while waiting:
        account = min(waiting, key=lambda each: (running[each], served[each]))
        order[waiting[account].pop()] = len(order) + 1
        turn += 1.0
        served[account] = turn
        if not waiting[account]:
            del waiting[account]
    return order
