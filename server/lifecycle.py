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

from . import boards, jobs, quota, rules
from .accounts import Actor, baseline_account
from .db.engine import Database, db_now
from .db.ids import new_id
from .db.tables import Job, Match, Submission, Upload
from .db.writes import append_event, insert_ignore, serialise
from .errors import Conflict, Invalid, NotFound
from .schemas import Source, SubmissionRequest, SubmissionState

if TYPE_CHECKING:
    from bench.tracks.types import Track

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

PRIORITY = {"validate": 2, "participant": 1, "baseline": 0}


def enter_baselines(session: Session) -> list[Submission]:
    """Enter every zoo model and baseline attack of every track; those there already stay.

    They are ours: accepted at once, without a sandbox. Returns the new ones.
    """
    owner = baseline_account(session)
    fresh: list[Submission] = []
    for track in rules.tracks().values():
        specs = track.baseline_models if track.kind == "model" else track.baseline_attacks
        for spec in specs:
            row = {
                "id": new_id(),
                "account_id": owner.id,
                "name": spec,
                "track": track.name,
                "kind": track.kind,
                "source": "zoo",
                "spec": spec,
                "state": "accepted",
                "created_at": db_now(),
                "updated_at": db_now(),
                "accepted_at": db_now(),
            }
            if insert_ignore(session, Submission, [row]):
                fresh.append(session.get_one(Submission, row["id"]))
    for submission in fresh:
        _announce(session, submission, actor=None)
    for version in sorted({rules.rules_version(track) for track in rules.tracks().values()}):
        settle(session, version)
    return fresh


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

    With an idempotency key that this account used before, the submission made then is returned.
    Raises NotFound (track, upload), Invalid, Conflict (key reused) or QuotaSpent.
    """
    assert actor.account_id is not None
    body_hash = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
    if idempotency_key is not None:
        earlier = session.scalars(
            select(Submission).filter_by(
                account_id=actor.account_id, idempotency_key=idempotency_key
            )
        ).one_or_none()
        if earlier is not None:
            if earlier.idempotency_hash != body_hash:
                raise Conflict(
                    f"Idempotency-Key {idempotency_key!r} was used for another submission; "
                    "use a new key for a new submission"
                )
            return earlier
    track = rules.track(request.track)
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
        account_id=actor.account_id,
        name=request.name,
        track=track.name,
        kind=track.kind,
        source=source,
        sha256=upload.sha256,
        state="validating",
        idempotency_key=idempotency_key,
        idempotency_hash=body_hash,
    )
    session.add(submission)
    session.flush()
    quota.reserve(session, submission, track.limits.submissions_per_day)
    _enqueue_validation(session, submission, track)
    _announce(session, submission, actor=actor.name)
    return submission


def accept(session: Session, submission_id: str) -> Submission:
    """validating -> accepted, with its matches against today's opponents."""
    submission = move(session, submission_id, "accepted", accepted_at=db_now())
    settle(session, rules.rules_version(rules.track(submission.track)))
    return submission


def reject(session: Session, submission_id: str, reason: str) -> Submission:
    """validating -> rejected, with a reason that its author can act on."""
    return move(session, submission_id, "rejected", reason=reason)


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
    settle(session, rules.rules_version(rules.track(submission.track)))
    return moved


def rerun(session: Session, submission: Submission, actor: Actor) -> list[str]:
    """Run again what our side failed or what was cancelled; costs nothing. Returns job ids.

    Raises Conflict when there is nothing of the kind.
    """
    latest = _latest_jobs(session, submission.id)
    again = [job for job in latest if job.state in ("dead", "cancelled")]
    if actor.role == "operator":
        again += [job for job in latest if job.state == "failed_user"]
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
            made += _enqueue_match(session, match, job.submission_id, track, job.repeat + 1)
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
        version = session.get_one(Match, job.match_id).rules_version
        jobs.post(session, job.id, "board", {"rules_version": version})
    if job.kind == "validate" and job.state in ("dead", "cancelled", "failed_user"):
        reason = job.reason or "validation did not finish"
        if job.state == "dead":
            reason = f"our side failed ({reason}); it cost you nothing: ask for a :rerun"
        reject(session, job.submission_id, reason)


def schedule(session: Session, track: Track) -> int:
    """Have a match for each accepted entry of this track with each of today's opponents.

    Opponents are all baselines and the five best of the tracks that meet this one; the entries of
    those tracks meet this one's likewise. Returns how many matches are new.
    """
    fields = boards.load(session, track)
    mine, others = fields[0], fields[1:]
    pairs: set[tuple[str, str]] = set()
    for other in others:
        pairs |= {(entry.id, foe) for entry in mine.entries for foe in other.opponents}
        pairs |= {(foe, entry.id) for entry in other.entries for foe in mine.opponents}
    return sum(_ensure_match(session, track, first, second) for first, second in sorted(pairs))


def settle(session: Session, rules_version: str) -> None:
    """Bring boards and matches into line with the facts, for all tracks of these rules."""
    serialise(session, "settle")
    tracks = rules.sharing(rules_version)
    for track in tracks:
        boards.refresh(session, track)
    for track in tracks[:1]:
        if schedule(session, track):
            for one in tracks:
                boards.refresh(session, one)


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


def cancel_matches(session: Session, submission_id: str) -> None:
    """Cancel every open job of matches that this entry plays in, whoever asked for them."""
    open_jobs = session.scalars(
        select(Job)
        .join(Match, Match.id == Job.match_id)
        .where(
            Job.state.in_(jobs.OPEN),
            (Match.model_id == submission_id) | (Match.attack_id == submission_id),
        )
    ).all()
    for job in open_jobs:
        jobs.request_cancel(session, job.id)


def _ensure_match(session: Session, track: Track, first_id: str, second_id: str) -> int:
    first, second = (session.get_one(Submission, each) for each in (first_id, second_id))
    model, attack = (first, second) if first.kind == "model" else (second, first)
    version = rules.rules_version(track)
    row = {
        "id": new_id(),
        "model_id": model.id,
        "attack_id": attack.id,
        "rules_version": version,
        "dataset": track.dataset,
        "split": track.split,
        "images": track.images,
        "seed": track.seed,
        "created_at": db_now(),
    }
    if not insert_ignore(session, Match, [row]):
        return 0
    match = session.get_one(Match, row["id"])
    participant = next((e for e in (model, attack) if e.source != "zoo"), model)
    return len(_enqueue_match(session, match, participant.id, track, repeat=0))


def _enqueue_match(
    session: Session, match: Match, submission_id: str, track: Track, repeat: int
) -> list[str]:
    submission = session.get_one(Submission, submission_id)
    key = jobs.key_of(
        kind="match",
        model=_digest(match.model),
        attack=_digest(match.attack),
        rules=match.rules_version,
        seed=match.seed,
        repeat=repeat,
    )
    job_id = jobs.enqueue(
        session,
        key=key,
        kind="match",
        submission_id=submission.id,
        account_id=submission.account_id,
        match_id=match.id,
        priority=PRIORITY["baseline" if submission.source == "zoo" else "participant"],
        repeat=repeat,
        run_seconds=track.limits.run_seconds,
    )
    return [job_id] if job_id else []


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


def _digest(submission: Submission) -> str:
    """What makes an entry the same entry: its id too, since every submission is scored."""
    return f"{submission.id}:{submission.sha256 or submission.spec}"


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
