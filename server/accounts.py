"""Accounts, tokens, and the one question ``can(actor, action, owner)``.

A token reads ``tilt_<id>_<secret>``. The database keeps the SHA-256 of the whole; it is shown once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal, cast

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bench.errors import UserError

from .db.engine import db_now
from .db.ids import new_id
from .db.tables import Account, Token

Role = Literal["anonymous", "participant", "operator"]
Scope = Literal["read", "submit", "operate"]
Action = Literal[
    "public.read",
    "upload.create",
    "upload.read",
    "upload.write",
    "submission.create",
    "submission.list",
    "submission.read",
    "submission.cancel",
    "submission.withdraw",
    "submission.rerun",
    "submission.logs",
    "challenge.manage",
    "board.rescore",
    "round.read",
    "round.manage",
]
BASELINE: Final = "baseline"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,39}")
_ROLES = ("participant", "operator")
_SCOPES = ("read", "submit", "operate")


@dataclass(frozen=True)
class Actor:
    """Who asks: an account with what its token allows, or nobody."""

    account_id: str | None
    name: str
    role: Role
    scope: Scope

    def owns(self, account_id: str) -> bool:
        """Whether something of that account is this actor's own."""
        return self.account_id is not None and self.account_id == account_id

    def sees_private(self, account_id: str) -> bool:
        """Whether reasons and logs of that account's entries may be shown to this actor."""
        return can(self, "submission.logs", account_id)


ANONYMOUS: Final = Actor(account_id=None, name="anonymous", role="anonymous", scope="read")

# action -> (who besides operators: "anyone", "signed-in", "owner" or "nobody"; the least scope)
_RULES: Final[dict[Action, tuple[str, Scope]]] = {
    "public.read": ("anyone", "read"),
    "upload.create": ("signed-in", "submit"),
    "upload.read": ("owner", "submit"),
    "upload.write": ("owner", "submit"),
    "submission.create": ("signed-in", "submit"),
    "submission.list": ("signed-in", "read"),
    "submission.read": ("owner", "read"),
    "submission.cancel": ("owner", "submit"),
    "submission.withdraw": ("owner", "submit"),
    "submission.rerun": ("owner", "submit"),
    "submission.logs": ("owner", "read"),
    "challenge.manage": ("nobody", "operate"),
    "board.rescore": ("nobody", "operate"),
    "round.read": ("nobody", "operate"),
    "round.manage": ("nobody", "operate"),
}
_OPERATORS_NEVER: Final[frozenset[Action]] = frozenset({"upload.write"})


def can(actor: Actor, action: Action, owner_id: str | None = None) -> bool:
    """May ``actor`` do this to something that account ``owner_id`` owns? Denies by default."""
    who, least = _RULES[action]
    if _SCOPES.index(actor.scope) < _SCOPES.index(least):
        return False
    if who == "anyone":
        return True
    if actor.account_id is None and actor.role == "anonymous":
        return False
    if who == "signed-in" or (who == "owner" and actor.owns(owner_id or "")):
        return True
    return actor.role == "operator" and actor.scope == "operate" and action not in _OPERATORS_NEVER


def create_user(session: Session, name: str, role: str = "participant") -> Account:
    """Create an account; raises UserError for a bad or taken name and an unknown role."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"account name {name!r}: want 1 to 40 letters, digits, dots, dashes, spaces or "
            "underscores, starting with a letter or a digit"
        )
    if role not in _ROLES:
        raise UserError(f"role {role!r} is not known; choose one of {', '.join(_ROLES)}")
    if name == BASELINE or _find(session, name) is not None:
        raise UserError(f"account {name!r} exists already; choose another name")
    account = Account(name=name, role=role)
    session.add(account)
    session.flush()
    return account


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
) -> str:
    """Make a token for an account (or its name) and return its text, which is not kept.

    ``scope``: "read" < "submit" < "operate" (operators only). ``expires_days`` None: never.
    Raises UserError for an unknown account or scope, or one that the role may not have.
    """
    owner = find_user(session, account) if isinstance(account, str) else account
    if scope not in _SCOPES:
        raise UserError(f"scope {scope!r} is not known; choose one of {', '.join(_SCOPES)}")
    if owner.role == "system":
        raise UserError(f"account {owner.name!r} is the server's own and gets no tokens")
    if scope == "operate" and owner.role != "operator":
        raise UserError(f"scope 'operate' needs the role operator; {owner.name!r} is {owner.role}")
    if expires_days is not None and expires_days <= 0:
        raise UserError(f"expires_days is {expires_days}; want a positive number of days, or none")
    token_id = new_id()
    text = f"tilt_{token_id}_{secrets.token_urlsafe(32)}"
    token = Token(id=token_id, account_id=owner.id, digest=_digest(text), scope=scope)
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
        .where(Token.digest == _digest(text), Token.revoked_at.is_(None))
        .values(revoked_at=db_now())
        .returning(Token.id)
    )
    return done.first() is not None


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
    if not hmac.compare_digest(stored, _digest(text)) or row is None:
        return None
    token, account, now = row
    expired = token.expires_at is not None and token.expires_at <= now
    if expired or token.revoked_at is not None or account.disabled_at is not None:
        return None
    return Actor(account.id, account.name, cast(Role, account.role), token.scope)


def _find(session: Session, name: str) -> Account | None:
    return session.scalars(select(Account).where(Account.name == name)).one_or_none()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
