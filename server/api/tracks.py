"""Tracks, their rules as data, and boards: JSON or CSV, with an ETag, and live."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from .. import rescoring
from ..db import queries
from ..errors import BadRequest
from ..rules import challenge_of
from ..schemas import (
    BoardFormat,
    BoardView,
    EventView,
    HistoryRow,
    Page,
    RescoreRequest,
    RescoreView,
    ScoringVersion,
    TrackView,
)
from .deps import MOST, CurrentActor, CurrentState, ReadSession, State, require

router = APIRouter(tags=["boards"])

COLUMNS = (
    "rank", "name", "owner", "baseline", "score", "lower", "upper", "clean_accuracy",
    "worst_opponent", "worst_median_distance", "median_sample", "median_sample_distance",
    "mean_queries", "failed_samples", "matches_done", "matches_expected", "state", "reason",
    "isolated", "submission",
)  # fmt: skip
PING_SECONDS = 15


@router.get("/tracks")
def tracks(session: ReadSession) -> list[TrackView]:
    """All tracks."""
    return queries.tracks(session)


@router.get("/tracks/{track}/rules")
def rules(track: str, session: ReadSession) -> TrackView:
    """Limits, budget, image contract and ranking rule of a track."""
    return queries.track(session, track)


@router.get("/boards/{track}", response_model=BoardView)
def board(
    track: str,
    session: ReadSession,
    query: Annotated[BoardFormat, Query()],
    accept: Annotated[str, Header()] = "application/json",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A board, or what is asked for of it; 304 while nothing has changed.

    JSON, or CSV where ``format`` or the Accept header says so.
    """
    view = queries.board(session, track, query)
    return answer(view, query, accept, if_none_match)


@router.get("/boards/{track}/history")
def history(
    track: str,
    session: ReadSession,
    submission: Annotated[str | None, Query(description="of this entry alone")] = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[HistoryRow]:
    """Every change of a score on a board, with the rank that it gave; newest first."""
    return queries.history(session, track, submission=submission, after=after, limit=limit)


@router.get("/boards/{track}/scorings")
def scorings(track: str, session: ReadSession) -> list[ScoringVersion]:
    """Every rule that a board was scored by, oldest first."""
    return queries.scorings(session, track)


@router.post("/boards/{track}:rescore")
def rescore(
    track: str, request: RescoreRequest, actor: CurrentActor, state: CurrentState
) -> RescoreView:
    """Score a board by another rule, from its facts alone. Organisers.

    Without a digest: the difference, and nothing is changed. With the digest of that difference,
    and a note: it is published as a new version of the board.
    """
    require(actor, "board.rescore", challenge=challenge_of(track))
    rule = request.rule.model_dump()
    if request.digest is None:
        with state.database.read() as session:
            found = rescoring.difference(session, track, rule)
            return rescoring.view(session, found, published=False)
    with state.database.write() as session:
        found = rescoring.publish(
            session, track, rule, digest=request.digest, note=request.note, actor=actor.name
        )
        return rescoring.view(session, found, published=True)


@router.get("/boards/{track}/events", response_class=EventSourceResponse)
async def events(
    track: str,
    state: CurrentState,
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[
        int | None, Query(ge=0, le=MOST, description="start behind this event")
    ] = None,
) -> EventSourceResponse:
    """Server-sent events of a board, from ``Last-Event-ID`` (or ``after``, or now) on."""
    if last_event_id is not None and not last_event_id.isdecimal():
        raise BadRequest(f"Last-Event-ID must be a number, got {last_event_id[:40]!r}")
    start = min(int(last_event_id), MOST) if last_event_id is not None else after
    if start is None:
        start = await run_in_threadpool(_now, state, track)
    else:
        await run_in_threadpool(_events, state, track, start, 1)
    return EventSourceResponse(_stream(state, track, start), ping=PING_SECONDS)


def answer(view: BoardView, query: BoardFormat, accept: str, if_none_match: str | None) -> Response:
    """A board as JSON or CSV, under its ETag."""
    as_csv = "text/csv" in accept and "application/json" not in accept
    if query.format is not None:
        as_csv = query.format == "csv"
    tag = f'"{view.version}{"-csv" if as_csv else ""}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept"}
    if if_none_match is not None and _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    if as_csv:
        name = f'inline; filename="{view.track.name}.csv"'
        headers |= {"Content-Disposition": name}
        return Response(to_csv(view), media_type="text/csv; charset=utf-8", headers=headers)
    return Response(view.model_dump_json(), media_type="application/json", headers=headers)


def to_csv(view: BoardView) -> str:
    """The rows of a board, one a line, under COLUMNS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in view.rows:
        worst, why = row.worst_opponent, row.why
        writer.writerow(
            {
                "rank": row.rank,
                "name": _safe(row.name),
                "owner": _safe(row.owner),
                "baseline": row.baseline,
                "score": row.score,
                "lower": row.interval.lower if row.interval else None,
                "upper": row.interval.upper if row.interval else None,
                "clean_accuracy": row.clean_accuracy,
                "worst_opponent": _safe(worst.opponent.name) if worst else None,
                "worst_median_distance": worst.median_distance if worst else None,
                "median_sample": why.image_id if why else None,
                "median_sample_distance": why.distance if why else None,
                "mean_queries": row.mean_queries,
                "failed_samples": row.failed_samples,
                "matches_done": row.matches_done,
                "matches_expected": row.matches_expected,
                "state": row.state,
                "reason": row.reason,
                "isolated": row.isolated,
                "submission": row.submission_id,
            }
        )
    return text.getvalue()


async def _stream(state: State, track: str, last: int) -> AsyncIterator[ServerSentEvent]:
    while True:  # cancelled when the reader goes
        for event in await run_in_threadpool(_events, state, track, last, 100):
            last = event.id
            data = json.dumps(event.model_dump(mode="json"))
            yield ServerSentEvent(data=data, event=event.kind, id=str(event.id))
        await asyncio.sleep(state.settings.poll_seconds)


def _events(state: State, track: str, after: int, limit: int) -> list[EventView]:
    with state.database.read() as session:
        return queries.events(session, track=track, after=after, limit=limit)


def _now(state: State, track: str) -> int:
    with state.database.read() as session:
        queries.track(session, track)  # NotFound for an unknown one
        return queries.last_event(session)


def _matches(header: str, tag: str) -> bool:
    asked = [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in asked or tag in asked


def _safe(text: str) -> str:
    """A name that a spreadsheet will not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
