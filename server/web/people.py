"""Pages of people: sign-in, sign-up, the account with its entries and tokens, the audit log."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from .. import accounts, invitations, lifecycle, oidc, passwords, signing, teams
from ..api.deps import MOST, CurrentState, State, owned, require
from ..db import people, queries
from ..db.tables import Account, Submission, Token
from ..errors import ApiError, Conflict, Forbidden, NotFound, NotReady, TooMany
from ..policy import Action, Actor, can
from .forms import (
    COOKIE,
    Text,
    Visitor,
    Word,
    carry_out,
    form_page,
    origin,
    require_own_origin,
)
from .render import page

router = APIRouter(include_in_schema=False)

PENDING: Final = "tiltyard-oidc"
PENDING_SECONDS: Final = 600
"""How long somebody may be at the provider."""
LATEST: Final = 50
"""Entries that an account's page shows."""


@router.get("/sign-in")
def sign_in_form(request: Request, state: CurrentState, visitor: Visitor) -> Response:
    """Name and password."""
    return _home() if visitor.account_id else _sign(request, state, up=False)


@router.post("/sign-in")
def sign_in(request: Request, state: CurrentState, name: Text, password: Text) -> Response:
    """Sign in; what is wrong is said above the form."""
    try:
        require_own_origin(request, state)
        state.attempt(request, name)
        known = signing.checked(state.database, name, password)
        with state.database.write() as session:
            text = signing.open_session(session, session.get_one(Account, known))
    except ApiError as error:
        return _sign(request, state, up=False, name=name, error=error)
    return _signed_in(request, state, text)


@router.get("/sign-in/oidc")
def to_provider(request: Request, state: CurrentState) -> Response:
    """To the OpenID provider of this server, which sends the browser back."""
    url, pending = oidc.begin(_provider(state), _back(request, state))
    answer = RedirectResponse(url, 303)
    _keep(answer, request, state, PENDING, ".".join(pending), PENDING_SECONDS)
    return answer


@router.get("/sign-in/oidc/back")
def from_provider(request: Request, state: CurrentState, visitor: Visitor) -> Response:
    """Back from the provider: signed in, or linked where one is signed in already."""
    kept = request.cookies.get(PENDING, "").split(".")
    pending = oidc.Pending(*kept) if len(kept) == len(oidc.Pending._fields) else None
    try:
        query = dict(request.query_params)
        found = oidc.finish(_provider(state), _back(request, state), pending, query)
        with state.database.write() as session:
            row = signing.by_identity(session, state.settings.sign_up, found, visitor)
            text = signing.open_session(session, row) if visitor.account_id is None else None
    except (Conflict, Forbidden, NotReady) as error:
        answer = _sign(request, state, up=False, error=error)
    else:
        answer = _home() if text is None else _signed_in(request, state, text)
    answer.delete_cookie(PENDING)
    return answer


@router.get("/sign-up")
def sign_up_form(request: Request, state: CurrentState, visitor: Visitor) -> Response:
    """A new account, where this server takes them."""
    return _home() if visitor.account_id else _sign(request, state, up=True)


@router.post("/sign-up")
def sign_up(
    request: Request,
    state: CurrentState,
    name: Text,
    password: Text,
    invitation: Text = "",
) -> Response:
    """A new account, signed in at once."""
    try:
        require_own_origin(request, state)
        state.attempt(request)
        made = signing.sign_up(
            state.database, state.settings.sign_up, name, password, invitation.strip() or None
        )
        with state.database.write() as session:
            text = signing.open_session(session, session.get_one(Account, made))
    except ApiError as error:
        return _sign(request, state, up=True, name=name, error=error)
    return _signed_in(request, state, text)


@router.get("/account")
def account(request: Request, state: CurrentState, visitor: Visitor) -> Response:
    """The account: its entries, team and tokens."""
    return _account(request, state, visitor)


