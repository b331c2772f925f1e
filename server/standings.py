"""The stored rows of boards: loaded, and brought up to date from the facts.

Boards count by the current scoring of their tracks. Every change of a row's score or state is kept
in ``board_history``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, defer, undefer

from . import rules, scoring
from .boards import Entry, Fact, Played, best, compute, inputs_hash, scored
from .db.engine import db_now
from .db.tables import BoardHistory, BoardRow, Job, Match, SampleResult, Submission
from .db.writes import append_event, upsert
from .jobs import OPEN
from .plays import images_of
from .schemas import HistoryState

if TYPE_CHECKING:
    from bench.tracks.types import Scoring, Track


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
    """Bring the stored rows of a board up to date; True, and an event, when any changed."""
    track = fields[0].track
    version = rules.board_version(track)
    foes, required = foes_of(fields)
    stored = {
        row.submission_id: row
        for row in session.scalars(
            select(BoardRow).filter_by(board=track.name, rules_version=version)
        )
    }
    changed: dict[str, tuple[float | None, HistoryState] | None] = {}
    for entry in fields[0].entries:
        digest = inputs_hash(track, entry, foes, required)
        before = stored.pop(entry.id, None)
        if before is not None and before.inputs_hash == digest:
            continue
        data = compute(track, entry, foes, required)
        moved = before is None or (before.score, before.data["state"]) != (
            data["score"],
            data["state"],
        )
        row = {
            "board": track.name,
            "submission_id": entry.id,
            "rules_version": version,
            "score": data["score"],
            "data": data,
            "inputs_hash": digest,
            "updated_at": db_now(),
        }
        upsert(session, BoardRow, row)
        changed[entry.id] = (data["score"], data["state"]) if moved else None
    for gone in stored:
        session.execute(
            delete(BoardRow).filter_by(board=track.name, rules_version=version, submission_id=gone)
        )
        changed[gone] = (None, "gone")
    if changed:
        event = append_event(
            session, "board", track=track.name, payload={"changed": sorted(changed)}
        )
        _remember(session, event, track.name, version, changed)
    return bool(changed)


def _remember(
    session: Session,
    event: int,
    board: str,
    version: str,
    changed: Mapping[str, tuple[float | None, HistoryState] | None],
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


def played(session: Session, track: Track) -> dict[str, dict[str, Played]]:
    """{entry: {opponent: match}} of all matches by the track's rules, seen from both sides."""
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
    loose: dict[str, list[Fact]] = {}
    for row in session.scalars(results):
        loose.setdefault(row.match_id, []).append(fact_of(row, rule))
    facts = {match: scored(found, rule, worst) for match, found in loose.items()}
    latest: dict[str, Job] = {}
    jobs = select(Job).join(Match, Match.id == Job.match_id)
    for job in session.scalars(jobs.where(Match.rules_version == version).order_by(Job.repeat)):
        latest[job.match_id or ""] = job
    found: dict[str, dict[str, Played]] = {}
    sides = select(Match.id, Match.model_id, Match.attack_id).filter_by(rules_version=version)
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
