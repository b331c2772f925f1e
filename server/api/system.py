"""The queue, and whether the server is well."""

from __future__ import annotations

import logging

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from ..db import migrations, queries
from ..errors import NotReady
from ..plays import versions
from ..schemas import HealthView, QueueView
from .deps import CurrentActor, CurrentState, ReadSession, State

logger = logging.getLogger(__name__)
router = APIRouter(tags=["system"])
health_router = APIRouter(tags=["system"])


@router.get("/queue")
def queue(session: ReadSession, actor: CurrentActor, state: CurrentState) -> QueueView:
    """What runs, what comes next, and why the rest waits."""
    return queries.queue(session, state.settings.workers, actor)


@health_router.get("/healthz")
def healthz(state: CurrentState) -> HealthView:
    """Alive, and with which safeguards. Answers 200 even when degraded: read ``warnings``."""
    warnings: list[str] = []
    try:
        migration = migrations.current(state.database)
    except SQLAlchemyError:
        logger.exception("the database does not answer")
        migration = None
        warnings.append("the database does not answer")
    facts: dict[str, object] = {"provider": state.settings.sandbox, "elsewhere": True}
    if state.provider is not None:
        facts = dict(state.provider.facts())
        missing = facts.get("missing")
        if isinstance(missing, list):
            warnings += [f"the sandbox's host lacks {what}" for what in missing]
        if not state.provider.isolated:
            warnings.append("submissions run WITHOUT isolation (process sandbox)")
    if not _working(state):
        warnings.append("a thread of the worker has died; restart the server")
    return HealthView(
        status="degraded" if warnings else "ok",
        version=versions()["tiltyard"],
        database=state.database.url.get_backend_name(),
        migration=migration,
        workers=state.settings.workers,
        sandbox=facts,
        warnings=warnings,
    )


@health_router.get("/readyz")
def readyz(state: CurrentState) -> dict[str, str]:
    """200 when requests can be served and jobs be run, else 503."""
    try:
        migration = migrations.current(state.database)
    except SQLAlchemyError as error:
        raise NotReady("the database does not answer; try again in a moment") from error
    if migration is None:
        raise NotReady("the database has no tables yet; the server is still starting")
    if not _working(state):
        raise NotReady("the worker is not running; the operator has to restart the server")
    return {"status": "ready"}


def _working(state: State) -> bool:
    return state.worker is None or state.worker.alive