@router.post("/account/sign-out")
def sign_out(request: Request, state: CurrentState, visitor: Visitor, word: Word = "") -> Response:
    """End this browser's session."""

    def end(session: Session) -> None:
        accounts.revoke(session, session.get_one(Token, visitor.token_id), visitor.name)

    answer = _do(request, state, visitor, word, end)
    answer.delete_cookie(COOKIE)
    return answer


@router.post("/account/password")
def password(
    request: Request, state: CurrentState, visitor: Visitor, old: Text, new: Text, word: Word = ""
) -> Response:
    """Another password; every browser is signed out, this one too."""

    kept: list[str] = []

    def before() -> None:
        state.attempt(request, visitor.name)
        signing.checked(state.database, visitor.name, old)
        kept.append(passwords.hashed(new))

    def change(session: Session) -> None:
        row = session.get_one(Account, visitor.account_id)
        signing.set_password(session, row, kept[0], actor=visitor.name)

    return _do(request, state, visitor, word, change, "account.write", before=before)


@router.post("/account/tokens")
def new_token(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    scope: Text,
    days: Annotated[float, Form(gt=0, le=3650)] = 90.0,
    label: Text = "",
    word: Word = "",
) -> Response:
    """A token for programs; its text is shown this once."""

    def make(session: Session) -> str:
        row = session.get_one(Account, visitor.account_id)
        return signing.new_token(session, row, scope, days, label, visitor)[1]

    return _do(request, state, visitor, word, make, "token.create")


@router.post("/account/tokens/{token_id}/revoke")
def revoke(
    request: Request, state: CurrentState, visitor: Visitor, token_id: str, word: Word = ""
) -> Response:
    """Have a token be good no more."""

    def end(session: Session) -> None:
        row = owned(
            session.get(Token, token_id), visitor, "account.write", "there is no such token"
        )
        accounts.revoke(session, row, visitor.name)

    return _do(request, state, visitor, word, end)


@router.post("/account/team")
def new_team(
    request: Request, state: CurrentState, visitor: Visitor, name: Text, word: Word = ""
) -> Response:
    """A team with this account as its captain."""

    def make(session: Session) -> None:
        teams.create(session, visitor, name)

    return _do(request, state, visitor, word, make, "team.create")


@router.post("/account/team/join")
def join(
    request: Request, state: CurrentState, visitor: Visitor, invitation: Text, word: Word = ""
) -> Response:
    """Into the team that the code names."""

    def enter(session: Session) -> None:
        teams.join(session, visitor, invitation.strip())

    return _do(request, state, visitor, word, enter, "team.create")


@router.post("/account/team/invite")
def invite(request: Request, state: CurrentState, visitor: Visitor, word: Word = "") -> Response:
    """A code to join the captain's team; it is shown this once."""

    def make(session: Session) -> str:
        require(visitor, "team.manage", visitor.team_id or "")
        return invitations.create(session, visitor.name, team_id=visitor.team_id)[1]

    return _do(request, state, visitor, word, make)


@router.post("/account/team/{account_id}/{what}")
def member(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    account_id: str,
    what: str,
    word: Word = "",
) -> Response:
    """Take a member out of the team (or leave it), or make it the captain."""
    team_id = visitor.team_id or ""

    def change(session: Session) -> None:
        if what == "remove":
            require(visitor, teams.action_to_remove(visitor, account_id), team_id)
            teams.remove(session, visitor, team_id, account_id)
        elif what == "captain":
            require(visitor, "team.manage", team_id)
            teams.make_captain(session, visitor, team_id, account_id)
        else:
            raise NotFound(f"there is no {what!r} to do with a member")

    return _do(request, state, visitor, word, change)


