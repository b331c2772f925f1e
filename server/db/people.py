"""Accounts, tokens, teams and the audit log as the API answers with them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import accounts as known
from .. import schemas as views
from .. import teams
from ..policy import Actor
from .tables import Account, Event, Invitation, Membership, Organiser, Token
from .views import when


def account(session: Session, row: Account, actor: Actor | None = None) -> views.AccountView:
    """One account; with an actor, what its token may do."""
    member = session.get(Membership, row.id)
    organises = select(Organiser.challenge).filter_by(account_id=row.id)
    return views.AccountView(
        id=row.id,
        name=row.name,
        role=row.role,
        team=team(session, teams.get(session, member.team_id)) if member is not None else None,
        organises=sorted(session.scalars(organises)),
        scope=actor.scope if actor is not None else None,
        disabled=row.disabled_at is not None,
        created_at=when(row.created_at),
    )


def accounts(
    session: Session, *, after: str | None = None, limit: int = 50
) -> views.Page[views.AccountView]:
    """All accounts and teams, by name."""
    query = select(Account).order_by(Account.name).limit(limit + 1)
    if after is not None:
        query = query.where(Account.name > after)
    found = list(session.scalars(query))
    return views.Page[views.AccountView](
        items=[account(session, row) for row in found[:limit]],
        next=found[limit - 1].name if len(found) > limit else None,
    )


def team(session: Session, row: Account) -> views.TeamView:
    """One team and its members."""
    return views.TeamView(
        id=row.id,
        name=row.name,
        members=[
            views.MemberView(id=each.id, name=each.name, captain=captain)
            for each, captain in teams.members(session, row.id)
        ],
    )


def token(row: Token) -> views.TokenView:
    """One token, without its text."""
    return views.TokenView(
        id=row.id,
        label=row.label,
        kind=row.kind,
        scope=row.scope,
        created_at=when(row.created_at),
        expires_at=when(row.expires_at),
    )


def tokens(session: Session, account_id: str) -> list[views.TokenView]:
    """The good tokens of an account, oldest first."""
    return [token(row) for row in known.tokens(session, account_id)]


def invitation(row: Invitation, code: str) -> views.InvitationView:
    """A new invitation with its code."""
    return views.InvitationView(code=code, team_id=row.team_id, expires_at=when(row.expires_at))


def audit(
    session: Session,
    *,
    before: int | None = None,
    by: str | None = None,
    kind: str | None = None,
    limit: int = 50,
) -> views.Page[views.AuditView]:
    """What somebody did, newest first. What the server does by itself is not in it."""
    query = select(Event).where(Event.actor.is_not(None)).order_by(Event.id.desc())
    if before is not None:
        query = query.where(Event.id < before)
    if by is not None:
        query = query.where(Event.actor == by)
    if kind is not None:
        query = query.where(Event.kind == kind)
    found = list(session.scalars(query.limit(limit + 1)))
    return views.Page[views.AuditView](
        items=[
            views.AuditView(
                id=row.id,
                kind=row.kind,
                actor=row.actor or "",
                track=row.track,
                submission_id=row.submission_id,
                payload=row.payload,
                created_at=when(row.created_at),
            )
            for row in found[:limit]
        ],
        next=str(found[limit - 1].id) if len(found) > limit else None,
    )
