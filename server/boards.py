"""Boards from facts: a row is a pure function of facts and of who plays whom (see standings.py).

An entry is scored when every baseline has been played; the five best join as they finish. "Best"
is judged by the matches against baselines alone, which all entries share: so the choice of
opponents depends on no score that depends on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from . import rules

if TYPE_CHECKING:
    from bench.tracks.types import Scoring, Track

FORMAT = 3
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
    trace: tuple[tuple[int, float], ...] = ()
    distances: Mapping[str, float] | None = None

    @property
    def counted(self) -> float:
        """0 for a clean error, the worst case for a failure, else the distance."""
        if self.status == "clean_error":
            return 0.0
        return self.distance if self.success and self.distance is not None else self.worst_case

    @property
    def raw(self) -> float:
        """As counted, but infinite for a failure."""
        failed = self.distance is None and self.status != "clean_error"
        return math.inf if failed else self.counted


def raw_median(facts: Sequence[Fact]) -> float | None:
    """The median of the distances with failures as infinite; None when it is, or without facts."""
    middle = statistics.median(fact.raw for fact in facts) if facts else math.inf
    return middle if math.isfinite(middle) else None


def scored(facts: Iterable[Fact], scoring: Scoring, worst: Mapping[str, float]) -> tuple[Fact, ...]:
    """Facts as a scoring rule counts them, by the image. Pure.

    Args:
        facts: with ``trace`` where the rule counts queries, with ``distances`` where it has a norm.
        worst: {image: distance to its farthest corner} in the rule's norm, where it has one.
    """
    counted = []
    for fact in facts:
        if fact.image_id in scoring.exclude:
            continue
        if scoring.queries is not None and fact.status != "clean_error":
            fact = _after(fact, scoring.queries)
        if scoring.norm is not None:
            measured = (fact.distances or {}).get(scoring.norm)
            fact = replace(fact, distance=measured, worst_case=worst[fact.image_id])
        counted.append(fact)
    return tuple(counted)


def _after(fact: Fact, queries: int) -> Fact:
    """What was known of an image after so many queries."""
    known = [distance for asked, distance in fact.trace if asked <= queries]
    if queries >= fact.queries and fact.success and fact.distance is not None:
        known.append(fact.distance)
    distance = min(known, default=None)
    return replace(
        fact, success=distance is not None, distance=distance, queries=min(fact.queries, queries)
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
    track: Track, entry: Entry, foes: Sequence[str], required: frozenset[str]
) -> dict[str, Any]:
    """One row's data from an entry's matches against ``foes``. Pure.

    There is a score once every foe of ``required`` has been played.
    """
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
        "matches": [
            {
                "opponent_id": match.opponent_id,
                "match_id": match.match_id,
                "state": match.state,
                "median_distance": raw_median(match.facts),
                "isolated": all(fact.sandbox != "process" for fact in match.facts),
            }
            for match in matches
        ],
    }
    if done:
        facts = [fact for match in done for fact in match.facts]
        attacked = [fact for fact in facts if fact.status != "clean_error"]
        row["mean_queries"] = _mean([fact.queries for fact in attacked])
        row["failed_samples"] = sum(not fact.success for fact in attacked)
        if track.kind == "model":
            row["clean_accuracy"] = _mean([fact.clean_correct for fact in done[0].facts])
    state, reason = _state(matches, foes, required)
    row["state"], row["reason"] = state, reason
    if state == "scored":
        row.update(_score(track, done))
    return row


def inputs_hash(track: Track, entry: Entry, foes: Sequence[str], required: frozenset[str]) -> str:
    """A hash of everything that ``compute`` looks at."""
    inputs = {
        "format": FORMAT,
        "rules": rules.board_version(track),
        "kind": track.kind,
        "entry": entry.id,
        "foes": list(foes),
        "required": sorted(required),
        "played": [asdict(entry.played[foe]) for foe in foes if foe in entry.played],
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def standing(track: Track, entry: Entry, baselines: frozenset[str]) -> float | None:
    """The score of an entry against the opposing baselines alone; None until all were played.

    All entries share these opponents: so "the best" depends on no score that depends on it.
    """
    import numpy as np

    matches = [entry.played[foe] for foe in sorted(baselines) if foe in entry.played]
    if _state(matches, sorted(baselines), baselines)[0] != "scored":
        return None
    table = np.array([[f.counted for f in m.facts] for m in matches if m.state == "done"])
    if track.kind == "model":
        return float(np.median(table.min(axis=0)))
    return float(np.median(table, axis=1).mean())


def _state(
    matches: Sequence[Played], foes: Sequence[str], required: frozenset[str]
) -> tuple[str, str | None]:
    """Whether the row has a score, and in words why not."""
    if any(match.state == "failed" for match in matches):
        return "failed", "failed in a match by its own fault; its author sees how"
    stopped = sum(match.state == "stopped" for match in matches)
    if stopped:
        return "playing", f"{_count(stopped)} stopped on our side; an operator runs them again"
    states = {match.opponent_id: match.state for match in matches}
    missing = sum(states.get(foe, "open") == "open" for foe in foes if foe in required)
    if missing:
        return "playing", f"its score still needs {_count(missing)}"
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