@router.post("/account/entries/{submission_id}/{what}")
def entry(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    submission_id: str,
    what: str,
    word: Word = "",
) -> Response:
    """Cancel, withdraw or run again one of the account's entries."""
    known: dict[str, tuple[Action, Callable[[Session, Submission, Actor], object]]] = {
        "cancel": ("submission.cancel", lifecycle.cancel),
        "withdraw": ("submission.withdraw", lifecycle.withdraw),
        "rerun": ("submission.rerun", lifecycle.rerun),
    }

    def change(session: Session) -> None:
        missing = "there is no such entry of yours"
        if what not in known:
            raise NotFound(missing)
        action, act = known[what]
        row = session.get(Submission, submission_id)
        act(session, owned(row, visitor, action, missing), visitor)

    answer = _do(request, state, visitor, word, change)
    state.wake()
    return answer


@router.get("/audit")
def audit(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    before: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    by: str | None = None,
    kind: str | None = None,
) -> Response:
    """Who did what, for operators."""
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    require(visitor, "audit.read")
    with state.database.read() as session:
        found = people.audit(session, before=before, by=by or None, kind=kind or None)
    return page(request, "audit.html", found=found, by=by, kind=kind, here="account")


def _do(
    request: Request,
    state: State,
    visitor: Actor,
    word: str,
    change: Callable[[Session], str | None],
    action: Action | None = None,
    *,
    before: Callable[[], None] | None = None,
) -> Response:
    """Do what a form of the account asks for; ``before``: what takes a while, without a session."""

    def first() -> None:
        if action is not None:
            require(visitor, action, visitor.account_id)
        if before is not None:
            before()

    show = partial(_account, request, state, visitor)
    return carry_out(
        request, state, visitor, word, change, address="/account", show=show, before=first
    )


def _account(
    request: Request,
    state: State,
    visitor: Actor,
    *,
    error: ApiError | None = None,
    secret: str | None = None,
) -> Response:
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    with state.database.read() as session:
        own = session.get_one(Account, visitor.account_id)
        mine = Actor(visitor.account_id, visitor.name, "participant", "read", visitor.team_id)
        return form_page(
            request,
            "account.html",
            error,
            account=people.account(session, own, visitor),
            tokens=people.tokens(session, own.id),
            entries=queries.submissions(session, mine, limit=LATEST),
            visitor=visitor,
            with_password=own.password is not None,
            provider=_provider_name(state),
            may_audit=can(visitor, "audit.read"),
            secret=secret,
            here="account",
        )


def _sign(
    request: Request,
    state: State,
    *,
    up: bool,
    name: str = "",
    error: ApiError | None = None,
) -> Response:
    """The form to sign in, or up, with what was wrong with the last one."""
    answer = page(
        request,
        "sign.html",
        error.status if error is not None else 200,
        up=up,
        how=state.settings.sign_up,
        provider=_provider_name(state),
        name=name,
        error=error,
        here="account",
    )
    answer.headers.update(error.headers if isinstance(error, TooMany) else {})
    return answer


def _signed_in(request: Request, state: State, text: str) -> Response:
    answer = _home()
    _keep(answer, request, state, COOKIE, text, int(signing.SESSION_DAYS * 86400))
    return answer


def _keep(
    answer: Response, request: Request, state: State, name: str, text: str, seconds: int
) -> None:
    """Have the browser keep a cookie that no script reads."""
    secure = origin(request, state).startswith("https:")
    answer.set_cookie(name, text, max_age=seconds, httponly=True, samesite="lax", secure=secure)


def _provider_name(state: State) -> str | None:
    return state.settings.oidc_name if state.settings.oidc_issuer else None


def _provider(state: State) -> oidc.Provider:
    chosen = state.settings
    if chosen.oidc_issuer is None:
        raise NotFound("this server signs nobody in through another provider")
    secret = chosen.oidc_client_secret.get_secret_value()
    return oidc.Provider(chosen.oidc_issuer, chosen.oidc_client_id, secret)


def _back(request: Request, state: State) -> str:
    return f"{origin(request, state)}/sign-in/oidc/back"


def _home() -> Response:
    return RedirectResponse("/account", 303)
