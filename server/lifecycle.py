"""The life of a submission: entered, validated, accepted, played, withdrawn.

All functions take a writing session and leave the commit to its block, so that a submission, its
quota, its jobs and its events appear together or not at all.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from . import challenges, jobs, quota, rules, scoring, standings
from .accounts import baseline_account
from .db.engine import Database, db_now
from .db.ids import new_id
from .db.tables import Job, Match, Round, Submission, Upload
from .db.writes import append_event, insert_ignore
from .errors import Conflict, Invalid, NotFound
from .policy import Actor
from .scheduling import PRIORITY, cancel_matches, enqueue_match, settle, unmatched
from .schemas import Source, SubmissionRequest, SubmissionState

if TYPE_CHECKING:
    from bench.tracks.types import Track

__all__ = [
    "accept",
    "cancel",
    "enter",
    "enter_baselines",
    "job_ended",
    "move",
    "reject",
    "rerun",
    "settle",
    "submit",
    "withdraw",
]

MOVES: Final[dict[SubmissionState, frozenset[SubmissionState]]] = {
    "uploading": frozenset({"validating", "rejected"}),
    "validating": frozenset({"accepted", "rejected"}),
    "accepted": frozenset({"withdrawn", "disqualified"}),
    "rejected": frozenset({"validating"}),  # only by rerun, after a failure of ours or a cancel
    "withdrawn": frozenset(),
    "disqualified": frozenset(),
}
"""From each state of a submission, the states that may follow."""

PUBLIC_NAMES = ("accepted", "withdrawn", "disqualified")
"""States whose events may name the submission: everybody reads a board's events."""


def enter_baselines(session: Session, *, slow: bool = False) -> list[Submission]:
    """Enter the zoo models and baseline attacks of open challenges; those there already stay.

    They are ours: accepted at once, without a sandbox. Returns the new ones.

    Args:
        slow: also those whose matches take minutes.
    """
    owner = baseline_account(session)
    fresh: list[Submission] = []
    taking = [name for name, row in challenges.listed(session).items() if row.closed_at is None]
    tracks = [track for name in taking for track in rules.of_challenge(name)]
    for track in tracks:
        for baseline in track.baselines:
            if baseline.slow and not slow:
                continue
            row = {
                "id": new_id(),
                "account_id": owner.id,
                "name": baseline.title,
                "track": track.name,
                "kind": track.kind,
                "source": "zoo",
                "spec": baseline.spec,
                "state": "accepted",
                "created_at": db_now(),
                "updated_at": db_now(),
                "accepted_at": db_now(),
            }
            if insert_ignore(session, Submission, [row]):
                fresh.append(session.get_one(Submission, row["id"]))
    for submission in fresh:
        _announce(session, submission, actor=None)
    for version in sorted({rules.rules_version(track) for track in tracks}):
        settle(session, version, {submission.id for submission in fresh})
    return fresh


def settle_all(session: Session) -> None:
    """Bring every board of a challenge that was opened here into line with who plays whom today.

    Rows that were made otherwise than today's are made anew, and matches that are missing are
    queued; what matches have changed meanwhile is in the outbox.
    """
    tracks = challenges.tracks(session)
    lacking = {
        entry
        for track in tracks
        for entry, _ in unmatched(
            session, standings.due(session, scoring.current(session, track), None)
        )
    }
    for version in sorted({rules.rules_version(track) for track in tracks}):
        settle(session, version, lacking)


def enter(
    database: Database,
    actor: Actor,
    request: SubmissionRequest,
    source: Source,
    idempotency_key: str | None,
) -> str:
    """``submit`` in a transaction of its own; returns the submission's id."""
    for last in (False, True):
        try:
            with database.write() as session:
                return submit(session, actor, request, source, idempotency_key).id
        except IntegrityError:  # the same key at the same moment: the other request has won
            if last or idempotency_key is None:
                raise
    raise AssertionError("unreachable")


