"""The stored rows of boards: loaded, and brought up to date from the facts.

Boards count by the current scoring of their tracks. Every change of a row's score or state is kept
in ``board_history``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, defer, undefer

from . import rules, scoring
from .boards import Entry, Fact, Played, best, compute, inputs_hash, scored, standing
from .db.engine import db_now
from .db.tables import BoardHistory, BoardRow, Job, Match, SampleResult, Submission
from .db.writes import append_event, upsert
from .jobs import OPEN
from .plays import images_of
from .schemas import HistoryState, RowState

if TYPE_CHECKING:
    from bench.tracks.types import Scoring, Track


MANY = 500
"""Entries of which it is cheaper to load all matches than to name them in a query."""

Became = tuple[float | None, HistoryState] | None
"""Score and state of a row that changed; None where only what stands beside them did."""


class Stored(NamedTuple):
    """What is known of a row before it is computed again."""

    inputs_hash: str
    opponents: str
    score: float | None
    state: RowState


@dataclass(frozen=True)
class Field:
    """All entries of a track that count.

    ``opponents``: which of them the other side is played against; ``required``: which of those
    must have been played before an entry of the other side has a score.
    """

    track: Track
    entries: tuple[Entry, ...]
    opponents: tuple[str, ...]
    required: frozenset[str]


def load(session: Session, track: Track) -> list[Field]:
    """The field of this track as it scores, then of each track that it is scored against."""
    known: dict[tuple[str, Scoring], dict[str, dict[str, Played]]] = {}

    def field(one: Track) -> Field:
        key = rules.rules_version(one), one.scoring
        if key not in known:
            known[key] = played(session, one)
        entries = _entries(session, one, known[key])
        judges = frozenset(
            entry.id
            for other in rules.opponents(one)
            for entry in _entries(session, other, {})
            if entry.baseline
        )
        own = [entry.id for entry in entries if entry.baseline]
        return Field(one, entries, tuple(own + best(one, entries, judges)), frozenset(own))

    opposing = (scoring.current(session, other) for other in rules.opponents(track))
    return [field(one) for one in (track, *opposing)]


def foes_of(fields: Sequence[Field]) -> tuple[list[str], frozenset[str]]:
    """The opponents of the first field's entries, and which of them must have been played."""
    foes = [foe for field in fields[1:] for foe in field.opponents]
    required = frozenset(foe for field in fields[1:] for foe in field.required)
    return foes, required


def rows_of(fields: Sequence[Field]) -> dict[str, dict[str, Any]]:
    """{entry: the data of its row} of the first field. Pure."""
    foes, required = foes_of(fields)
    track = fields[0].track
    return {entry.id: compute(track, entry, foes, required) for entry in fields[0].entries}


def refresh(session: Session, fields: Sequence[Field]) -> bool:
    """Bring all rows of a board up to date; True, and an event, when any changed."""
    track = fields[0].track
    foes, required = foes_of(fields)
    stored = _stored(session, track)
    present = {entry.id for entry in fields[0].entries}
    changed = _write(session, track, fields[0].entries, foes, required, stored)
    return _tell(session, track, changed, gone=set(stored) - present)


def opponents(session: Session, track: Track) -> tuple[tuple[str, ...], frozenset[str]]:
    """Whom others are played against: a track's baselines and its best; and the baselines alone."""
    entered = select(Submission.id).filter_by(track=track.name, state="accepted")
    order = (Submission.accepted_at, Submission.id)
    own = tuple(session.scalars(entered.where(Submission.source == "zoo").order_by(*order)))
    value = BoardRow.standing.desc() if track.higher_is_better else BoardRow.standing
    leading = (
        entered.join(BoardRow, BoardRow.submission_id == Submission.id)
        .where(
            BoardRow.board == track.name,
            BoardRow.rules_version == rules.board_version(track),
            BoardRow.standing.is_not(None),
            Submission.source != "zoo",
        )
        .order_by(value, *order)
        .limit(track.top_opponents)
    )
    return own + tuple(session.scalars(leading)), frozenset(own)


