"""Pages of operators and organisers: challenges and rounds, accounts, another rule of scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from .. import accounts, challenges, invitations, rescoring, rounds, rules
from ..api.deps import CurrentState, State, require
from ..db import people, queries
from ..db.tables import Round
from ..errors import ApiError, Invalid, NotFound, answered
from ..policy import Actor, can
from ..schemas import RoundRequest
from .forms import Text, Visitor, Word, carry_out, form_page, require_own_form

router = APIRouter(include_in_schema=False)

ACCOUNTS = 100
"""Accounts that the page shows at a time."""

Number = Annotated[int | None, Form(ge=1, le=1_000_000)]


@router.get("/admin")
def overview(
    request: Request, state: CurrentState, visitor: Visitor, after: str | None = None
) -> Response:
    """Challenges with their rounds and boards; accounts, for operators."""
    return _overview(request, state, visitor, after=after)


@router.post("/admin/challenges/{challenge}/{what}")
def challenge(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    challenge: str,
    what: str,
    word: Word = "",
) -> Response:
    """Open a challenge for entries, or close it."""

    def change(session: Session) -> None:
        require(visitor, "challenge.manage", challenge=challenge)
        known = {"open": challenges.opened, "close": challenges.closed}
        if what not in known:
            raise NotFound(f"there is no {what!r} to do with a challenge")
        known[what](session, challenge, visitor.name)

    return _do(request, state, visitor, word, change)


@router.post("/admin/rounds")
def freeze(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    challenge: Text,
    name: Text,
    images: Number = None,
    best: Annotated[str, Form(max_length=10)] = "",
    word: Word = "",
) -> Response:
    """Freeze a round on images drawn in secret, and queue its matches."""

    def make(session: Session) -> None:
        require(visitor, "round.manage", challenge=challenge)
        number = _number(best)
        try:
            asked = RoundRequest(name=name.strip(), images=images, best=number)
        except ValidationError as error:
            raise Invalid("a round has a name of 1 to 80 letters") from error
        with answered():
            rounds.freeze(
                session,
                state.store,
                challenge,
                asked.name,
                actor=visitor.name,
                images=asked.images,
                best=asked.best,
            )

    answer = _do(request, state, visitor, word, make)
    state.wake()
    return answer


@router.post("/admin/rounds/{round_id}/{what}")
def end_round(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    round_id: str,
    what: str,
    word: Word = "",
) -> Response:
    """Publish a round that is over, or give one up."""

    def change(session: Session) -> None:
        row = session.get(Round, round_id)
        require(visitor, "round.manage", challenge=row.challenge if row is not None else None)
        known = {"publish": rounds.publish, "drop": rounds.drop}
        if what not in known:
            raise NotFound(f"there is no {what!r} to do with a round")
        known[what](session, round_id, visitor.name)

    return _do(request, state, visitor, word, change)


@router.post("/admin/invitations")
def invite(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    days: Annotated[float, Form(gt=0, le=invitations.LONGEST)] = invitations.DAYS,
    word: Word = "",
) -> Response:
    """A code with which one person may sign up; it is shown this once."""

    def make(session: Session) -> str:
        require(visitor, "accounts.manage")
        return invitations.create(session, visitor.name, days=days)[1]

    return _do(request, state, visitor, word, make)


@router.post("/admin/accounts/{name}/{what}")
def account(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    name: str,
    what: str,
    challenge: Text = "",
    word: Word = "",
) -> Response:
    """Close an account or open it again; have it organise a challenge, or no more."""

    def change(session: Session) -> None:
        require(visitor, "accounts.manage")
        with answered(NotFound):
            if what in ("disable", "enable"):
                how = accounts.disable if what == "disable" else accounts.enable
                how(session, name, visitor.name)
            elif what in ("organise", "release"):
                rules.of_challenge(challenge)
                organises = what == "organise"
                accounts.set_organiser(session, name, challenge, visitor.name, organises=organises)
            else:
                raise NotFound(f"there is no {what!r} to do with an account")

    return _do(request, state, visitor, word, change)


@router.get("/admin/boards/{track}")
def scoring(request: Request, state: CurrentState, visitor: Visitor, track: str) -> Response:
    """Another rule of scores for a board, to be looked at before it is published."""
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    require(visitor, "board.rescore", challenge=rules.challenge_of(track))
    return _scoring(request, state, track)


@router.post("/admin/boards/{track}")
def rescore(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    track: str,
    after_queries: Annotated[str, Form(max_length=10)] = "",
    norm: Text = "",
    exclude: Annotated[str, Form(max_length=100_000)] = "",
    note: Annotated[str, Form(max_length=500)] = "",
    digest: Text = "",
    word: Word = "",
) -> Response:
    """The difference that a rule makes; with its digest and a note: published."""
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    require(visitor, "board.rescore", challenge=rules.challenge_of(track))
    asked = {"after_queries": after_queries, "norm": norm, "exclude": exclude, "note": note}
    try:
        require_own_form(request, state, word)
        rule = {
            "queries": _number(after_queries),
            "norm": norm or None,
            "exclude": exclude.split(),
        }
        if not digest:
            with state.database.read() as session:
                found = rescoring.difference(session, track, rule)
                view = rescoring.view(session, found, published=False)
            return _scoring(request, state, track, asked=asked, found=view)
        if not note.strip():
            raise Invalid("say why the rule changes: everybody reads it in the board's history")
        with state.database.write() as session:
            rescoring.publish(
                session, track, rule, digest=digest, note=note.strip(), actor=visitor.name
            )
    except ApiError as error:
        return _scoring(request, state, track, asked=asked, error=error)
    return RedirectResponse(f"/boards/{track}/history", 303)


def _overview(
    request: Request,
    state: State,
    visitor: Actor,
    *,
    after: str | None = None,
    error: ApiError | None = None,
    secret: str | None = None,
) -> Response:
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    _require_some(visitor)
    operator = can(visitor, "accounts.manage")
    with state.database.read() as session:
        mine = [
            each
            for each in queries.challenges_here(session)
            if can(visitor, "challenge.manage", challenge=each.name)
        ]
        here = {each.name for each in mine}
        known = {track.challenge for track in rules.tracks().values()}
        return form_page(
            request,
            "organising.html",
            error,
            challenges=mine,
            others=sorted(known - here) if operator else [],
            rounds={each.name: queries.rounds(session, each.name, visitor) for each in mine},
            people=people.accounts(session, after=after, limit=ACCOUNTS) if operator else None,
            queue=queries.queue(session, state.settings.workers),
            operator=operator,
            may_audit=can(visitor, "audit.read"),
            secret=secret,
            here="account",
        )


def _scoring(
    request: Request,
    state: State,
    track: str,
    *,
    asked: dict[str, str] | None = None,
    found: object = None,
    error: ApiError | None = None,
) -> Response:
    with state.database.read() as session:
        return form_page(
            request,
            "scoring.html",
            error,
            track=queries.track(session, track),
            scorings=queries.scorings(session, track),
            asked=asked or {"after_queries": "", "norm": "", "exclude": "", "note": ""},
            found=found,
            here="account",
        )


def _do(
    request: Request,
    state: State,
    visitor: Actor,
    word: str,
    change: Callable[[Session], str | None],
) -> Response:
    """Do what a form of the page asks for."""
    if visitor.account_id is not None:
        _require_some(visitor)
    show = partial(_overview, request, state, visitor)
    return carry_out(request, state, visitor, word, change, address="/admin", show=show)


def _require_some(visitor: Actor) -> None:
    """Raise unless there is something here for this visitor."""
    if not visitor.organises:
        require(visitor, "challenge.manage")


def _number(text: str) -> int | None:
    """A whole number that may be left out."""
    if not text.strip():
        return None
    if not (text.strip().isdecimal() and 1 <= int(text) <= 1_000_000):
        raise Invalid(f"got {text[:20]!r}; wanted a whole number from 1 to 1000000, or nothing")
    return int(text)
