"""Boards as pages and the API read them: ranked, filtered, sorted and cut by the database.

Ranks and separability are those of the whole board, whatever part of it is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlakeyset import BadBookmark, InvalidPage, select_page
from sqlalchemy import ColumnElement, Select, Subquery, and_, case, func, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from .. import jobs, rules, scoring
from .. import schemas as views
from ..errors import BadRequest
from .tables import Account, BoardRow, Event, Job, Match, SampleResult, Submission
from .views import PUBLIC_STATES, entry_ref, interval, median_sample, met, when, worst_opponent

if TYPE_CHECKING:
    from bench.tracks.types import Track

WHOLE = views.BoardQuery()
ALL = 1_000_000
"""Rows of a board that is asked for without a limit."""


class _Place(NamedTuple):
    """Where a row stands on the whole board."""

    submission_id: str
    rank: int | None
    separable: bool | None


def board(session: Session, track: str, query: views.BoardQuery = WHOLE) -> views.BoardView:
    """The board of a track; by rank, unscored rows last, unless the query asks otherwise."""
    return board_of(session, scoring.current(session, rules.track(track)), query)


def board_of(
    session: Session, of: Track, query: views.BoardQuery = WHOLE, *, of_round: bool = False
) -> views.BoardView:
    """The board of a track as it scores; ``of_round``: entries never leave it.

    Raises BadRequest for a ``page`` that no answer gave.
    """
    ranked = _ranked(of, of_round=of_round)
    places, following, preceding = _page(session, ranked, query)
    rows = _rows(session, of, places)
    entries, scored, isolated, updated = session.execute(
        select(
            func.count(),
            func.count(ranked.c.score),
            func.min(case((ranked.c.isolated, 1), else_=0)),
            func.max(ranked.c.updated_at),
        )
    ).one()
    found = entries
    if (query.q, query.who, query.state) != (WHOLE.q, WHOLE.who, WHOLE.state):
        found = session.scalar(select(func.count()).select_from(_found(ranked, query).subquery()))
    leader = session.execute(
        select(Submission, ranked.c.score)
        .join(ranked, ranked.c.submission_id == Submission.id)
        .where(ranked.c.rank == 1)
        .order_by(ranked.c.accepted_at, ranked.c.submission_id)
        .limit(1)
    ).one_or_none()
    waiting = _waiting(session, of, of_round=of_round)
    shown = [of.name, rules.board_version(of), *(row.model_dump_json() for row in rows)]
    counted = [str(each) for each in (waiting, entries, scored, found, following, preceding)]
    return views.BoardView(
        track=rules.track_view(of),
        version=hashlib.sha256("\n".join([*shown, *counted]).encode()).hexdigest()[:32],
        rows=rows,
        entries=entries,
        scored=scored,
        found=found or 0,
        leader=entry_ref(leader[0]) if leader is not None else None,
        leading=leader[1] if leader is not None else None,
        next=following,
        previous=preceding,
        waiting=waiting,
        isolated=isolated != 0,
        updated_at=when(updated),
        last_event_id=session.scalar(select(func.max(Event.id))) or 0,
    )


def row_of(session: Session, track: str, submission_id: str) -> views.BoardRow | None:
    """One entry's row of the board of a track, with its rank; None when it has none."""
    of = scoring.current(session, rules.track(track))
    ranked = _ranked(of, of_round=False)
    found = session.execute(
        select(ranked.c.submission_id, ranked.c.rank, ranked.c.separable).where(
            ranked.c.submission_id == submission_id
        )
    ).all()
    return next(iter(_rows(session, of, [_place(row) for row in found])), None)


def pictures(session: Session, rows: Sequence[views.BoardRow]) -> dict[str, tuple[str, int]]:
    """{entry: (match, sample)} of the median samples of rows that there is an adversarial of."""
    wanted = {(row.why.match_id, row.why.image_id): row.entry.id for row in rows if row.why}
    key = tuple_(SampleResult.match_id, SampleResult.image_id)
    found = session.execute(
        select(SampleResult.match_id, SampleResult.image_id, SampleResult.sample).where(
            key.in_(list(wanted)),
            SampleResult.success,
            SampleResult.adversarial_sha256.is_not(None),
        )
    )
    by_sample = {(match, image): (match, sample) for match, image, sample in found}
    return {
        row.entry.id: by_sample[row.why.match_id, row.why.image_id]
        for row in rows
        if row.why and (row.why.match_id, row.why.image_id) in by_sample
    }


def _ranked(of: Track, *, of_round: bool) -> Subquery:
    """Every row of a board with its rank and whether it is separable from the next one."""
    accepted = func.coalesce(Submission.accepted_at, Submission.created_at)
    better = BoardRow.score.desc() if of.higher_is_better else BoardRow.score
    unscored = case((BoardRow.score.is_(None), 1), else_=0)
    order = (unscored, better, accepted, BoardRow.submission_id)
    next_lower = func.lead(BoardRow.lower).over(order_by=order)
    next_upper = func.lead(BoardRow.upper).over(order_by=order)
    worst = aliased(Submission)
    query = (
        select(
            BoardRow.submission_id,
            BoardRow.score,
            BoardRow.state,
            BoardRow.clean_accuracy,
            BoardRow.mean_queries,
            BoardRow.isolated,
            BoardRow.updated_at,
            accepted.label("accepted_at"),
            Submission.name,
            Submission.source,
            Account.name.label("owner"),
            worst.name.label("opponent"),
            case((unscored == 0, func.rank().over(order_by=(unscored, better)))).label("rank"),
            case(
                (
                    and_(BoardRow.lower.is_not(None), next_lower.is_not(None)),
                    case(
                        (or_(BoardRow.upper < next_lower, next_upper < BoardRow.lower), 1), else_=0
                    ),
                )
            ).label("separable"),
        )
        .join(Submission, Submission.id == BoardRow.submission_id)
        .join(Account, Account.id == Submission.account_id)
        .outerjoin(worst, worst.id == BoardRow.worst_id)
        .where(BoardRow.board == of.name, BoardRow.rules_version == rules.board_version(of))
    )
    if not of_round:
        query = query.where(Submission.state.in_(PUBLIC_STATES))
    return query.subquery("ranked")


