"""What routes and pages ask for: the app's state, a session to read, and who asks.

def page(session: ReadSession, actor: CurrentActor) -> ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from ..accounts import authenticate
from ..db.engine import Database
from ..errors import Forbidden, NotFound, Unauthorised
from ..metrics import Metrics
from ..policy import ANONYMOUS, Action, Actor, can
from ..settings import Settings
from ..signing import Attempts
from ..storage import Store

if TYPE_CHECKING:
    from ..sandbox.types import Provider
    from ..worker import Worker

MOST = 2**62
"""The largest number of a request that every database can hold."""


@dataclass
class State:
    """What lives as long as the application; ``worker`` is None where none was started."""

    settings: Settings
    database: Database
    store: Store
    provider: Provider | None = None
    worker: Worker | None = None
    attempts: Attempts = field(default_factory=Attempts)
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.database, self._slots)

    def _slots(self) -> tuple[int, int]:
        busy = self.worker.busy if self.worker is not None else 0
        return busy, self.settings.workers

    def attempt(self, request: Request, name: str | None = None) -> None:
        """Count a try from an address, of a password of this account; raises TooMany."""
        host = request.client.host if request.client is not None else ""
        self.attempts.count(f"address:{host}", *([f"name:{name}"] if name is not None else []))

    def wake(self) -> None:
        """Have this server's workers look for jobs at once, not at their next turn."""
        if self.worker is not None:
            self.worker.wake()


def get_state(request: Request) -> State:
    """The application's state."""
    return cast(State, request.app.state.tiltyard)


def get_session(request: Request) -> Iterator[Session]:
    """A session for reading, closed after the answer."""
    with get_state(request).database.read() as session:
        yield session


def get_actor(request: Request) -> Actor:
    """Who asks, from ``Authorization: Bearer``; nobody without one; 401 when it is not good."""
    header = request.headers.get("authorization")
    if header is None:
        return ANONYMOUS
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthorised("the Authorization header must read 'Bearer <token>'")
    with get_state(request).database.read() as session:
        actor = authenticate(session, text.strip())
    if actor is None:
        raise Unauthorised(
            "this token is unknown, expired or revoked; make a new one (`tiltyard token`, or POST "
            "/api/v1/auth/tokens), or ask the operator for one"
        )
    return actor


CurrentState = Annotated[State, Depends(get_state)]
ReadSession = Annotated[Session, Depends(get_session)]
CurrentActor = Annotated[Actor, Depends(get_actor)]


def require(
    actor: Actor, action: Action, owner_id: str | None = None, *, challenge: str | None = None
) -> None:
    """Raise unless ``can``: 401 for nobody, 404 for what is another's, 403 for a weak token."""
    if can(actor, action, owner_id, challenge=challenge):
        return
    if actor.account_id is None:
        raise Unauthorised(f"{action} needs a token: send 'Authorization: Bearer <token>'")
    if owner_id is not None and not actor.owns(owner_id):
        raise NotFound("nothing of yours has this id; look at GET /api/v1/submissions")
    if owner_id is not None and owner_id == actor.team_id and not actor.captain:
        raise Forbidden(f"{action} is for the captain of your team; ask them")
    raise Forbidden(
        f"a token of scope {actor.scope!r} and role {actor.role!r} may not do {action}; "
        "ask the operator for one that may"
    )


class Owned(Protocol):
    """Something that belongs to an account."""

    @property
    def account_id(self) -> Any:
        """Whose it is."""


T = TypeVar("T", bound=Owned)


def owned(row: T | None, actor: Actor, action: Action, missing: str) -> T:
    """The row, if the actor may do this to it; else as `require`, and NotFound for none."""
    require(actor, action, row.account_id if row is not None else "")
    if row is None:
        raise NotFound(missing)
    return row
