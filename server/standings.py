"""The stored rows of boards: loaded, and brought up to date from the facts.

Boards count by the current scoring of their tracks. Every change of a row's score or state is kept
in ``board_history``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, defer, undefer

from . import rules, scoring
from .boards import FORMAT, Entry, Fact, Played, compute, inputs_hash, scored, standing
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


class Due(NamedTuple):
    """What a board has to be brought up to date with.

    ``present``: ids of all its entries; ``entries``: those to be looked at; ``foes``: whom each of
    them is scored against; ``required``: which of those must have been played before there is a
    score.
    """

    track: Track
    present: frozenset[str]
    entries: frozenset[str]
    foes: tuple[str, ...]
    required: frozenset[str]


def due(session: Session, track: Track, touched: Collection[str] | None) -> Due:
    """Which entries of a board have to be looked at, and against whom.

    Args:
        track: as it scores (`scoring.current`).
        touched: entries of which a match has changed, looked at along with those that are scored
            against others than before; None: all entries.
    """
    foes: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    for other in rules.opponents(track):
        ids, baselines = opponents(session, scoring.current(session, other))
        foes += ids
        required |= baselines
    entered = select(Submission.id).filter_by(track=track.name, state="accepted")
    return among(session, track, session.scalars(entered), foes, required, touched)


def among(
    session: Session,
    track: Track,
    present: Iterable[str],
    foes: tuple[str, ...],
    required: frozenset[str],
    touched: Collection[str] | None,
) -> Due:
    """As `due`, of a board with these entries and foes."""
    entered = frozenset(present)
    if touched is None:
        return Due(track, entered, entered, foes, required)
    current = select(BoardRow.submission_id).where(
        BoardRow.board == track.name,
        BoardRow.rules_version == rules.board_version(track),
        BoardRow.opponents == _digest(foes, required),
    )
    fresh = set(session.scalars(current)) - set(touched)
    return Due(track, entered, entered - fresh, foes, required)


def entries_of(session: Session, found: Due) -> list[Entry]:
    """The entries to be looked at, with their matches, in the order of their acceptance."""
    if not found.entries:
        return []
    matches = played(session, found.track, found.entries, found.foes)
    query = select(Submission).order_by(Submission.accepted_at, Submission.id)
    some = len(found.entries) < MANY
    rows = session.scalars(
        query.where(Submission.id.in_(found.entries))
        if some
        else query.filter_by(track=found.track.name)
    )
    return [
        Entry(row.id, row.source == "zoo", row.accepted_at or 0.0, matches.get(row.id, {}))
        for row in rows
        if row.id in found.entries
    ]


def rows(session: Session, found: Due) -> dict[str, dict[str, Any]]:
    """{entry: the data of its row}, of the entries to be looked at."""
    return {
        entry.id: compute(found.track, entry, found.foes, found.required)
        for entry in entries_of(session, found)
    }


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


def update(session: Session, found: Due) -> bool:
    """Bring the rows of a board up to date; True, and an event, when any changed."""
    stored = _stored(session, found.track)
    changed = _write(session, found, stored)
    return _tell(session, found.track, changed, gone=set(stored) - found.present)


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


def _write(session: Session, found: Due, stored: Mapping[str, Stored]) -> dict[str, Became]:
    """Compute and store the rows that are due; what became of those that changed."""
    track, foes, required = found.track, found.foes, found.required
    opposing = _digest(foes, required)
    changed: dict[str, Became] = {}
    for entry in entries_of(session, found):
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
            "clean_accuracy": data["clean_accuracy"],
            "mean_queries": data["mean_queries"],
            "isolated": data["isolated"],
            **_bounds(data),
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


def _bounds(data: Mapping[str, Any]) -> dict[str, Any]:
    """The interval of a row, where it is finite, and its worst opponent."""
    lower, upper = data["interval"] or (None, None)
    if not all(bound is not None and math.isfinite(bound) for bound in (lower, upper)):
        lower = upper = None
    worst = data["worst_opponent"]
    return {"lower": lower, "upper": upper, "worst_id": worst and worst["opponent_id"]}


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
    """Of whom rows are scored against and how rows are made; with another, all are due."""
    text = "\n".join([str(FORMAT), *foes, "", *sorted(required)])
    return hashlib.sha256(text.encode()).hexdigest()


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
    entries: Collection[str],
    foes: Collection[str],
) -> dict[str, dict[str, Played]]:
    """{entry: {opponent: match}} of ``entries`` against ``foes``, by the track's rules.

    Seen from both sides; with `MANY` entries or more, others' matches may be among them.
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
    if len(entries) < MANY:
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


def _match_state(has_facts: bool, job: Job | None, mine: str) -> str:
    if has_facts:
        return "done"
    if job is None or job.state in OPEN:
        return "open"
    if job.state == "failed_user":
        return "failed" if job.fault_id == mine else "void"
    return "stopped"
