"""Boards from facts: a row is a pure function of stored sample results and of who plays whom.

An entry is scored when every baseline has been played; the five best join as they finish. "Best"
is judged by the matches against baselines alone, which all entries share: so the choice of
opponents depends on no score that depends on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, defer

from . import rules
from .db.engine import db_now
from .db.tables import BoardRow, Job, Match, SampleResult, Submission
from .db.writes import append_event, upsert
from .jobs import OPEN

if TYPE_CHECKING:
    from bench.tracks.types import Track

FORMAT = 1
"""Part of every inputs hash: raise it when the meaning of a row's data changes."""


@dataclass(frozen=True)
class Fact:
    """What counts of one sample result."""

    image_id: str
    clean_correct: bool
    status: str
    success: bool
    distance: float | None
    worst_case: float
    queries: int
    sandbox: str

    @property
    def counted(self) -> float:
        """0 for a clean error, the worst case for a failure, else the distance."""
        if self.status == "clean_error":
            return 0.0
        return self.distance if self.success and self.distance is not None else self.worst_case


def fact_of(row: SampleResult) -> Fact:
    """What counts of a stored sample result."""
    return Fact(
        row.image_id,
        row.clean_correct,
        row.status,
        row.success,
        row.distance,
        row.worst_case,
        row.queries,
        row.sandbox,
    )


@dataclass(frozen=True)
class Played:
    """A match as a board sees it: its facts when it is done, else why there are none."""

    match_id: str
    opponent_id: str
    state: str  # "done", "open", "stopped" (ours), "failed" (this entry), "void" (the opponent)
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Entry:
    """An accepted submission and all its matches, by opponent."""

    id: str
    baseline: bool
    accepted_at: float
    played: Mapping[str, Played]


def compute(
    track: Track, entry: Entry, foes: Sequence[str], baselines: frozenset[str]
) -> dict[str, Any]:
    """One row's data from an entry's matches against ``foes``. Pure."""
    matches = [entry.played[foe] for foe in foes if foe in entry.played]
    void = sum(match.state == "void" for match in matches)
    done = [match for match in matches if match.state == "done"]
    row: dict[str, Any] = {
        "score": None,
        "interval": None,
        "clean_accuracy": None,
        "worst_opponent": None,
        "why": None,
        "mean_queries": None,
        "failed_samples": 0,
        "matches_done": len(done),
        "matches_expected": len(foes) - void,
        "isolated": all(f.sandbox != "process" for match in done for f in match.facts),
    }
    if done:
        facts = [fact for match in done for fact in match.facts]
        attacked = [fact for fact in facts if fact.status != "clean_error"]
        row["mean_queries"] = _mean([fact.queries for fact in attacked])
        row["failed_samples"] = sum(not fact.success for fact in attacked)
        if track.kind == "model":
            row["clean_accuracy"] = _mean([fact.clean_correct for fact in done[0].facts])
    state, reason = _state(matches, foes, baselines)
    row["state"], row["reason"] = state, reason
    if state == "scored":
        row.update(_score(track, done))
    return row