def _found(ranked: Subquery, query: views.BoardQuery) -> Select[Any]:
    """The rows that a query asks for, in no order."""
    wanted = select(ranked.c.submission_id, ranked.c.rank, ranked.c.separable)
    if query.q:
        named = (ranked.c.name, ranked.c.owner)
        wanted = wanted.where(or_(*(name.icontains(query.q, autoescape=True) for name in named)))
    if query.who != "all":
        baseline = ranked.c.source == "zoo"
        wanted = wanted.where(baseline if query.who == "baselines" else ~baseline)
    if query.state != "all":
        wanted = wanted.where(ranked.c.state == query.state)
    return wanted


def _page(
    session: Session, ranked: Subquery, query: views.BoardQuery
) -> tuple[list[_Place], str | None, str | None]:
    """The rows that are shown, and the pages after and before them."""
    wanted = _found(ranked, query).order_by(*_order(ranked, query))
    try:
        page = select_page(session, wanted, per_page=query.limit or ALL, page=query.page)
    except (BadBookmark, InvalidPage, ValueError, IndexError) as error:
        raise BadRequest(
            f"got the page {query.page!r}; wanted the `next` or `previous` of an answer to the "
            "same query"
        ) from error
    paging = page.paging
    return (
        [_place(row) for row in page],
        paging.bookmark_next if paging.has_next else None,
        paging.bookmark_previous if paging.has_previous and query.page else None,
    )


def _order(ranked: Subquery, query: views.BoardQuery) -> list[ColumnElement[Any]]:
    """What is missing comes last, whichever way; ties in the order of acceptance."""
    column = ranked.c[
        {
            "rank": "rank",
            "entry": "name",
            "score": "score",
            "accuracy": "clean_accuracy",
            "opponent": "opponent",
            "queries": "mean_queries",
            "updated": "updated_at",
        }[query.sort]
    ]
    text = query.sort in ("entry", "opponent")
    value = func.lower(func.coalesce(column, "")) if text else func.coalesce(column, 0)
    return [
        case((column.is_(None), 1), else_=0),
        value.desc() if query.order == "desc" else value,
        ranked.c.accepted_at,
        ranked.c.submission_id,
    ]


def _place(row: Any) -> _Place:
    separable = None if row.separable is None else bool(row.separable)
    return _Place(row.submission_id, row.rank, separable)


def _rows(session: Session, of: Track, places: Sequence[_Place]) -> list[views.BoardRow]:
    """The rows at these places, in their order."""
    query = (
        select(BoardRow, Submission)
        .join(Submission, Submission.id == BoardRow.submission_id)
        .where(BoardRow.board == of.name, BoardRow.rules_version == rules.board_version(of))
    )
    if len(places) <= 1000:
        query = query.where(BoardRow.submission_id.in_([place.submission_id for place in places]))
    stored = {row.submission_id: (row, entry) for row, entry in session.execute(query)}
    refs = opponent_refs(session, [row.data for row, _ in stored.values()])
    return [_board_row(place, *stored[place.submission_id], refs) for place in places]


def _board_row(
    place: _Place, row: BoardRow, submission: Submission, refs: dict[str, views.EntryRef]
) -> views.BoardRow:
    data = row.data
    return views.BoardRow(
        rank=place.rank,
        entry=entry_ref(submission),
        score=data["score"],
        interval=interval(data["interval"]),
        separable=place.separable,
        clean_accuracy=data["clean_accuracy"],
        worst_opponent=worst_opponent(data["worst_opponent"], refs),
        why=median_sample(data["why"], refs),
        mean_queries=data["mean_queries"],
        failed_samples=data["failed_samples"],
        matches_done=data["matches_done"],
        matches_expected=data["matches_expected"],
        matches=met(data["matches"], refs),
        state=data["state"],
        reason=data["reason"],
        isolated=data["isolated"],
        accepted_at=when(submission.accepted_at or submission.created_at),
        updated_at=when(row.updated_at),
    )


def opponent_refs(session: Session, rows: list[dict[str, Any]]) -> dict[str, views.EntryRef]:
    """The opponents that the data of rows names."""
    wanted = {met["opponent_id"] for data in rows for met in data["matches"]}
    found = session.scalars(select(Submission).where(Submission.id.in_(wanted)))
    return {row.id: entry_ref(row) for row in found}


def _waiting(session: Session, of: Track, *, of_round: bool) -> int:
    """Jobs of a board that wait or run."""
    version = rules.rules_version(of)
    found = session.scalar(
        select(func.count())
        .select_from(Job)
        .outerjoin(Match, Match.id == Job.match_id)
        .join(Submission, Submission.id == Job.submission_id)
        .where(
            Job.state.in_(jobs.OPEN),
            Match.rules_version == version
            if of_round
            else or_(
                Match.rules_version == version,
                and_(Submission.track == of.name, Match.round_id.is_(None)),
            ),
        )
    )
    return found or 0
