"""Rounds: freeze the entries of a challenge, play each against each on hidden images, publish.

What was frozen never changes: entries, images, seed and scoring are hashed when the round begins,
and the hash is checked again before anything is published. Until then nobody sees a result.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from . import frozen, hidden, jobs, rules, scoring
from .db.engine import db_now
from .db.ids import new_id
from .db.tables import BoardRow, Job, Match, Round, RoundEntry, Submission
from .db.writes import append_event, serialise
from .errors import Conflict, Invalid, NotFound
from .scheduling import ensure_match

if TYPE_CHECKING:
    from bench.tracks.types import Scoring, Track

    from .storage import Store

IMAGES = 100
"""Hidden images of a round, where the organiser names no number."""


def freeze(
    session: Session,
    store: Store,
    challenge: str,
    name: str,
    *,
    actor: str,
    images: int | None = None,
    file: Path | None = None,
    best: int | None = None,
) -> Round:
    """Begin a round of a challenge with all its accepted entries, and queue its matches.

    Args:
        name: of the round, unlike that of any other of the challenge.
        images: how many; 100, or all of the file, where nothing is said.
        file: hidden images of the organiser's own (`hidden.from_file`).
        best: only so many participants of each track, by their rank now; baselines always play.

    Raises:
        NotFound: no such challenge. Invalid: a bad name or number. Conflict: the name is taken, or
        there is nothing to play.
        UserError: the images can't be had.
    """
    tracks = rules.of_challenge(challenge)
    if not name.strip() or len(name) > 80:
        raise Invalid(f"got the name {name[:80]!r} for a round; wanted 1 to 80 characters")
    if best is not None and best < 1:
        raise Invalid(f"got the best {best} of each track; wanted 1 or more")
    serialise(session, "settle")
    current = [_frozen_rule(scoring.current(session, track)) for track in tracks]
    entries = {track.name: _entries(session, track, best) for track in tracks}
    seed = secrets.randbits(31)
    data = (
        hidden.drawn(tracks[0], images or IMAGES, seed)
        if file is None
        else hidden.from_file(tracks[0], file, images)
    )
    row = Round(
        id=new_id(),
        challenge=challenge,
        name=name.strip(),
        state="playing",
        images=len(data),
        images_sha256=hidden.put(store, data),
        seed=seed,
        scoring={
            track.name: {"number": rule.number, **rule.to_json()}
            for track, rule in zip(tracks, current, strict=True)
        },
        digest="",
        actor=actor,
    )
    frozen_entries = [
        RoundEntry(round_id=row.id, submission_id=each.id, track=track, content=_content(each))
        for track, found in entries.items()
        for each in found
    ]
    row.digest = digest_of(row, frozen_entries)
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(
            f"{challenge} has a round named {name!r} already; give this one another name"
        ) from error
    session.add_all(frozen_entries)
    session.flush()
    if not _pair(session, row, entries):
        raise Conflict(
            f"nothing of {challenge} can be played: there is no model, or no attack; enter some "
            "first"
        )
    append_event(session, "round.frozen", actor=actor, payload=_told(row))
    frozen.refresh(session, row, None)
    return row


def publish(session: Session, round_id: str, actor: str) -> Round:
    """Show the boards of a round to everybody, for good.

    Raises:
        NotFound: no such round. Conflict: a match is missing, or something that was frozen has
        changed.
    """
    row = get(session, round_id)
    if row.state == "published":
        return row
    _require_playing(row)
    entries = session.scalars(select(RoundEntry).filter_by(round_id=row.id)).all()
    if digest_of(row, entries) != row.digest:
        raise Conflict(
            f"what was frozen for the round {row.name!r} is not what its digest {row.digest[:16]} "
            "names any more; restore the database from its backup"
        )
    states = match_states(session, row.id)
    waiting = sum(states[state] for state in jobs.OPEN)
    ours = states["dead"] + states["cancelled"]
    if waiting or ours:
        raise Conflict(
            f"the round {row.name!r} is not over: {waiting} matches wait or run, and {ours} "
            "stopped on our side; run those again (:rerun of the entry) before publishing"
        )
    frozen.refresh(session, row, None)
    row.state = "published"
    row.published_at = session.execute(select(db_now())).scalar_one()
    append_event(session, "round.published", actor=actor, payload=_told(row))
    return row


def drop(session: Session, round_id: str, actor: str) -> Round:
    """Give up a round that was not published; what it has played stays, unseen. Twice is harmless.

    Raises NotFound, or Conflict for a published one.
    """
    row = get(session, round_id)
    if row.state == "dropped":
        return row
    _require_playing(row)
    running = select(Job).join(Match, Match.id == Job.match_id).where(Match.round_id == row.id)
    for job in session.scalars(running.where(Job.state.in_(jobs.OPEN))).all():
        jobs.request_cancel(session, job.id)
    row.state = "dropped"
    append_event(session, "round.dropped", actor=actor, payload=_told(row))
    return row


def get(session: Session, round_id: str) -> Round:
    """The round; raises NotFound."""
    row = session.get(Round, round_id)
    if row is None:
        raise NotFound(f"there is no round {round_id!r}; look at GET /api/v1/challenges")
    return row


def digest_of(row: Round, entries: Iterable[RoundEntry]) -> str:
    """SHA-256 of all that a round freezes."""
    told = {
        "challenge": row.challenge,
        "name": row.name,
        "images": [row.images, row.images_sha256],
        "seed": row.seed,
        "scoring": row.scoring,
        "rules": sorted(rules.rules_version(track) for track in frozen.tracks_of(row)),
        "entries": sorted([e.track, e.submission_id, e.content] for e in entries),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def match_states(session: Session, round_id: str) -> Counter[str]:
    """How many matches of a round are in which state: that of the newest job of each."""
    newest = (
        select(Job.match_id, func.max(Job.repeat).label("repeat"))
        .join(Match, Match.id == Job.match_id)
        .where(Match.round_id == round_id)
        .group_by(Job.match_id)
        .subquery()
    )
    counted = (
        select(Job.state, func.count().label("number"))
        .join(newest, (newest.c.match_id == Job.match_id) & (newest.c.repeat == Job.repeat))
        .group_by(Job.state)
    )
    return Counter({row.state: row.number for row in session.execute(counted)})


def _frozen_rule(track: Track) -> Scoring:
    """The rule of a track, if a round can follow it: worst cases are known in its own norm."""
    if track.scoring.norm is not None:
        raise Conflict(
            f"{track.name} is scored by {track.scoring.norm} distances today, and rounds by "
            f"{track.threat.norm} alone: rescore the board without a norm first"
        )
    return track.scoring


def _entries(session: Session, track: Track, best: int | None) -> list[Submission]:
    query = select(Submission).filter_by(track=track.name, state="accepted")
    found = list(session.scalars(query.order_by(Submission.accepted_at, Submission.id)))
    if best is None:
        return found
    judged = scoring.current(session, track)
    value = BoardRow.score.desc() if track.higher_is_better else BoardRow.score
    ranked = (
        query.with_only_columns(Submission.id)
        .join(BoardRow, BoardRow.submission_id == Submission.id)
        .where(
            BoardRow.board == track.name,
            BoardRow.rules_version == rules.board_version(judged),
            BoardRow.score.is_not(None),
            Submission.source != "zoo",
        )
        .order_by(None)
        .order_by(value, Submission.accepted_at, Submission.id)
        .limit(best)
    )
    chosen = set(session.scalars(ranked))
    return [each for each in found if each.source == "zoo" or each.id in chosen]


def _pair(session: Session, row: Round, entries: dict[str, list[Submission]]) -> int:
    """Queue every match of a round; returns how many there are."""
    tracks = frozen.tracks_of(row)
    models = [each for t in tracks if t.kind == "model" for each in entries[t.name]]
    return sum(
        ensure_match(session, track, model, attack, round_id=row.id)
        for track in tracks
        if track.kind != "model"
        for attack in entries[track.name]
        for model in models
    )


def _content(submission: Submission) -> str:
    return submission.sha256 or submission.spec or ""


def _require_playing(row: Round) -> None:
    if row.state != "playing":
        raise Conflict(f"the round {row.name!r} is {row.state}; that can't be changed any more")


def _told(row: Round) -> dict[str, Any]:
    return {
        "round": row.id,
        "challenge": row.challenge,
        "name": row.name,
        "digest": row.digest,
    }
