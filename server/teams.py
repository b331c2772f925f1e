"""Teams: a captain and members. What a member enters belongs to the team, which has one quota.

An account is in one team at most; what it entered before stays its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from . import accounts, invitations
from .db.tables import Account, Membership
from .db.writes import append_event, insert_ignore
from .errors import Conflict, Invalid, NotFound, answered
from .policy import Action, Actor

MEMBERS: Final = 20
"""Most that a team may have."""


def create(session: Session, actor: Actor, name: str) -> Account:
    """A new team with the actor as its captain.

    Raises Conflict where the actor is in a team, and Invalid for a bad or taken name.
    """
    assert actor.account_id is not None
    with answered():
        team = accounts.make(session, name, "team")
    _enter(session, team, actor.account_id, captain=True)
    append_event(session, "team.created", actor=actor.name, payload={"team": name})
    return team


def get(session: Session, team_id: str) -> Account:
    """The team of that id; raises NotFound."""
    team = session.get(Account, team_id)
    if team is None or team.role != "team":
        raise NotFound(f"there is no team {team_id!r}; look at GET /api/v1/auth/me for yours")
    return team


def members(session: Session, team_id: str) -> Sequence[tuple[Account, bool]]:
    """(account, whether it is the captain), in the order in which they joined."""
    query = (
        select(Account, Membership.captain)
        .join(Membership, Membership.account_id == Account.id)
        .where(Membership.team_id == team_id)
        .order_by(Membership.created_at, Account.id)
    )
    return [(account, captain) for account, captain in session.execute(query)]


def join(session: Session, actor: Actor, code: str) -> Account:
    """Enter the team that the code of an invitation names.

    Raises Invalid for a code that is not good, and Conflict where the actor is in a team already,
    or the team is full.
    """
    assert actor.account_id is not None
    invitation = invitations.redeem(session, code, actor.account_id)
    if invitation.team_id is None:
        raise Invalid("this invitation is to sign up here, not to join a team")
    team = get(session, invitation.team_id)
    _enter(session, team, actor.account_id, captain=False)
    append_event(session, "team.joined", actor=actor.name, payload={"team": team.name})
    return team


def action_to_remove(actor: Actor, account_id: str) -> Action:
    """What taking this member out of a team is: leaving it, or managing it."""
    return "team.leave" if account_id == actor.account_id else "team.manage"


def remove(session: Session, actor: Actor, team_id: str, account_id: str) -> None:
    """Take a member out of its team, whose entries stay the team's.

    Raises NotFound for one who is no member, and Conflict for a captain of others.
    """
    team, member = get(session, team_id), _member(session, team_id, account_id)
    if member.captain and len(members(session, team_id)) > 1:
        raise Conflict(f"{team.name} needs a captain: make another member captain first")
    session.delete(member)
    session.flush()
    left = session.get_one(Account, account_id).name
    append_event(
        session, "team.left", actor=actor.name, payload={"team": team.name, "account": left}
    )


def make_captain(session: Session, actor: Actor, team_id: str, account_id: str) -> None:
    """Have another member be the captain. Raises NotFound for one who is no member."""
    team, chosen = get(session, team_id), _member(session, team_id, account_id)
    for row in session.scalars(select(Membership).filter_by(team_id=team_id)):
        row.captain = row.account_id == chosen.account_id
    session.flush()
    name = session.get_one(Account, account_id).name
    append_event(
        session, "team.captain", actor=actor.name, payload={"team": team.name, "account": name}
    )


def _member(session: Session, team_id: str, account_id: str) -> Membership:
    found = session.get(Membership, account_id)
    if found is None or found.team_id != team_id:
        raise NotFound(f"no member of this team has the id {account_id!r}")
    return found


def _enter(session: Session, team: Account, account_id: str, *, captain: bool) -> None:
    many = session.scalar(select(func.count()).select_from(Membership).filter_by(team_id=team.id))
    if (many or 0) >= MEMBERS:
        raise Conflict(f"{team.name} is full: a team has {MEMBERS} members at most")
    row = {"account_id": account_id, "team_id": team.id, "captain": captain}
    if not insert_ignore(session, Membership, [row]):
        raise Conflict("you are in a team already; leave it before you enter another one")
