"""Who plays whom: matches against today's opponents, and boards in line with the facts."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import frozen, jobs, rules, scoring, standings
from .db.engine import db_now
from .db.ids import new_id
from .db.tables import Job, Match, Submission
from .db.writes import insert_ignore, serialise

if TYPE_CHECKING:
    from bench.tracks.types import Track

    from .standings import Due

PASSES = 3
"""Rows change who is among the best, and so whom others play, and so their rows. Who is among the
best does not depend on that again."""

PRIORITY = {"validate": 2, "participant": 1, "baseline": 0}
"""Of the jobs of one account: validations first, matches among baselines last."""


def schedule(session: Session, due: Due) -> int:
    """Have a match for each entry that is due with each of its foes; returns how many are new."""
    new = 0
    for entry_id, foe_id in unmatched(session, due):
        entry, foe = (session.get_one(Submission, each) for each in (entry_id, foe_id))
        model, attack = (entry, foe) if due.track.kind == "model" else (foe, entry)
        new += ensure_match(session, due.track, model, attack)
    return new


def unmatched(session: Session, due: Due) -> list[tuple[str, str]]:
    """Pairs of an entry that is due and one of its foes that have no match yet, in order."""
    if not due.entries or not due.foes:
        return []
    mine, theirs = Match.model_id, Match.attack_id
    if due.track.kind != "model":
        mine, theirs = theirs, mine
    version = rules.rules_version(due.track)
    there = select(mine, theirs).where(Match.rules_version == version, theirs.in_(due.foes))
    known = {(entry, foe) for entry, foe in session.execute(there)}
    return sorted({(entry, foe) for entry in due.entries for foe in due.foes} - known)


def settle(session: Session, rules_version: str, touched: Collection[str] | None = None) -> None:
    """Bring boards and matches into line with the facts, for all that these rules concern.

    Args:
        touched: entries of which a match has changed, or that came or went; None: look at all.
    """
    serialise(session, "settle")
    tracks = [scoring.current(session, track) for track in rules.concerned(rules_version)]
    if not tracks:
        found = frozen.round_of(session, rules_version)
        if found is not None:
            frozen.refresh(session, found, touched)
    for _ in range(PASSES):
        before = [standings.opponents(session, track) for track in tracks]
        for track in tracks:
            due = standings.due(session, track, touched)
            schedule(session, due)
            standings.update(session, due)
        if before == [standings.opponents(session, track) for track in tracks]:
            return
        touched = ()  # who has other opponents now is found anew


def cancel_matches(session: Session, submission_id: str) -> None:
    """Cancel every open job of matches that this entry plays in, whoever asked for them.

    Those of rounds go on: what was frozen stays.
    """
    open_jobs = session.scalars(
        select(Job)
        .join(Match, Match.id == Job.match_id)
        .where(
            Job.state.in_(jobs.OPEN),
            Match.round_id.is_(None),
            (Match.model_id == submission_id) | (Match.attack_id == submission_id),
        )
    ).all()
    for job in open_jobs:
        jobs.request_cancel(session, job.id)


def ensure_match(
    session: Session,
    track: Track,
    model: Submission,
    attack: Submission,
    *,
    round_id: str | None = None,
) -> int:
    """Have this match, by the rules of this track; returns 1 when it is new, else 0."""
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
        "round_id": round_id,
        "created_at": db_now(),
    }
    if not insert_ignore(session, Match, [row]):
        return 0
    match = session.get_one(Match, row["id"])
    ours = model if track.kind == "model" else attack
    participant = next((e for e in (model, attack) if e.source != "zoo"), ours)
    return len(enqueue_match(session, match, participant.id, track, repeat=0))


def enqueue_match(
    session: Session, match: Match, submission_id: str, track: Track, repeat: int
) -> list[str]:
    """Queue a match on behalf of a submission; returns the job's id, if it is new."""
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


def _digest(submission: Submission) -> str:
    """What makes an entry the same entry: its id too, since every submission is scored."""
    return f"{submission.id}:{submission.sha256 or submission.spec}"
