"""Who plays whom: matches against today's opponents, and boards in line with the facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import boards, jobs, rules
from .db.engine import db_now
from .db.ids import new_id
from .db.tables import Job, Match, Submission
from .db.writes import insert_ignore, serialise

if TYPE_CHECKING:
    from bench.tracks.types import Track

PRIORITY = {"validate": 2, "participant": 1, "baseline": 0}
"""Of the jobs of one account: validations first, matches among baselines last."""


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
    if sum(schedule(session, track) for track in tracks):
        for track in tracks:
            boards.refresh(session, track)


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
