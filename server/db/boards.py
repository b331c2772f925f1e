"""Boards as pages and the API read them: ranked, filtered, sorted and cut by the database.

Ranks and separability are those of the whole board, whatever part of it is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVarTuple

from sqlakeyset import BadBookmark, InvalidPage, select_page
from sqlalchemy import Select, and_, case, func, or_, select, tuple_
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
NAMED = 1000
"""Rows that are named in a query at most; with more, all are read."""

Columns = TypeVarTuple("Columns")
Place = tuple[int | None, bool | None]
"""Rank on the whole board, and whether the row is separable from the next one."""

_UNSCORED = case((BoardRow.score.is_(None), 1), else_=0)
_ACCEPTED = func.coalesce(Submission.accepted_at, Submission.created_at)


def board(session: Session, track: str, query: views.BoardQuery = WHOLE) -> views.BoardView:
    """The board of a track; by rank, unscored rows last, unless the query asks otherwise."""
    return board_of(session, scoring.current(session, rules.track(track)), query)


def board_of(
    session: Session, of: Track, query: views.BoardQuery = WHOLE, *, of_round: bool = False
) -> views.BoardView:
    """The board of a track as it scores; ``of_round``: entries never leave it.

    Raises BadRequest for a ``page`` that no answer gave.
    """
    whole = _whole(of, of_round=of_round)
    ids, following, preceding = _page(session, of, whole, query)
    rows = _rows(session, of, whole, ids)
    entries, scored, isolated, updated = session.execute(
        whole.with_only_columns(
            func.count(),
            func.count(BoardRow.score),
            func.min(case((BoardRow.isolated, 1), else_=0)),
            func.max(BoardRow.updated_at),
        )
    ).one()
    found = entries
    if query.filtered:
        found = session.scalar(_found(whole, query).with_only_columns(func.count()))
    leader = session.execute(
        whole.with_only_columns(Submission, BoardRow.score)
        .where(BoardRow.score.is_not(None))
        .order_by(*_standing(of))
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
        last_event_id=last_event(session),
    )


def last_event(session: Session) -> int:
    """The id of the newest event; 0 before the first."""
    return session.scalar(select(func.max(Event.id))) or 0


def row_of(session: Session, track: str, submission_id: str) -> views.BoardRow | None:
    """One entry's row of the board of a track, with its rank; None when it has none."""
    of = scoring.current(session, rules.track(track))
    whole = _whole(of, of_round=False)
    there = session.scalar(whole.where(BoardRow.submission_id == submission_id))
    return None if there is None else _rows(session, of, whole, [there])[0]


def pictures(session: Session, rows: Sequence[views.BoardRow]) -> dict[str, tuple[str, int]]:
    """{entry: (match, sample)} of the median samples of rows that there is an adversarial of."""
    wanted = {row.entry.id: (row.why.match_id, row.why.image_id) for row in rows if row.why}
    key = tuple_(SampleResult.match_id, SampleResult.image_id)
    found = session.execute(
        select(SampleResult.match_id, SampleResult.image_id, SampleResult.sample).where(
            key.in_(set(wanted.values())),
            SampleResult.success,
            SampleResult.adversarial_sha256.is_not(None),
        )
    )
    samples = {(match, image): (match, sample) for match, image, sample in found}
    return {entry: samples[why] for entry, why in wanted.items() if why in samples}


def _whole(of: Track, *, of_round: bool) -> Select[Any]:
    """All rows of a board, with their entries, in no order."""
    whole = (
        select(BoardRow.submission_id)
        .join(Submission, Submission.id == BoardRow.submission_id)
        .where(BoardRow.board == of.name, BoardRow.rules_version == rules.board_version(of))
    )
    return whole if of_round else whole.where(Submission.state.in_(PUBLIC_STATES))


def _standing(of: Track) -> tuple[Any, ...]:
    """The order of a board: the unscored last, ties in the order of acceptance."""
    better = BoardRow.score.desc() if of.higher_is_better else BoardRow.score.asc()
    return _UNSCORED, better, _ACCEPTED, BoardRow.submission_id