def inputs_hash(track: Track, entry: Entry, foes: Sequence[str], baselines: frozenset[str]) -> str:
    """A hash of everything that ``compute`` looks at."""
    inputs = {
        "format": FORMAT,
        "rules": rules.rules_version(track),
        "kind": track.kind,
        "entry": entry.id,
        "foes": list(foes),
        "baselines": sorted(baselines),
        "played": [asdict(entry.played[foe]) for foe in foes if foe in entry.played],
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def best(track: Track, entries: Iterable[Entry], baselines: frozenset[str]) -> list[str]:
    """Ids of the best participants' entries, judged by their matches against baselines alone.

    ``baselines`` are the opposing ones. Ties go to the older entry.
    """
    scored: list[tuple[float, float, str]] = []
    for entry in entries:
        if entry.baseline:
            continue
        row = compute(track, entry, sorted(baselines), baselines)
        if row["score"] is not None:
            sign = -1.0 if track.higher_is_better else 1.0
            scored.append((sign * row["score"], entry.accepted_at, entry.id))
    return [entry_id for _, _, entry_id in sorted(scored)[: track.top_opponents]]


@dataclass(frozen=True)
class Field:
    """All accepted entries of a track, and which of them others are played against."""

    track: Track
    entries: tuple[Entry, ...]
    opponents: tuple[str, ...]

    @property
    def baselines(self) -> frozenset[str]:
        """Ids of the baselines."""
        return frozenset(entry.id for entry in self.entries if entry.baseline)


def load(session: Session, track: Track) -> list[Field]:
    """The field of this track, then of each track that meets it."""
    tracks = [track, *rules.meeting(track)]
    played = _played(session, rules.rules_version(track))
    loose = [_entries(session, one, played) for one in tracks]
    fields = []
    for one, entries in zip(tracks, loose, strict=True):
        foes = frozenset(
            entry.id
            for other, others in zip(tracks, loose, strict=True)
            if other.kind != one.kind
            for entry in others
            if entry.baseline
        )
        own = [entry.id for entry in entries if entry.baseline]
        fields.append(Field(one, entries, tuple(own + best(one, entries, foes))))
    return fields


def foes_of(fields: Sequence[Field]) -> tuple[list[str], frozenset[str]]:
    """Today's opponents of the first field's entries, and which of them are baselines."""
    foes = [foe for field in fields[1:] for foe in field.opponents]
    baselines = frozenset(foe for field in fields[1:] for foe in field.baselines)
    return foes, baselines


def refresh(session: Session, track: Track) -> bool:
    """Bring the stored rows of a board up to date; True, and an event, when any changed."""
    version = rules.rules_version(track)
    fields = load(session, track)
    foes, baselines = foes_of(fields)
    stored = {
        row.submission_id: row
        for row in session.scalars(
            select(BoardRow).filter_by(board=track.name, rules_version=version)
        )
    }
    changed: list[str] = []
    for entry in fields[0].entries:
        digest = inputs_hash(track, entry, foes, baselines)
        before = stored.pop(entry.id, None)
        if before is not None and before.inputs_hash == digest:
            continue
        data = compute(track, entry, foes, baselines)
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
        changed.append(entry.id)
    for gone in stored:
        session.execute(
            delete(BoardRow).filter_by(board=track.name, rules_version=version, submission_id=gone)
        )
        changed.append(gone)
    if changed:
        append_event(session, "board", track=track.name, payload={"changed": sorted(changed)})
    return bool(changed)


def _state(
    matches: Sequence[Played], foes: Sequence[str], baselines: frozenset[str]
) -> tuple[str, str | None]:
    """Whether the row has a score, and in words why not."""
    if any(match.state == "failed" for match in matches):
        return "failed", "failed in a match by its own fault; its author sees how"
    stopped = sum(match.state == "stopped" for match in matches)
    if stopped:
        return "playing", f"{_count(stopped)} stopped on our side; an operator runs them again"
    states = {match.opponent_id: match.state for match in matches}
    missing = sum(states.get(foe, "open") == "open" for foe in foes if foe in baselines)
    if missing:
        return "playing", f"{_count(missing)} against baselines still to be played"
    if not any(state == "done" for state in states.values()):
        return "playing", "there is no opponent yet"
    return "scored", None


def _score(track: Track, done: Sequence[Played]) -> dict[str, Any]:
    """Score, interval, worst opponent and the median sample, of finished matches."""
    from bench.score import attack_score, model_score

    table = [[fact.counted for fact in match.facts] for match in done]
    n = len(table[0])
    medians = [_median_position(row) for row in table]
    values = [_median(row) for row in table]
    if track.kind == "model":
        found = model_score(table)
        worst = min(range(len(done)), key=lambda i: values[i])
        smallest = [min(row[i] for row in table) for i in range(n)]
        sample = _median_position(smallest)
        decisive = found.decisive[sample]
    else:
        found = attack_score(table)
        worst = max(range(len(done)), key=lambda i: values[i])
        decisive, sample = worst, medians[worst]
    return {
        "score": found.value,
        "interval": list(found.interval),
        "worst_opponent": {
            "opponent_id": done[worst].opponent_id,
            "match_id": done[worst].match_id,
            "median_distance": values[worst],
            "median_sample": _sample(done[worst], medians[worst]),
        },
        "why": _sample(done[decisive], sample),
    }


def _sample(match: Played, position: int) -> dict[str, Any]:
    fact = match.facts[position]
    return {
        "image_id": fact.image_id,
        "distance": fact.counted,
        "failed": not fact.success and fact.status != "clean_error",
        "match_id": match.match_id,
        "opponent_id": match.opponent_id,
    }


def _median_position(values: Sequence[float]) -> int:
    """The position of the (lower) median value."""
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    return order[(len(order) - 1) // 2]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _count(matches: int) -> str:
    return "1 match" if matches == 1 else f"{matches} matches"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _entries(
    session: Session, track: Track, played: Mapping[str, dict[str, Played]]
) -> tuple[Entry, ...]:
    query = select(Submission).filter_by(track=track.name, state="accepted")
    return tuple(
        Entry(row.id, row.source == "zoo", row.accepted_at or 0.0, played.get(row.id, {}))
        for row in session.scalars(query.order_by(Submission.accepted_at, Submission.id))
    )


def _played(session: Session, version: str) -> dict[str, dict[str, Played]]:
    """{entry: {opponent: match}} of all matches by these rules, seen from both sides."""
    facts: dict[str, list[Fact]] = {}
    results = (
        select(SampleResult)
        .options(defer(SampleResult.trace), defer(SampleResult.distances))
        .where(SampleResult.rules_version == version)
        .order_by(SampleResult.match_id, SampleResult.sample)
    )
    for row in session.scalars(results):
        facts.setdefault(row.match_id, []).append(fact_of(row))
    latest: dict[str, Job] = {}
    jobs = select(Job).join(Match, Match.id == Job.match_id)
    for job in session.scalars(jobs.where(Match.rules_version == version).order_by(Job.repeat)):
        latest[job.match_id or ""] = job
    found: dict[str, dict[str, Played]] = {}
    sides = select(Match.id, Match.model_id, Match.attack_id).filter_by(rules_version=version)
    for match_id, model_id, attack_id in session.execute(sides):
        for mine, foe in ((model_id, attack_id), (attack_id, model_id)):
            state = _match_state(match_id in facts, latest.get(match_id), mine)
            played = Played(match_id, foe, state, tuple(facts.get(match_id, ())))
            found.setdefault(mine, {})[foe] = played
    return found


def _match_state(has_facts: bool, job: Job | None, mine: str) -> str:
    if has_facts:
        return "done"
    if job is None or job.state in OPEN:
        return "open"
    if job.state == "failed_user":
        return "failed" if job.fault_id == mine else "void"
    return "stopped"
