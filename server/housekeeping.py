"""What has to be done now and then, by whoever is there: each is safe to do twice or half."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from . import jobs, lifecycle
from .db.engine import Database, db_now
from .db.tables import Attempt, Job, Outbox, Round, SampleResult, Submission, Upload
from .instance import name_of
from .settings import Settings
from .storage import Store

if TYPE_CHECKING:
    from .sandbox.types import Provider

STRAY_SECONDS = 3600.0
"""Age at which the file of an upload that the database does not know is removed."""


def drain(database: Database) -> int:
    """Do what finished jobs left to do; returns how many outbox rows were drained."""
    with database.read() as session:
        if session.scalars(select(Outbox.id).where(Outbox.drained_at.is_(None))).first() is None:
            return 0
    with database.write() as session:
        rows = session.scalars(
            select(Outbox).where(Outbox.drained_at.is_(None)).with_for_update(skip_locked=True)
        ).all()
        touched: dict[str, set[str]] = {}
        for row in rows:
            entries = touched.setdefault(row.payload["rules_version"], set())
            entries.update(row.payload.get("entries", ()))
        for version, entries in sorted(touched.items()):
            lifecycle.settle(session, version, entries or None)
        done = update(Outbox).where(Outbox.id.in_([row.id for row in rows]))
        session.execute(
            done.values(drained_at=db_now()).execution_options(synchronize_session=False)
        )
        return len(rows)


def expire(database: Database, *, instance: str | None = None) -> list[str]:
    """Take back leases that ran out (and a dead server's own); returns ids of jobs that ended."""
    with database.write() as session:
        ended = jobs.expire(session, instance=instance)
        for job in ended:
            lifecycle.job_ended(session, job, ours=job.state == "dead")
        return [job.id for job in ended]


def reap(
    database: Database, provider: Provider | None, *, nothing_lives: bool = False
) -> list[str]:
    """Remove sandboxes that belong to no live lease; returns their names.

    ``nothing_lives``: this data folder's lock was just taken, so every sandbox is a leftover.
    """
    if provider is None:
        return []
    return provider.reap(lambda: () if nothing_lives else _held(database))


def _held(database: Database) -> Collection[tuple[str, int]]:
    with database.read() as session:
        live = select(Job.id, Job.fence).where(Job.state.in_(jobs.HELD))
        return {(job_id, fence) for job_id, fence in session.execute(live)}


def reap_once(settings: Settings, database: Database) -> list[str]:
    """``reap`` as a command of its own, safe beside a running server; returns what was removed."""
    from .app import open_provider

    provider = open_provider(settings, name_of(settings.data_dir))
    try:
        return reap(database, provider)
    finally:
        provider.close()


def leftovers(database: Database, provider: Provider) -> list[str]:
    """The names of sandboxes that belong to no live lease, or are past their deadline."""
    return provider.leftovers(lambda: _held(database))


def collect(database: Database, store: Store, data_dir: Path) -> int:
    """Delete expired uploads, then artefacts older than a day that nothing refers to."""
    with database.write() as session:
        used = select(Submission.sha256).where(Submission.sha256.is_not(None))
        idle = or_(Upload.sha256.is_(None), Upload.sha256.not_in(used))
        session.execute(
            delete(Upload)
            .where(Upload.expires_at <= db_now(), idle)
            .execution_options(synchronize_session=False)
        )
        known = set(session.scalars(select(Upload.id)))
    folder = data_dir / "uploads"
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.name not in known and file.stat().st_mtime < time.time() - STRAY_SECONDS:
            file.unlink()
    return store.collect(referenced(database))


def referenced(database: Database) -> set[str]:
    """The SHA-256 of every artefact that a row refers to."""
    with database.read() as session:
        return referenced_in(session)


def referenced_in(session: Session) -> set[str]:
    """The same, in a session that is open."""
    found: set[str] = set()
    for column in (Submission.sha256, Upload.sha256, SampleResult.adversarial_sha256):
        found.update(sha for sha in session.scalars(select(column).distinct()) if sha)
    found.update(session.scalars(select(Round.images_sha256)))
    named = select(Attempt.ledger_sha256).where(Attempt.ledger_sha256.is_not(None))
    found.update(sha for sha in session.scalars(named) if sha)
    for logs in session.scalars(select(Attempt.logs)):
        found.update(logs.values())
    return found
