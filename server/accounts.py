"""Accounts and their tokens; what they may do is in policy.py.

A token reads ``tilt_<id>_<secret>``. The database keeps the SHA-256 of the whole; it is shown once.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final, cast

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bench.errors import UserError

from .db.engine import db_now
from .db.ids import new_id
from .db.tables import Account, Membership, Organiser, Token
from .db.writes import append_event
from .policy import ANONYMOUS, COMMAND_LINE, SCOPES, Actor, Role, Scope

BASELINE: Final = "baseline"
RESERVED: Final = frozenset({BASELINE, COMMAND_LINE, ANONYMOUS.name})
"""Names that stand for something else on boards and in the audit log."""
Change = Callable[[Session, str, str], Account]
"""A change of the account of a name, by an actor."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,39}")
_ROLES = ("participant", "operator")


def create_user(session: Session, name: str, role: str = "participant") -> Account:
    """Create an account; raises UserError for a bad or taken name and an unknown role."""
    if role not in _ROLES:
        raise UserError(f"role {role!r} is not known; choose one of {', '.join(_ROLES)}")
    return make(session, name, role)


def make(
    session: Session, name: str, role: str = "participant", password: str | None = None
) -> Account:
    """Create an account of any role, a team among them; raises UserError for its name.

    Args:
        password: its hash.
    """
    require_name(session, name)
    account = Account(name=name, role=role, password=password)
    try:
        with session.begin_nested():
            session.add(account)
    except IntegrityError as error:  # the same name at the same moment
        raise _taken(name) from error
    return account