def submit(
    session: Session,
    actor: Actor,
    request: SubmissionRequest,
    source: Source,
    idempotency_key: str | None,
) -> Submission:
    """Enter an uploaded file: quota, submission and its validation job in one transaction.

    A member of a team enters it for the team.

    With an idempotency key that this account, or its team, used before, the submission made then
    is returned.
    Raises NotFound (track, upload), Invalid, Conflict (key reused) or QuotaSpent.
    """
    assert actor.party is not None
    body_hash = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
    if idempotency_key is not None:
        earlier = session.scalars(
            select(Submission).filter_by(account_id=actor.party, idempotency_key=idempotency_key)
        ).one_or_none()
        if earlier is not None:
            if earlier.idempotency_hash != body_hash:
                raise Conflict(
                    f"Idempotency-Key {idempotency_key!r} was used for another submission; "
                    "use a new key for a new submission"
                )
            return earlier
    track = rules.track(request.track)
    challenges.require_open(session, track.challenge)
    upload = session.get(Upload, request.upload)
    if upload is None or upload.account_id != actor.account_id:
        raise NotFound(f"no upload {request.upload!r} of yours; start with POST /api/v1/uploads")
    if upload.sha256 is None:
        raise Conflict(
            f"upload {upload.id} holds {upload.received} of {upload.length} bytes; "
            "send the rest with PATCH first"
        )
    limit = track.limits.image_mib * 2**20
    if upload.length > limit:
        raise Invalid(f"the upload has {upload.length} bytes; {track.name} takes {limit} at most")
    submission = Submission(
        account_id=actor.party,
        submitted_by=actor.account_id,
        name=request.name,
        track=track.name,
        kind=track.kind,
        source=source,
        sha256=upload.sha256,
        state="validating",
        idempotency_key=idempotency_key,
        idempotency_hash=body_hash,
    )
    quota.require_room(session, submission, track.limits.in_flight)
    session.add(submission)
    session.flush()
    quota.reserve(session, submission, track.limits.submissions_per_day)
    _enqueue_validation(session, submission, track)
    _announce(session, submission, actor=actor.name)
    return submission


def accept(session: Session, submission_id: str) -> None:
    """validating -> accepted, with its matches against today's opponents.

    One that is not being validated any more stays as it is.
    """
    if _is_validating(session, submission_id):
        submission = move(session, submission_id, "accepted", accepted_at=db_now())
        settle(session, rules.rules_version(rules.track(submission.track)), {submission_id})


def reject(session: Session, submission_id: str, reason: str) -> None:
    """validating -> rejected, with a reason that its author can act on.

    One that is not being validated any more stays as it is.
    """
    if _is_validating(session, submission_id):
        move(session, submission_id, "rejected", reason=reason)


def cancel(session: Session, submission: Submission, actor: Actor) -> None:
    """Stop the validation of a submission; it is rejected. Calling it again changes nothing.

    Raises Conflict for an accepted one: its matches count for others too, so it can only be
    withdrawn as a whole.
    """
    if submission.state == "accepted":
        raise Conflict("the submission is accepted; use :withdraw to take it off the boards")
    for job in _open_jobs(session, submission.id):
        if jobs.request_cancel(session, job.id) == "cancelled":
            job_ended(session, session.get_one(Job, job.id), ours=False)
        append_event(
            session, "submission.cancel", track=submission.track,
            submission_id=submission.id, actor=actor.name,
        )  # fmt: skip


def withdraw(session: Session, submission: Submission, actor: Actor) -> Submission:
    """accepted -> withdrawn: off the boards for good; its facts stay. Twice is harmless."""
    if submission.state == "withdrawn":
        return submission
    moved = move(session, submission.id, "withdrawn", actor=actor.name)
    cancel_matches(session, submission.id)
    settle(session, rules.rules_version(rules.track(submission.track)), {submission.id})
    return moved


def rerun(session: Session, submission: Submission, actor: Actor) -> list[str]:
    """Run again what our side failed or what was cancelled; costs nothing. Returns job ids.

    Raises Conflict when there is nothing of the kind.
    """
    latest = _latest_jobs(session, submission.id)
    failures = {"dead", "cancelled"} | ({"failed_user"} if actor.role == "operator" else set())
    again = [job for job in latest if job.state in failures and _is_wanted(session, job)]
    if not again:
        raise Conflict(
            "nothing of this submission failed by our fault or was cancelled; "
            "submit a mended version instead"
        )
    track = rules.track(submission.track)
    made: list[str] = []
    for job in again:
        if job.kind == "validate":
            move(session, submission.id, "validating", reason=None, actor=actor.name)
            made += _enqueue_validation(session, submission, track, repeat=job.repeat + 1)
        elif job.match_id is not None:
            match = session.get_one(Match, job.match_id)
            made += enqueue_match(session, match, job.submission_id, track, job.repeat + 1)
    return made


