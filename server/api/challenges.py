"""Challenges and their rounds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy.orm import Session

from .. import challenges, rounds
from ..db import queries
from ..db.tables import Round
from ..errors import NotFound, answered
from ..policy import Actor
from ..schemas import BoardFormat, BoardView, ChallengeView, RoundRequest, RoundView, TrackView
from .deps import CurrentActor, CurrentState, ReadSession, require
from .tracks import answer

router = APIRouter(tags=["challenges"])


@router.get("/challenges")
def listed(session: ReadSession) -> list[ChallengeView]:
    """The challenges of this server: a data set each, with its tracks."""
    return queries.challenges_here(session)


@router.get("/challenges/{challenge}")
def show(challenge: str, session: ReadSession) -> ChallengeView:
    """One challenge."""
    return queries.challenge(session, challenge)


@router.get("/challenges/{challenge}/tracks/{track}/rules")
def rules(challenge: str, track: str, session: ReadSession) -> TrackView:
    """The rules of a track, as under /tracks."""
    if track not in queries.challenge(session, challenge).tracks:
        raise NotFound(f"the challenge {challenge!r} has no track {track!r}")
    return queries.track(session, track)


@router.post("/challenges/{challenge}:open", status_code=202)
def open_(challenge: str, actor: CurrentActor, state: CurrentState) -> ChallengeView:
    """Take entries for a challenge. Organisers; again and again changes nothing."""
    require(actor, "challenge.manage", challenge=challenge)
    with state.database.write() as session:
        challenges.opened(session, challenge, actor.name)
        return queries.challenge(session, challenge)


@router.post("/challenges/{challenge}:close", status_code=202)
def close(challenge: str, actor: CurrentActor, state: CurrentState) -> ChallengeView:
    """Take no more entries for a challenge. Organisers; again and again changes nothing."""
    require(actor, "challenge.manage", challenge=challenge)
    with state.database.write() as session:
        challenges.closed(session, challenge, actor.name)
        return queries.challenge(session, challenge)


@router.get("/challenges/{challenge}/rounds")
def all_rounds(challenge: str, session: ReadSession, actor: CurrentActor) -> list[RoundView]:
    """The rounds of a challenge, newest first."""
    return queries.rounds(session, challenge, actor)


@router.post("/challenges/{challenge}/rounds", status_code=201)
def freeze(
    challenge: str,
    request: RoundRequest,
    response: Response,
    actor: CurrentActor,
    state: CurrentState,
) -> RoundView:
    """Freeze a round and queue its matches, on images drawn in secret. Organisers.

    An organiser's own images are given on the server: `tiltyard admin freeze-round --images-file`.
    """
    require(actor, "round.manage", challenge=challenge)
    with state.database.write() as session, answered():
        row = rounds.freeze(
            session,
            state.store,
            challenge,
            request.name,
            actor=actor.name,
            images=request.images,
            best=request.best,
        )
        view = queries.round_of(session, row.id, actor)
    state.wake()
    response.headers["Location"] = f"/api/v1/rounds/{view.id}"
    return view


@router.get("/rounds/{round_id}")
def one_round(round_id: str, session: ReadSession, actor: CurrentActor) -> RoundView:
    """A round: what was frozen, and how far it is."""
    return queries.round_of(session, round_id, actor)


@router.get("/rounds/{round_id}/boards/{track}", response_model=BoardView)
def board(
    round_id: str,
    track: str,
    session: ReadSession,
    actor: CurrentActor,
    query: Annotated[BoardFormat, Query()],
    accept: Annotated[str, Header()] = "application/json",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A board of a round, once it is published; asked as other boards are."""
    view = queries.round_board(session, round_id, track, actor, query)
    return answer(view, query, accept, if_none_match)


@router.post("/rounds/{round_id}:publish", status_code=202)
def publish(round_id: str, actor: CurrentActor, state: CurrentState) -> RoundView:
    """Show the boards of a round that is over to everybody, for good. Organisers."""
    with state.database.write() as session:
        _require_manager(session, actor, round_id)
        rounds.publish(session, round_id, actor.name)
        return queries.round_of(session, round_id, actor)


@router.post("/rounds/{round_id}:drop", status_code=202)
def drop(round_id: str, actor: CurrentActor, state: CurrentState) -> RoundView:
    """Give up a round that was not published. Organisers."""
    with state.database.write() as session:
        _require_manager(session, actor, round_id)
        rounds.drop(session, round_id, actor.name)
        return queries.round_of(session, round_id, actor)


def _require_manager(session: Session, actor: Actor, round_id: str) -> None:
    row = session.get(Round, round_id)
    require(actor, "round.manage", challenge=row.challenge if row is not None else None)