def require_name(session: Session, name: str) -> None:
    """Raise UserError unless an account, or a team, may have this name."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"account name {name!r}: want 1 to 40 letters, digits, dots, dashes, spaces or "
            "underscores, starting with a letter or a digit"
        )
    if _is_taken(session, name):
        raise _taken(name)


def free_name(session: Session, wanted: str) -> str:
    """A name like the wanted one that an account may have."""
    base = re.sub(r"[^A-Za-z0-9._ -]+", "-", wanted).strip("._ -")[:36] or "somebody"
    for number in itertools.count(1):
        name = base if number == 1 else f"{base}-{number}"
        if not _is_taken(session, name):
            return name
    raise AssertionError("unreachable")


def find_user(session: Session, name: str) -> Account:
    """The account of that name; raises UserError when there is none."""
    account = _find(session, name)
    if account is None:
        raise UserError(f"no account {name!r}; create it with `tiltyard admin create-user {name}`")
    return account


def baseline_account(session: Session) -> Account:
    """The account that owns zoo models and baseline attacks; made on first use."""
    account = _find(session, BASELINE)
    if account is None:
        account = Account(name=BASELINE, role="system")
        session.add(account)
        session.flush()
    return account


def create_token(
    session: Session,
    account: Account | str,
    scope: str = "submit",
    expires_days: float | None = 90.0,
    *,
    label: str = "",
    web: bool = False,
) -> str:
    """Make a token for an account (or its name) and return its text, which is not kept.

    Args:
        scope: "read" < "submit" < "operate" (operators, and organisers of a challenge, only).
        expires_days: None: never.
        label: what it is for, in its owner's words.
        web: the token is of a browser that has signed in, which keeps it as a cookie.

    Raises:
        UserError: unknown account or scope, or one that the role may not have.
    """
    owner = find_user(session, account) if isinstance(account, str) else account
    if scope not in SCOPES:
        raise UserError(f"scope {scope!r} is not known; choose one of {', '.join(SCOPES)}")
    if owner.role in ("system", "team"):
        what = "the server's own" if owner.role == "system" else "a team"
        raise UserError(f"account {owner.name!r} is {what} and gets no tokens")
    if scope == "operate" and not may_operate(session, owner):
        raise UserError(
            f"scope 'operate' needs the role operator, or to be organiser of a challenge; "
            f"{owner.name!r} is {owner.role}"
        )
    if expires_days is not None and expires_days <= 0:
        raise UserError(f"expires_days is {expires_days}; want a positive number of days, or none")
    token_id = new_id()
    text = f"tilt_{token_id}_{secrets.token_urlsafe(32)}"
    token = Token(
        id=token_id,
        account_id=owner.id,
        digest=digest(text),
        scope=scope,
        label=label[:80],
        kind="session" if web else "api",
    )
    session.add(token)
    session.flush()
    if expires_days is not None:
        expires = db_now() + expires_days * 86400.0
        session.execute(update(Token).where(Token.id == token_id).values(expires_at=expires))
    return text


def revoke_token(session: Session, text: str) -> bool:
    """Revoke a token by its text; False when it is unknown or revoked already."""
    done = session.execute(
        update(Token)
        .where(Token.digest == digest(text), Token.revoked_at.is_(None))
        .values(revoked_at=db_now())
        .returning(Token.id)
    )
    return done.first() is not None


def revoke(session: Session, token: Token, actor: str) -> None:
    """Have a token be good no more. Twice is harmless."""
    if token.revoked_at is None:
        token.revoked_at = session.execute(select(db_now())).scalar_one()
        session.flush()
        append_event(session, "token.revoked", actor=actor, payload={"token": token.id})


def authenticate(session: Session, text: str) -> Actor | None:
    """The actor behind a token, or None when it is unknown, expired, revoked or disabled."""
    parts = text.split("_", 2)
    token_id = parts[1] if len(parts) == 3 and parts[0] == "tilt" else ""
    row = session.execute(
        select(Token, Account, db_now())
        .join(Account, Account.id == Token.account_id)
        .where(Token.id == token_id)
    ).first()
    stored = row[0].digest if row is not None else "0" * 64
    if not hmac.compare_digest(stored, digest(text)) or row is None:
        return None
    token, account, now = row
    expired = token.expires_at is not None and token.expires_at <= now
    if expired or token.revoked_at is not None or account.disabled_at is not None:
        return None
    return actor_of(session, account, token.scope, token.id)


def actor_of(session: Session, account: Account, scope: Scope, token_id: str | None) -> Actor:
    """An account as it acts with a token of this scope."""
    member = session.get(Membership, account.id)
    organises = session.scalars(select(Organiser.challenge).filter_by(account_id=account.id))
    return Actor(
        account.id,
        account.name,
        cast(Role, account.role),
        scope,
        team_id=member.team_id if member is not None else None,
        captain=member is not None and member.captain,
        organises=frozenset(organises),
        token_id=token_id,
    )


def tokens(session: Session, account_id: str) -> Sequence[Token]:
    """The good tokens of an account, oldest first, sessions of browsers among them."""
    good = (Token.expires_at.is_(None)) | (Token.expires_at > db_now())
    query = select(Token).where(Token.account_id == account_id, Token.revoked_at.is_(None), good)
    return session.scalars(query.order_by(Token.id)).all()


def disable(session: Session, name: str, actor: str) -> Account:
    """Close an account: its tokens are good no more. Its entries stay. Twice is harmless."""
    account = find_user(session, name)
    if account.role == "system":
        raise UserError(f"account {name!r} is the server's own; it can't be closed")
    if account.role == "team":
        raise UserError(f"{name!r} is a team; close its members' accounts")
    if account.disabled_at is None:
        account.disabled_at = session.execute(select(db_now())).scalar_one()
        append_event(session, "account.disabled", actor=actor, payload={"account": name})
    return account


def enable(session: Session, name: str, actor: str) -> Account:
    """Open a closed account again, with the tokens that it had. Twice is harmless."""
    account = find_user(session, name)
    if account.disabled_at is not None:
        account.disabled_at = None
        append_event(session, "account.enabled", actor=actor, payload={"account": name})
    return account


def set_organiser(
    session: Session, name: str, challenge: str, actor: str, *, organises: bool = True
) -> None:
    """Make an account an organiser of a challenge, or one no more. Twice is harmless."""
    account = find_user(session, name)
    if account.role not in ("participant", "operator"):
        raise UserError(f"{name!r} is {account.role}; organisers are people")
    row = session.get(Organiser, (account.id, challenge))
    if (row is not None) == organises:
        return
    if row is None:
        session.add(Organiser(account_id=account.id, challenge=challenge))
    else:
        session.delete(row)
    session.flush()
    append_event(
        session,
        "organiser.added" if organises else "organiser.removed",
        actor=actor,
        payload={"account": name, "challenge": challenge},
    )


def may_operate(session: Session, account: Account) -> bool:
    """Whether an account may have tokens of scope "operate"."""
    organises = select(Organiser.challenge).filter_by(account_id=account.id).limit(1)
    return account.role == "operator" or session.scalar(organises) is not None


def _is_taken(session: Session, name: str) -> bool:
    return name in RESERVED or _find(session, name) is not None


def _taken(name: str) -> UserError:
    return UserError(f"account {name!r} exists already; choose another name")


def _find(session: Session, name: str) -> Account | None:
    return session.scalars(select(Account).where(Account.name == name)).one_or_none()


def digest(text: str) -> str:
    """What is kept of a secret: its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()
