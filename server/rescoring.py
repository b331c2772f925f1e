"""Score a board again by another rule, from the facts alone: nothing is played, no container runs.

First the difference is shown; then that very difference is published, as a new version. A board
that has moved meanwhile has another difference, which must be looked at again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from bench.score import ranks

from . import rules, scoring, standings
from .db.tables import Scoring as Row
from .db.tables import Submission
from .db.views import entry_ref
from .db.writes import append_event, serialise
from .errors import Conflict, Invalid
from .schemas import RescoreView, ScoreChange

if TYPE_CHECKING:
    from bench.tracks.types import Scoring, Track


@dataclass(frozen=True)
class Change:
    """What becomes of one entry; a rank is None without a score."""

    submission_id: str
    old_score: float | None
    new_score: float | None
    old_rank: int | None
    new_rank: int | None


@dataclass(frozen=True)
class Difference:
    """What a new rule would do to a board. ``digest`` names it; publishing asks for it again."""

    track: Track
    proposed: Scoring
    changes: tuple[Change, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the rule and of everything that it changes."""
        told = {
            "track": self.track.name,
            "from": rules.board_version(self.track),
            "rule": self.proposed.to_json(),
            "changes": [
                [c.submission_id, c.old_score, c.new_score, c.old_rank, c.new_rank]
                for c in self.changes
            ],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def difference(session: Session, track_name: str, rule: Mapping[str, Any]) -> Difference:
    """What the board would be by another rule.

    Args:
        rule: "queries", "norm" and "exclude" as in `bench.tracks.types.Scoring`; what is left out
            is as in the track's own rule.

    Raises:
        NotFound: no such track. Invalid: a rule that can't be followed. Conflict: no change.
    """
    track = scoring.current(session, rules.track(track_name))
    proposed = replace(_checked(track, rule), number=track.scoring.number + 1)
    if proposed.to_json() == track.scoring.to_json():
        raise Conflict(f"{track.name} is scored by this rule already; there is nothing to change")
    old, new = (
        standings.rows(session, standings.due(session, judged, None))
        for judged in (track, replace(track, scoring=proposed))
    )
    old_ranks, new_ranks = _ranks(track, old), _ranks(track, new)
    changes = [
        Change(each, old[each]["score"], new[each]["score"], old_ranks[each], new_ranks[each])
        for each in old
    ]
    changes.sort(key=lambda c: (c.new_rank is None, c.new_rank or 0, c.submission_id))
    return Difference(track, proposed, tuple(changes))


def publish(
    session: Session,
    track_name: str,
    rule: Mapping[str, Any],
    *,
    digest: str,
    note: str,
    actor: str,
) -> Difference:
    """Make a rule the board's, and write its rows anew; the rows of before stay with their version.

    Args:
        digest: of the difference that was looked at.
        note: why, for everybody to read.

    Raises:
        Conflict: the board has moved since, so the difference is another one. And as `difference`.
    """
    serialise(session, "settle")
    found = difference(session, track_name, rule)
    if found.digest != digest:
        raise Conflict(
            f"this is not the difference that {digest[:16]} named: the board has moved since; look "
            f"at the new one, and publish {found.digest}"
        )
    number = found.proposed.number
    session.add(
        Row(track=track_name, number=number, rule=found.proposed.to_json(), note=note, actor=actor)
    )
    session.flush()
    append_event(
        session,
        "board.rescored",
        track=track_name,
        actor=actor,
        payload={"scoring": number, "rule": found.proposed.to_json(), "note": note},
    )
    judged = replace(found.track, scoring=found.proposed)
    standings.update(session, standings.due(session, judged, None))
    return found


def view(session: Session, found: Difference, *, published: bool) -> RescoreView:
    """A difference as the API answers with it."""
    ids = [change.submission_id for change in found.changes]
    rows = session.scalars(select(Submission).where(Submission.id.in_(ids)))
    refs = {row.id: entry_ref(row) for row in rows}
    changes = [
        ScoreChange(
            entry=refs[c.submission_id],
            old_score=c.old_score,
            new_score=c.new_score,
            old_rank=c.old_rank,
            new_rank=c.new_rank,
        )
        for c in found.changes
    ]
    return RescoreView(
        track=found.track.name,
        current=rules.scoring_view(found.track),
        proposed=rules.scoring_view(replace(found.track, scoring=found.proposed)),
        changes=changes,
        changed=sum(change.moved for change in changes),
        digest=found.digest,
        published=published,
    )


def _checked(track: Track, rule: Mapping[str, Any]) -> Scoring:
    from attacks.types import Norm

    from .plays import samples_of

    made = scoring.read(0, rule)
    budget = track.threat.max_queries
    if made.queries is not None and not 1 <= made.queries <= budget:
        raise Invalid(
            f"got {made.queries} queries; {track.name} was played with {budget}, so 1 to {budget} "
            "can be counted"
        )
    if made.norm is not None and made.norm not in get_args(Norm):
        raise Invalid(f"got the norm {made.norm!r}; wanted one of {', '.join(get_args(Norm))}")
    if made.norm == track.threat.norm:
        made = replace(made, norm=None)
    if made.queries == budget:
        made = replace(made, queries=None)
    if made.norm is not None and made.queries is not None:
        raise Invalid(
            f"the ledger holds {track.threat.norm} distances alone: choose another norm, or fewer "
            "queries, not both"
        )
    if made.exclude:
        known = samples_of(track).ids
        strange = sorted(set(made.exclude) - set(known))
        if strange:
            raise Invalid(f"{track.name} has no image {strange[0]!r}; it has {known[0]} and others")
        if len(set(made.exclude)) == len(known):
            raise Invalid(f"all {len(known)} images of {track.name} are excluded; leave some")
    return replace(made, exclude=tuple(sorted(set(made.exclude))))


def _ranks(track: Track, rows: Mapping[str, dict[str, Any]]) -> dict[str, int | None]:
    scores = {each: row["score"] for each, row in rows.items()}
    return ranks(scores, higher_is_better=track.higher_is_better)