def out_of_date(
    session: Session, track: Track, touched: Collection[str] | None
) -> tuple[set[str], list[str], frozenset[str]]:
    """Which entries of a track have to be looked at, the foes of all, and the required ones.

    ``touched``: entries of which a match has changed; None: all of them.
    """
    foes: list[str] = []
    required: frozenset[str] = frozenset()
    for other in rules.opponents(track):
        ids, baselines = opponents(session, scoring.current(session, other))
        foes += ids
        required |= baselines
    entered = set(
        session.scalars(select(Submission.id).filter_by(track=track.name, state="accepted"))
    )
    if touched is None:
        return entered, foes, required
    current = select(BoardRow.submission_id).where(
        BoardRow.board == track.name,
        BoardRow.rules_version == rules.board_version(track),
        BoardRow.opponents == _digest(foes, required),
    )
    fresh = set(session.scalars(current)) - set(touched)
    return entered - fresh, foes, required


def update(session: Session, track: Track, touched: Collection[str] | None) -> bool:
    """Bring the rows of a board up to date; True, and an event, when any changed.

    Only entries with a changed match, or that are scored against others than before, are looked at.
    """
    todo, foes, required = out_of_date(session, track, touched)
    entered = select(Submission).filter_by(track=track.name, state="accepted")
    stored = _stored(session, track)
    gone = set(stored) - set(session.scalars(entered.with_only_columns(Submission.id)))
    changed: dict[str, Became] = {}
    if todo:
        found = played(session, track, todo, foes)
        wanted = entered.where(Submission.id.in_(todo)) if len(todo) < MANY else entered
        entries = [
            Entry(row.id, row.source == "zoo", row.accepted_at or 0.0, found.get(row.id, {}))
            for row in session.scalars(wanted.order_by(Submission.accepted_at, Submission.id))
        ]
        changed = _write(session, track, entries, foes, required, stored)
    return _tell(session, track, changed, gone)


def _stored(session: Session, track: Track) -> dict[str, Stored]:
    query = select(
        BoardRow.submission_id,
        BoardRow.inputs_hash,
        BoardRow.opponents,
        BoardRow.score,
        BoardRow.state,
    ).filter_by(board=track.name, rules_version=rules.board_version(track))
    return {
        entry: Stored(digest, opposing, score, state)
        for entry, digest, opposing, score, state in session.execute(query)
    }


def _write(
    session: Session,
    track: Track,
    entries: Iterable[Entry],
    foes: Sequence[str],
    required: frozenset[str],
    stored: Mapping[str, Stored],
) -> dict[str, Became]:
    """Compute and store the rows of these entries; what became of those that changed."""
    opposing = _digest(foes, required)
    changed: dict[str, Became] = {}
    for entry in entries:
        digest = inputs_hash(track, entry, foes, required)
        before = stored.get(entry.id)
        if before is not None and (before.inputs_hash, before.opponents) == (digest, opposing):
            continue
        data = compute(track, entry, foes, required)
        row = {
            "board": track.name,
            "submission_id": entry.id,
            "rules_version": rules.board_version(track),
            "score": data["score"],
            "state": data["state"],
            "standing": standing(track, entry, required),
            "opponents": opposing,
            "data": data,
            "inputs_hash": digest,
            "updated_at": db_now(),
        }
        upsert(session, BoardRow, row)
        became = data["score"], data["state"]
        moved = before is None or (before.score, before.state) != became
        changed[entry.id] = became if moved else None
    return changed


def _tell(session: Session, track: Track, changed: dict[str, Became], gone: set[str]) -> bool:
    """Remove the rows of entries that have left, and tell of all that changed."""
    version = rules.board_version(track)
    for entry in gone:
        session.execute(
            delete(BoardRow).filter_by(board=track.name, rules_version=version, submission_id=entry)
        )
        changed[entry] = (None, "gone")
    if changed:
        told = {"changed": sorted(changed)}
        event = append_event(session, "board", track=track.name, payload=told)
        _remember(session, event, track.name, version, changed)
    return bool(changed)


def _digest(foes: Sequence[str], required: frozenset[str]) -> str:
    return hashlib.sha256("\n".join([*foes, "", *sorted(required)]).encode()).hexdigest()


