"""Accounts from their owners' side: sign-up, tokens, password; and teams."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from .. import accounts, invitations, passwords, schemas, signing, teams
from ..db import people
from ..db.tables import Account, Token
from ..errors import Unauthorised
from .deps import CurrentActor, CurrentState, ReadSession, owned, require

router = APIRouter(tags=["accounts"])

NO_STORE = {"Cache-Control": "no-store"}
MISSING = "there is no such token; look at GET /api/v1/auth/tokens"


@router.post("/auth/sign-up", status_code=201)
def sign_up(
    body: schemas.SignUpRequest, request: Request, response: Response, state: CurrentState
) -> schemas.AccountView:
    """A new account, where the server takes them: openly, or with an invitation's code."""
    state.attempt(request)
    response.headers.update(NO_STORE)
    made = signing.sign_up(
        state.database, state.settings.sign_up, body.name, body.password, body.invitation
    )
    with state.database.read() as session:
        return people.account(session, session.get_one(Account, made))


@router.get("/auth/me")
def me(session: ReadSession, actor: CurrentActor) -> schemas.AccountView:
    """Whose token this is: the account, its team, and what the token may do."""
    require(actor, "account.read", actor.account_id)
    return people.account(session, session.get_one(Account, actor.account_id), actor)


@router.post("/auth/tokens", status_code=201)
def create_token(
    body: schemas.TokenRequest,
    request: Request,
    response: Response,
    actor: CurrentActor,
    state: CurrentState,
) -> schemas.NewTokenView:
    """A new token, shown this once; by name and password, or by a token that may do as much."""
    known = None
    if body.name is not None and body.password is not None:
        state.attempt(request, body.name)
        known = signing.checked(state.database, body.name, body.password)
    elif actor.account_id is None:
        raise Unauthorised(
            "send the name and the password of your account in the body, or a token in "
            "'Authorization: Bearer <token>'"
        )
    else:
        require(actor, "token.create")
    response.headers.update(NO_STORE)
    with state.database.write() as session:
        account = session.get_one(Account, known or actor.account_id)
        actor = signing.full(session, account) if known is not None else actor
        row, text = signing.new_token(session, account, body.scope, body.days, body.label, actor)
        session.refresh(row)
        return schemas.NewTokenView(text=text, **people.token(row).model_dump())


@router.get("/auth/tokens")
def tokens(session: ReadSession, actor: CurrentActor) -> list[schemas.TokenView]:
    """Your good tokens, oldest first, without their text."""
    require(actor, "account.read", actor.account_id)
    return people.tokens(session, actor.account_id or "")


@router.delete("/auth/tokens/{token_id}", status_code=204)
def revoke_token(token_id: str, actor: CurrentActor, state: CurrentState) -> Response:
    """Have a token be good no more, also the one that asks. Again and again changes nothing."""
    with state.database.write() as session:
        row = owned(session.get(Token, token_id), actor, "account.write", MISSING)
        accounts.revoke(session, row, actor.name)
    return Response(status_code=204)


@router.put("/auth/password", status_code=204)
def set_password(
    body: schemas.PasswordRequest, request: Request, actor: CurrentActor, state: CurrentState
) -> Response:
    """Another password, by the old one. Browsers that are signed in are signed out."""
    require(actor, "account.write", actor.account_id)
    state.attempt(request, actor.name)
    known = signing.checked(state.database, actor.name, body.old)
    kept = passwords.hashed(body.new)
    with state.database.write() as session:
        signing.set_password(session, session.get_one(Account, known), kept, actor=actor.name)
    return Response(status_code=204)


@router.post("/teams", status_code=201)
def create_team(
    body: schemas.TeamRequest, response: Response, actor: CurrentActor, state: CurrentState
) -> schemas.TeamView:
    """A new team with you as its captain. What you enter from now on is the team's."""
    require(actor, "team.create")
    with state.database.write() as session:
        view = people.team(session, teams.create(session, actor, body.name))
    response.headers["Location"] = f"/api/v1/teams/{view.id}"
    return view


@router.post("/teams:join", status_code=202)
def join_team(
    body: schemas.JoinRequest, actor: CurrentActor, state: CurrentState
) -> schemas.TeamView:
    """Enter the team that an invitation names."""
    require(actor, "team.create")
    with state.database.write() as session:
        return people.team(session, teams.join(session, actor, body.invitation))


@router.get("/teams/{team_id}")
def show_team(team_id: str, session: ReadSession) -> schemas.TeamView:
    """A team and its members."""
    return people.team(session, teams.get(session, team_id))


@router.post("/teams/{team_id}/invitations", status_code=201)
def invite(
    team_id: str,
    response: Response,
    actor: CurrentActor,
    state: CurrentState,
    days: Annotated[float, Query(gt=0, le=invitations.LONGEST)] = invitations.DAYS,
) -> schemas.InvitationView:
    """A code with which one account may join the team, shown this once. Its captain."""
    response.headers.update(NO_STORE)
    with state.database.write() as session:
        _team(session, actor, team_id)
        row, code = invitations.create(session, actor.name, team_id=team_id, days=days)
        return people.invitation(row, code)


@router.delete("/teams/{team_id}/members/{account_id}", status_code=204)
def remove_member(
    team_id: str, account_id: str, actor: CurrentActor, state: CurrentState
) -> Response:
    """Leave the team, or, as its captain, take somebody out of it. Entries stay the team's."""
    with state.database.write() as session:
        require(actor, teams.action_to_remove(actor, account_id), team_id)
        teams.remove(session, actor, team_id, account_id)
    return Response(status_code=204)


@router.post("/teams/{team_id}/members/{account_id}:captain", status_code=202)
def make_captain(
    team_id: str, account_id: str, actor: CurrentActor, state: CurrentState
) -> schemas.TeamView:
    """Have another member be the captain. The captain."""
    with state.database.write() as session:
        team = _team(session, actor, team_id)
        teams.make_captain(session, actor, team_id, account_id)
        return people.team(session, team)


def _team(session: Session, actor: CurrentActor, team_id: str) -> Account:
    require(actor, "team.manage", team_id)
    return teams.get(session, team_id)
