"""Who may do what: actors, actions, and the one question ``can(actor, action, ...)``.

Nothing is allowed but by a line of the table below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["anonymous", "participant", "operator"]
Scope = Literal["read", "submit", "operate"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "submit", "operate")
"""What a token may do, each with those before it."""

Action = Literal[
    "public.read",
    "account.read",
    "account.write",
    "token.create",
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
    "team.create",
    "team.leave",
    "team.manage",
    "challenge.manage",
    "board.rescore",
    "round.read",
    "round.manage",
    "accounts.manage",
    "audit.read",
]

Who = Literal["anyone", "signed-in", "owner", "captain", "organiser", "nobody"]
"""Besides operators: everybody; whoever has an account; whose it is, or whose team's; the captain
where it is a team's, else the owner; an organiser of the challenge; no one."""

RULES: Final[dict[Action, tuple[Who, Scope]]] = {
    "public.read": ("anyone", "read"),
    "account.read": ("owner", "read"),
    "account.write": ("owner", "submit"),
    "token.create": ("signed-in", "read"),
    "upload.create": ("signed-in", "submit"),
    "upload.read": ("owner", "submit"),
    "upload.write": ("owner", "submit"),
    "submission.create": ("signed-in", "submit"),
    "submission.list": ("signed-in", "read"),
    "submission.read": ("owner", "read"),
    "submission.cancel": ("owner", "submit"),
    "submission.withdraw": ("captain", "submit"),
    "submission.rerun": ("owner", "submit"),
    "submission.logs": ("owner", "read"),
    "team.create": ("signed-in", "submit"),
    "team.leave": ("owner", "submit"),
    "team.manage": ("captain", "submit"),
    "challenge.manage": ("organiser", "operate"),
    "board.rescore": ("organiser", "operate"),
    "round.read": ("organiser", "operate"),
    "round.manage": ("organiser", "operate"),
    "accounts.manage": ("nobody", "operate"),
    "audit.read": ("nobody", "operate"),
}
"""Action -> who may, and the least scope of the token that they may do it with."""

_OPERATORS_NEVER: Final[frozenset[Action]] = frozenset({"upload.write"})


@dataclass(frozen=True)
class Actor:
    """Who asks: an account with what its token allows, or nobody.

    ``team_id``: the team that the account is in, for which it then enters submissions;
    ``organises``: names of challenges.
    """

    account_id: str | None
    name: str
    role: Role
    scope: Scope
    team_id: str | None = None
    captain: bool = False
    organises: frozenset[str] = frozenset()
    token_id: str | None = None

    @property
    def party(self) -> str | None:
        """The account that what this actor enters belongs to: its team's, or its own."""
        return self.team_id or self.account_id

    @property
    def everybodys(self) -> bool:
        """Whether this actor sees what is anybody's: an operator with a token for that."""
        return self.role == "operator" and self.scope == "operate"

    def owns(self, account_id: str) -> bool:
        """Whether something of that account is this actor's own, or its team's."""
        return self.account_id is not None and account_id in (self.account_id, self.team_id)

    def sees_private(self, account_id: str) -> bool:
        """Whether reasons and logs of that account's entries may be shown to this actor."""
        return can(self, "submission.logs", account_id)


COMMAND_LINE: Final = "command line"
"""Who did what is done on the server's own machine, in the audit log."""

ANONYMOUS: Final = Actor(account_id=None, name="anonymous", role="anonymous", scope="read")


def can(
    actor: Actor, action: Action, owner_id: str | None = None, *, challenge: str | None = None
) -> bool:
    """May ``actor`` do this? Denies by default.

    Args:
        owner_id: the account, or the team, that the object belongs to.
        challenge: that the object is part of.
    """
    who, least = RULES[action]
    if SCOPES.index(actor.scope) < SCOPES.index(least):
        return False
    if who == "anyone":
        return True
    if actor.account_id is None and actor.role == "anonymous":
        return False
    owned = owner_id is not None and actor.owns(owner_id)
    allowed = {
        "signed-in": True,
        "owner": owned,
        "captain": owned and (owner_id != actor.team_id or actor.captain),
        "organiser": challenge is not None and challenge in actor.organises,
        "nobody": False,
    }[who]
    return allowed or (actor.everybodys and action not in _OPERATORS_NEVER)