def job_ended(session: Session, job: Job, *, ours: bool) -> None:
    """What follows for the submission when a job ended without success.

    ``ours``: our side failed (also when the job will be tried again), so the quota goes back.
    """
    if ours:
        quota.refund(session, job.submission_id)
    if job.state == "dead":
        append_event(session, "job.dead", payload={"job": job.id, "reason": job.reason})
    if job.match_id is not None and job.state not in jobs.OPEN:
        jobs.post(session, job.id, "board", board_changed(session.get_one(Match, job.match_id)))
    if job.kind == "validate" and job.state in ("dead", "cancelled", "failed_user"):
        reason = job.reason or "validation did not finish"
        if job.state == "dead":
            reason = f"our side failed ({reason}); it cost you nothing: ask for a :rerun"
        reject(session, job.submission_id, reason)


def board_changed(match: Match) -> dict[str, Any]:
    """What the outbox is told of a match that has ended."""
    return {"rules_version": match.rules_version, "entries": [match.model_id, match.attack_id]}


def move(
    session: Session,
    submission_id: str,
    target: SubmissionState,
    *,
    actor: str | None = None,
    **values: Any,
) -> Submission:
    """Move a submission by the table; raises Conflict when the table does not allow it."""
    allowed = [state for state, following in MOVES.items() if target in following]
    moved = session.scalars(
        update(Submission)
        .where(Submission.id == submission_id, Submission.state.in_(allowed))
        .values(state=target, updated_at=db_now(), **values)
        .returning(Submission)
        .execution_options(populate_existing=True, synchronize_session=False)
    ).one_or_none()
    if moved is None:
        state = session.scalars(
            select(Submission.state).where(Submission.id == submission_id)
        ).one()
        raise Conflict(
            f"the submission is {state}; only one that is {' or '.join(allowed)} can "
            f"become {target}"
        )
    _announce(session, moved, actor=actor)
    return moved


def _enqueue_validation(
    session: Session, submission: Submission, track: Track, repeat: int = 0
) -> list[str]:
    job_id = jobs.enqueue(
        session,
        key=jobs.key_of(kind="validate", submission=submission.id, repeat=repeat),
        kind="validate",
        submission_id=submission.id,
        account_id=submission.account_id,
        priority=PRIORITY["validate"],
        repeat=repeat,
        run_seconds=track.limits.run_seconds,
    )
    return [job_id] if job_id else []


def _is_validating(session: Session, submission_id: str) -> bool:
    return session.scalar(select(Submission.state).filter_by(id=submission_id)) == "validating"


def _is_wanted(session: Session, job: Job) -> bool:
    """Whether running it again would still count for somebody."""
    if job.match_id is None:
        return session.get_one(Submission, job.submission_id).state == "rejected"
    match = session.get_one(Match, job.match_id)
    if match.round_id is not None:
        return session.get_one(Round, match.round_id).state == "playing"
    return match.model.state == match.attack.state == "accepted"


def _open_jobs(session: Session, submission_id: str) -> list[Job]:
    query = select(Job).where(Job.submission_id == submission_id, Job.state.in_(jobs.OPEN))
    return list(session.scalars(query).all())


def _latest_jobs(session: Session, submission_id: str) -> list[Job]:
    """The newest repeat of each of the submission's own jobs."""
    newest: dict[str, Job] = {}
    query = select(Job).where(Job.submission_id == submission_id).order_by(Job.repeat)
    for job in session.scalars(query).all():
        newest[job.match_id or job.kind] = job
    return list(newest.values())


def _announce(session: Session, submission: Submission, *, actor: str | None) -> None:
    append_event(
        session,
        f"submission.{submission.state}",
        track=submission.track,
        submission_id=submission.id,
        actor=actor,
        payload={"name": submission.name} if submission.state in PUBLIC_NAMES else {},
    )