def _places(
    session: Session, of: Track, whole: Select[Any], ids: Sequence[str]
) -> dict[str, Place]:
    """{entry: where it stands} of these entries."""
    order = _standing(of)
    narrow = whole.with_only_columns(  # the database sorts all rows for this
        BoardRow.submission_id,
        BoardRow.lower,
        BoardRow.upper,
        _UNSCORED.label("unscored"),
        func.rank().over(order_by=order[:2]).label("rank"),
        func.lead(BoardRow.lower).over(order_by=order).label("next_lower"),
        func.lead(BoardRow.upper).over(order_by=order).label("next_upper"),
    ).subquery("narrow")
    query = _named(select(narrow), narrow.c.submission_id, ids)
    found: dict[str, Place] = {}
    for entry, lower, upper, unscored, rank, next_lower, next_upper in session.execute(query):
        separable = None
        if lower is not None and next_lower is not None:
            following = views.Interval(lower=next_lower, upper=next_upper)
            separable = not views.Interval(lower=lower, upper=upper).overlaps(following)
        found[entry] = (None if unscored else rank, separable)
    return found


def _named(query: Select[*Columns], column: Any, ids: Sequence[str]) -> Select[*Columns]:
    """The query for these rows; for all of them where they are too many to be named."""
    return query.where(column.in_(ids)) if len(ids) <= NAMED else query


def _found(whole: Select[Any], query: views.BoardQuery) -> Select[Any]:
    """The rows that a query asks for, in no order."""
    wanted = whole.join(Account, Account.id == Submission.account_id)
    if query.q:
        named = (Submission.name, Account.name)
        wanted = wanted.where(or_(*(name.icontains(query.q, autoescape=True) for name in named)))
    if query.who != "all":
        baseline = Submission.source == "zoo"
        wanted = wanted.where(baseline if query.who == "baselines" else ~baseline)
    if query.state != "all":
        wanted = wanted.where(BoardRow.state == query.state)
    return wanted


def _page(
    session: Session, of: Track, whole: Select[Any], query: views.BoardQuery
) -> tuple[list[str], str | None, str | None]:
    """The rows that are shown, and the pages after and before them."""
    wanted = _sorted(_found(whole, query), of, query)
    try:
        page = select_page(session, wanted, per_page=query.limit or ALL, page=query.page)
    except (BadBookmark, InvalidPage, ValueError, IndexError) as error:
        raise BadRequest(
            f"got the page {query.page!r}; wanted the `next` or `previous` of an answer to the "
            "same query"
        ) from error
    paging = page.paging
    return (
        [row.submission_id for row in page],
        paging.bookmark_next if paging.has_next else None,
        paging.bookmark_previous if paging.has_previous and query.page else None,
    )


def _sorted(wanted: Select[Any], of: Track, query: views.BoardQuery) -> Select[Any]:
    """What is missing comes last, whichever way; ties in the order of acceptance."""
    worst = aliased(Submission)
    if query.sort == "opponent":
        wanted = wanted.outerjoin(worst, worst.id == BoardRow.worst_id)
    columns: dict[str, Any] = {
        "rank": BoardRow.score,
        "entry": Submission.name,
        "score": BoardRow.score,
        "accuracy": BoardRow.clean_accuracy,
        "opponent": worst.name,
        "queries": BoardRow.mean_queries,
        "updated": BoardRow.updated_at,
    }
    column = columns[query.sort]
    text = query.sort in ("entry", "opponent")
    value = func.lower(func.coalesce(column, "")) if text else func.coalesce(column, 0)
    down = (query.order == "desc") != (query.sort == "rank" and of.higher_is_better)
    return wanted.order_by(
        case((column.is_(None), 1), else_=0),
        value.desc() if down else value.asc(),
        _ACCEPTED,
        BoardRow.submission_id,
    )


def _rows(
    session: Session, of: Track, whole: Select[Any], ids: Sequence[str]
) -> list[views.BoardRow]:
    """These rows, in this order, with where they stand on the whole board."""
    places = _places(session, of, whole, ids)
    every = whole.with_only_columns(BoardRow, Submission)
    query = _named(every, BoardRow.submission_id, ids)
    stored = {row.submission_id: (row, entry) for row, entry in session.execute(query)}
    refs = _opponent_refs(session, [row.data for row, _ in stored.values()])
    return [_board_row(stored[each], places[each], refs) for each in ids]


def _board_row(
    stored: tuple[BoardRow, Submission],
    place: Place,
    refs: dict[str, views.EntryRef],
) -> views.BoardRow:
    (row, submission), (rank, separable) = stored, place
    data = row.data
    return views.BoardRow(
        rank=rank,
        entry=entry_ref(submission),
        score=data["score"],
        interval=interval(data["interval"]),
        separable=separable,
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


def _opponent_refs(session: Session, rows: list[dict[str, Any]]) -> dict[str, views.EntryRef]:
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