def _remember(
    session: Session,
    event: int,
    board: str,
    version: str,
    changed: Mapping[str, Became],
) -> None:
    for submission_id, became in changed.items():
        if became is not None:
            score, state = became
            session.add(
                BoardHistory(
                    event_id=event,
                    submission_id=submission_id,
                    board=board,
                    rules_version=version,
                    score=score,
                    state=state,
                )
            )
    session.flush()


def played(
    session: Session,
    track: Track,
    entries: Collection[str] | None = None,
    foes: Collection[str] = (),
) -> dict[str, dict[str, Played]]:
    """{entry: {opponent: match}} of matches by the track's rules, seen from both sides.

    ``entries``: only matches of one of these against one of the ``foes``.
    """
    version, rule = rules.rules_version(track), track.scoring
    load_trace = undefer if rule.queries is not None else defer
    load_norms = undefer if rule.norm is not None else defer
    worst = _worst_cases(track, rule.norm) if rule.norm is not None else {}
    results = (
        select(SampleResult)
        .options(load_trace(SampleResult.trace), load_norms(SampleResult.distances))
        .where(SampleResult.rules_version == version)
        .order_by(SampleResult.match_id, SampleResult.sample)
    )
    jobs = select(Job).join(Match, Match.id == Job.match_id).where(Match.rules_version == version)
    sides = select(Match.id, Match.model_id, Match.attack_id).filter_by(rules_version=version)
    if entries is not None and len(entries) < MANY:
        theirs = (Match.model_id.in_(entries) & Match.attack_id.in_(foes)) | (
            Match.attack_id.in_(entries) & Match.model_id.in_(foes)
        )
        of_theirs = select(Match.id).where(Match.rules_version == version, theirs)
        results = results.where(SampleResult.match_id.in_(of_theirs))
        jobs, sides = jobs.where(theirs), sides.where(theirs)
    loose: dict[str, list[Fact]] = {}
    for row in session.scalars(results):
        loose.setdefault(row.match_id, []).append(fact_of(row, rule))
    facts = {match: scored(found, rule, worst) for match, found in loose.items()}
    latest: dict[str, Job] = {}
    for job in session.scalars(jobs.order_by(Job.repeat)):
        latest[job.match_id or ""] = job
    found: dict[str, dict[str, Played]] = {}
    for match_id, model_id, attack_id in session.execute(sides):
        for mine, foe in ((model_id, attack_id), (attack_id, model_id)):
            state = _match_state(match_id in facts, latest.get(match_id), mine)
            one = Played(match_id, foe, state, facts.get(match_id, ()))
            found.setdefault(mine, {})[foe] = one
    return found


def fact_of(row: SampleResult, rule: Scoring | None = None) -> Fact:
    """What counts of a stored sample result, with what the rule will ask for."""
    traced, measured = rule and rule.queries is not None, rule and rule.norm is not None
    return Fact(
        row.image_id,
        row.clean_correct,
        row.status,
        row.success,
        row.distance,
        row.worst_case,
        row.queries,
        row.sandbox,
        tuple((int(q), float(d)) for q, d in row.trace) if traced else (),
        row.distances if measured else None,
    )


def _worst_cases(track: Track, norm: str) -> dict[str, float]:
    return _worst_of(track.dataset, track.split, track.images, norm)


@lru_cache(maxsize=32)
def _worst_of(dataset: str, split: str, images: int, norm: str) -> dict[str, float]:
    from bench.score import worst_case_distance

    data = images_of(dataset, split, images)
    found = worst_case_distance(data.pixels, norm)
    return {image_id: float(d) for image_id, d in zip(data.ids, found, strict=True)}


def _entries(
    session: Session, track: Track, played: Mapping[str, dict[str, Played]]
) -> tuple[Entry, ...]:
    query = select(Submission).filter_by(track=track.name, state="accepted")
    return tuple(
        Entry(row.id, row.source == "zoo", row.accepted_at or 0.0, played.get(row.id, {}))
        for row in session.scalars(query.order_by(Submission.accepted_at, Submission.id))
    )


def _match_state(has_facts: bool, job: Job | None, mine: str) -> str:
    if has_facts:
        return "done"
    if job is None or job.state in OPEN:
        return "open"
    if job.state == "failed_user":
        return "failed" if job.fault_id == mine else "void"
    return "stopped"
