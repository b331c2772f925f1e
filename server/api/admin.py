"""For operators: invitations, accounts, organisers, and what happened."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from .. import accounts, invitations, rules, schemas
from ..db import people
from ..errors import NotFound, answered
from .deps import MOST, CurrentActor, CurrentState, ReadSession, require

router = APIRouter(tags=["administration"])


@router.post("/invitations", status_code=201)
def invite(
    response: Response,
    actor: CurrentActor,
    state: CurrentState,
    days: Annotated[float, Query(gt=0, le=invitations.LONGEST)] = invitations.DAYS,
) -> schemas.InvitationView:
    """A code with which one person may sign up, shown this once. Operators."""
    require(actor, "accounts.manage")
    response.headers["Cache-Control"] = "no-store"
    with state.database.write() as session:
        row, code = invitations.create(session, actor.name, days=days)
        return people.invitation(row, code)


@router.get("/accounts")
def listed(
    session: ReadSession,
    actor: CurrentActor,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> schemas.Page[schemas.AccountView]:
    """All accounts and teams, by name. Operators."""
    require(actor, "accounts.manage")
    return people.accounts(session, after=after, limit=limit)


@router.post("/accounts/{name}:disable", status_code=202)
def disable(name: str, actor: CurrentActor, state: CurrentState) -> schemas.AccountView:
    """Close an account: its tokens are good no more. Its entries stay. Operators."""
    return _change(accounts.disable, name, actor, state)


@router.post("/accounts/{name}:enable", status_code=202)
def enable(name: str, actor: CurrentActor, state: CurrentState) -> schemas.AccountView:
    """Open a closed account again. Operators."""
    return _change(accounts.enable, name, actor, state)


@router.put("/challenges/{challenge}/organisers/{name}", status_code=204)
def add_organiser(challenge: str, name: str, actor: CurrentActor, state: CurrentState) -> Response:
    """Have an account organise a challenge: its rounds, its scores, its end. Operators."""
    return _organise(challenge, name, actor, state, organises=True)


@router.delete("/challenges/{challenge}/organisers/{name}", status_code=204)
def remove_organiser(
    challenge: str, name: str, actor: CurrentActor, state: CurrentState
) -> Response:
    """Have an account organise a challenge no more. Operators."""
    return _organise(challenge, name, actor, state, organises=False)


@router.get("/audit")
def audit(
    session: ReadSession,
    actor: CurrentActor,
    before: Annotated[int | None, Query(ge=1, le=MOST, description="older than this event")] = None,
    by: Annotated[str | None, Query(description="of this actor alone")] = None,
    kind: Annotated[str | None, Query(description="of this kind alone")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> schemas.Page[schemas.AuditView]:
    """Who did what, newest first. Operators."""
    require(actor, "audit.read")
    return people.audit(session, before=before, by=by, kind=kind, limit=limit)


def _change(
    how: accounts.Change, name: str, actor: CurrentActor, state: CurrentState
) -> schemas.AccountView:
    require(actor, "accounts.manage")
    with state.database.write() as session:
        with answered(NotFound):
            account = how(session, name, actor.name)
        return people.account(session, account)


def _organise(
    challenge: str, name: str, actor: CurrentActor, state: CurrentState, *, organises: bool
) -> Response:
    require(actor, "accounts.manage")
    rules.of_challenge(challenge)
    with state.database.write() as session, answered(NotFound):
        accounts.set_organiser(session, name, challenge, actor.name, organises=organises)
    return Response(status_code=204)
