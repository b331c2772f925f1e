"""What became of a board: every change of a row, and the scorings it was judged by."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from .. import rules, scoring
from .. import schemas as views
from ..errors import BadRequest
from .tables import BoardHistory, Submission
from .views import PUBLIC_STATES, entry_ref, when

if TYPE_CHECKING:
    from bench.tracks.types import Track


def history(
    session: Session,
    track: str,
    *,
    submission: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> views.Page[views.HistoryRow]:
    """Changes of a board's rows, newest first, by today's rules and scoring.

    A row of before a scoring is kept under its own version: ``scorings`` names them.

    Args:
        submission: of this entry alone.
        after: "<event>-<submission>", the last page's ``next``.
    """
    of = scoring.current(session, rules.track(track))
    rows = list(session.scalars(_changes(of)))
    ranks = _ranks(rows, higher_is_better=of.higher_is_better)
    shown = [
        (row, rank)
        for row, rank in zip(rows, ranks, strict=True)
        if submission is None or row.submission_id == submission
    ][::-1]
    if after is not None:
        event, _, entry = after.partition("-")
        if not event.isdecimal():
            raise BadRequest(f"got the cursor {after[:40]!r}; wanted the `next` of another page")
        last = (int(event), entry)
        shown = [(row, rank) for row, rank in shown if (row.event_id, row.submission_id) < last]
    ids = {row.submission_id for row, _ in shown[:limit]}
    found = session.scalars(select(Submission).where(Submission.id.in_(ids)))
    refs = {row.id: entry_ref(row) for row in found if row.state in PUBLIC_STATES}
    items = [
        views.HistoryRow(
            event=row.event_id,
            entry=refs[row.submission_id],
            score=row.score,
            rank=rank,
            state=row.state,
            board_version=row.rules_version,
            at=when(row.created_at),
        )
        for row, rank in shown[:limit]
        if row.submission_id in refs
    ]
    more = len(shown) > limit
    last_row = shown[limit - 1][0] if more else None
    return views.Page[views.HistoryRow](
        items=items,
        next=f"{last_row.event_id}-{last_row.submission_id}" if last_row is not None else None,
    )


def progress(session: Session, track: str) -> list[tuple[float, float, str]]:
    """The best score of a board over time: (moment in seconds, score, submission) as it changed."""
    of = scoring.current(session, rules.track(track))
    sign = -1.0 if of.higher_is_better else 1.0
    known: dict[str, float] = {}
    found: list[tuple[float, float, str]] = []
    for row in session.scalars(_changes(of)):
        known.pop(row.submission_id, None)
        if row.score is not None:
            known[row.submission_id] = row.score
        if known:
            leader = min(known, key=lambda each: (sign * known[each], each))
            if not found or found[-1][1] != known[leader]:
                found.append((row.created_at, known[leader], leader))
    return found


def _changes(track: Track) -> Select[BoardHistory]:
    """All changes of a board's rows by its current rules, in their order."""
    version = rules.board_version(track)
    return (
        select(BoardHistory)
        .where(BoardHistory.board == track.name, BoardHistory.rules_version == version)
        .order_by(BoardHistory.event_id, BoardHistory.submission_id)
    )


def scorings(session: Session, track: str) -> list[views.ScoringVersion]:
    """Every rule that a board was scored by, oldest first; the last one holds."""
    of = rules.track(track)
    first = views.ScoringVersion(
        scoring=rules.scoring_view(of),
        board_version=rules.board_version(of),
        note="the track's own rule",
        actor=None,
        created_at=None,
    )
    later = []
    for row in scoring.versions(session, of.name):
        so = scoring.judged(of, row.number, row.rule)
        later.append(
            views.ScoringVersion(
                scoring=rules.scoring_view(so),
                board_version=rules.board_version(so),
                note=row.note,
                actor=row.actor,
                created_at=when(row.created_at),
            )
        )
    return [first, *later]


def _ranks(rows: list[BoardHistory], *, higher_is_better: bool) -> list[int | None]:
    """The rank of each row's entry right after its event; the rows are in their order."""
    sign = -1.0 if higher_is_better else 1.0
    known: dict[str, float] = {}
    ordered: list[float] = []
    found: list[int | None] = []
    start = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end].event_id == rows[start].event_id:
            continue
        for row in rows[start:end]:
            if row.submission_id in known:
                ordered.pop(bisect_left(ordered, known.pop(row.submission_id)))
            if row.score is not None:
                known[row.submission_id] = sign * row.score
                insort(ordered, sign * row.score)
        for row in rows[start:end]:
            score = known.get(row.submission_id)
            found.append(None if score is None else bisect_left(ordered, score) + 1)
        start = end
    return found
