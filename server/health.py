"""Whether this server is fit for work: what keeps it from it, and what an operator should see."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from . import jobs
from .db import migrations
from .db.engine import Database, db_now
from .db.tables import Job
from .schemas import HealthView

if TYPE_CHECKING:
    from .api.deps import State

logger = logging.getLogger(__name__)


def unready(state: State) -> str | None:
    """Why requests can't be served or jobs not be run now, with the mend; None when they can.

    Looks at the database and its migration, at the folders that are written to, and at the threads
    of this process's worker. A server without workers is ready when others are not there: whether
    jobs wait in vain is a warning of ``examine``.
    """
    try:
        found = migrations.current(state.database)
    except SQLAlchemyError:
        logger.exception("the database does not answer")
        return "the database does not answer; try again in a moment"
    if found is None:
        return "the database has no tables yet; the server is still starting"
    if found != migrations.head():
        return (
            f"the database is at migration {found} and this server was made for "
            f"{migrations.head()}; the operator has to start the server of the same version"
        )
    for folder in (state.settings.data_dir, state.store.folder):
        problem = unwritable(folder)
        if problem is not None:
            return problem
    if state.worker is not None and not state.worker.alive:
        return "the worker is not running; the operator has to restart the server"
    return None


def unwritable(folder: Path) -> str | None:
    """Why a file can't be written to this folder, with the mend; None when it can."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".new-") as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        logger.exception("%s can't be written to", folder)
        return (
            f"the server can't write to its storage ({error.strerror}); the operator has to make "
            "room or mend its permissions"
        )
    return None


def unattended(session: Session, after_seconds: float) -> int:
    """How many jobs could have been run for so long while no worker holds any job at all."""
    alive = select(Job.id).where(Job.state.in_(jobs.HELD), Job.lease_until > db_now()).limit(1)
    if session.scalars(alive).first() is not None:
        return 0
    waiting = select(func.count()).select_from(Job)
    could = waiting.where(Job.state == "queued", Job.run_after <= db_now() - after_seconds)
    return session.scalar(could) or 0


def examine(state: State) -> HealthView:
    """All that is known of this server's health; never raises for what is broken."""
    from .plays import versions

    warnings: list[str] = []
    problem = unready(state)
    if problem is not None:
        warnings.append(problem)
    migration, waiting = _record(state.database, 2 * state.settings.lease_seconds)
    if waiting:
        warnings.append(f"no worker has been seen while {waiting} jobs wait; start one")
    facts: dict[str, object] = {"provider": state.settings.sandbox, "elsewhere": True}
    if state.provider is not None:
        facts = dict(state.provider.facts())
        missing = facts.get("missing")
        if isinstance(missing, list):
            warnings += [f"the sandbox's host lacks {what}" for what in missing]
        if not state.provider.isolated:
            warnings.append("submissions run WITHOUT isolation (process sandbox)")
    return HealthView(
        status="degraded" if warnings else "ok",
        version=versions()["tiltyard"],
        database=state.database.url.get_backend_name(),
        migration=migration,
        workers=state.settings.workers,
        sandbox=facts,
        warnings=warnings,
    )


def _record(database: Database, after_seconds: float) -> tuple[str | None, int]:
    """The migration, and how many jobs wait in vain; None and 0 without a database."""
    try:
        with database.read() as session:
            return migrations.current(database), unattended(session, after_seconds)
    except SQLAlchemyError:
        return None, 0
