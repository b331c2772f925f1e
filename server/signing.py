"""Signing up and signing in: passwords, sessions of browsers, and how often one may try."""

from __future__ import annotations

import math
import time
from typing import Final, Literal

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from . import accounts, invitations, oidc, passwords
from .db.engine import Database, db_now
from .db.tables import Account, Identity, Token
from .db.writes import append_event
from .errors import Conflict, Forbidden, Invalid, TooMany, Unauthorised, answered
from .policy import SCOPES, Actor, Scope

SignUp = Literal["closed", "invitation", "open"]

SESSION_DAYS: Final = 14.0
"""How long a browser stays signed in."""
TOKENS: Final = 50
"""Most good tokens that an account may have."""


class Attempts:
    """How often a password may be tried, for each address and for each account's name."""

    def __init__(self, a_minute: int = 10) -> None:
        self._limit = RateLimitItemPerMinute(a_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, *keys: str) -> None:
        """Count one attempt for each key; raises TooMany once one of them has had its share."""
        for key in keys:
            if not self._limiter.hit(self._limit, key):
                again, _ = self._limiter.get_window_stats(self._limit, key)
                wait = max(1, math.ceil(again - time.time()))
                raise TooMany(
                    f"{self._limit.amount} attempts a minute are allowed; try again in {wait} s",
                    headers={"Retry-After": str(wait)},
                )


def sign_up(
    database: Database, how: SignUp, name: str, password: str, invitation: str | None
) -> str:
    """The id of a new account with a password, if this server takes it.

    Raises:
        Forbidden: no sign-up here, or not without an invitation.
        Invalid: a bad or taken name, password or invitation.
    """
    if how == "closed":
        raise Forbidden("accounts of this server are made by its operator alone; ask them for one")
    if how == "invitation" and not invitation:
        raise Forbidden("signing up here needs an invitation; ask the operator for one")
    kept = passwords.hashed(password)
    with database.write() as session:
        with answered():
            account = accounts.make(session, name, password=kept)
        if invitation:
            used = invitations.redeem(session, invitation, account.id)
            if used.team_id is not None:
                raise Invalid("this invitation is to join a team; sign up with one to this server")
        append_event(session, "account.created", actor=name, payload={"account": name})
        return account.id


def by_identity(session: Session, how: SignUp, found: oidc.Identity, visitor: Actor) -> Account:
    """The account of whom a provider vouches for: the visitor's own, the known one, or a new one.

    The operator trusts the provider, so whoever it knows needs no invitation.

    Raises:
        Forbidden: no sign-up here, or the account is closed.
        Conflict: the visitor's identity is another account's.
    """
    known = session.get(Identity, (found.issuer, found.subject))
    if known is not None:
        if visitor.account_id not in (None, known.account_id):
            raise Conflict("this identity belongs to another account; sign out, and in with it")
        account = session.get_one(Account, known.account_id)
        if account.disabled_at is not None:
            raise Forbidden("this account is closed; ask the operator")
        return account
    if visitor.account_id is not None:
        account = session.get_one(Account, visitor.account_id)
    elif how == "closed":
        raise Forbidden("accounts of this server are made by its operator alone; ask them for one")
    else:
        with answered():
            account = accounts.make(session, accounts.free_name(session, found.name))
        append_event(session, "account.created", actor=account.name, payload={"oidc": found.issuer})
    session.add(Identity(issuer=found.issuer, subject=found.subject, account_id=account.id))
    session.flush()
    append_event(session, "account.linked", actor=account.name, payload={"oidc": found.issuer})
    return account


def set_password(session: Session, account: Account, kept: str, *, actor: str) -> None:
    """Give an account another password, and end the sessions of its browsers.

    Args:
        kept: its hash (`passwords.hashed`).
    """
    account.password = kept
    session.execute(
        update(Token)
        .where(Token.account_id == account.id, Token.kind == "session", Token.revoked_at.is_(None))
        .values(revoked_at=db_now())
    )
    session.flush()
    append_event(session, "account.password", actor=actor, payload={"account": account.name})


def checked(database: Database, name: str, password: str) -> str:
    """The id of the account whose name and password these are; raises Unauthorised.

    Takes as long, and says the same, whether there is such an account or not. The database is not
    held while the password is checked, which takes a while by intent.
    """
    with database.read() as session:
        row = session.scalars(select(Account).filter_by(name=name)).one_or_none()
        known = (row.id, row.password, row.disabled_at) if row is not None else ("", None, None)
    account_id, kept, disabled_at = known
    good, newer = passwords.verified(password, kept)
    if not good or disabled_at is not None:
        raise Unauthorised("there is no account with this name and password")
    if newer is not None:
        with database.write() as session:
            session.execute(
                update(Account).filter_by(id=account_id, password=kept).values(password=newer)
            )
    return account_id


def open_session(session: Session, account: Account) -> str:
    """The text of a token for a browser, with all that the account may do."""
    scope = full(session, account).scope
    text = accounts.create_token(session, account, scope, SESSION_DAYS, web=True)
    append_event(session, "account.signed-in", actor=account.name)
    return text


def full(session: Session, account: Account) -> Actor:
    """An account that has just shown its password: with all that it may do."""
    scope: Scope = "operate" if accounts.may_operate(session, account) else "submit"
    return accounts.actor_of(session, account, scope, None)


def new_token(
    session: Session, account: Account, scope: str, days: float | None, label: str, actor: Actor
) -> tuple[Token, str]:
    """A token for programs, and its text. Raises Invalid, Forbidden or Conflict.

    Args:
        actor: who asks: a token makes none that may do more than itself.
    """
    if scope in SCOPES and SCOPES.index(scope) > SCOPES.index(actor.scope):
        raise Forbidden(
            f"a token of scope {actor.scope!r} can't make one of scope {scope!r}; sign in with "
            "your name and password for that"
        )
    good = accounts.tokens(session, account.id)
    if len(good) >= TOKENS:
        raise Conflict(f"you have {len(good)} tokens; revoke one that you don't use any more")
    with answered():
        text = accounts.create_token(session, account, scope, days, label=label)
    row = session.get_one(Token, text.split("_", 2)[1])
    append_event(
        session, "token.created", actor=account.name, payload={"token": row.id, "scope": scope}
    )
    return row, text
