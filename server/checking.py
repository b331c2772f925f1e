"""`tiltyard admin check`: the record, the artefacts and the sandboxes, beside a running server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.errors import InfrastructureError, UserError

from . import housekeeping, invariants
from .db import migrations
from .db.engine import Database
from .instance import name_of
from .invariants import Finding
from .storage import Store, hash_file

if TYPE_CHECKING:
    from .sandbox.types import Provider
    from .settings import Settings

TRIES: Final = 5
"""Snapshots that are taken until one is found in which no board is about to change."""
PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Report:
    """What was found. ``notes``: what could not be looked at, and why."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def clean(self) -> bool:
        """Whether everything that was looked at holds."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "clean": self.clean,
            "findings": [finding._asdict() for finding in self.findings],
            "checked": list(self.checked),
            "notes": list(self.notes),
        }


def require_record(database: Database) -> None:
    """Raise UserError unless the database holds the tables of this very version.

    Nothing is made or migrated: who looks must not change what is there.
    """
    file = database.url.database
    if database.is_sqlite and (file is None or not Path(file).is_file()):
        raise UserError(
            f"there is no database {file}; name the server's folder with --data-dir, or its "
            "database with --database"
        )
    found = migrations.current(database)
    if found != migrations.head():
        raise UserError(
            f"the database is at migration {found or 'none'}, and this version works with "
            f"{migrations.head()}; use the version of the server that runs on it"
        )


def check(
    database: Database, store: Store, provider: Provider | None = None, *, quick: bool = False
) -> Report:
    """Look at everything that must hold; changes nothing.

    Args:
        provider: where this server's sandboxes are; None: they are not looked at.
        quick: artefacts have to be there, and are not read.
    """
    notes: list[str] = []
    for last in (*[False] * (TRIES - 1), True):
        with database.snapshot() as session:
            waiting = invariants.busy(session)
            if waiting and not last:
                time.sleep(PAUSE_SECONDS)
                continue
            findings = list(invariants.broken(session))
            referenced = housekeeping.referenced_in(session)
            break
    if waiting:
        notes.append(
            "boards were not compared, as matches kept finishing, of the rules "
            + ", ".join(sorted(waiting))
        )
    checked = [*invariants.ALL, "artefacts"]
    wrong = dict(_broken_artefacts(store, referenced, quick))
    still = housekeeping.referenced(database) if wrong else set()
    findings += _artefact_findings({sha: why for sha, why in wrong.items() if sha in still})
    if provider is None:
        notes.append("sandboxes were not looked at")
    else:
        checked.append("sandboxes")
        left = tuple(housekeeping.leftovers(database, provider))
        if left:
            findings.append(
                Finding(
                    "sandboxes",
                    "sandboxes belong to no live lease or are past their deadline",
                    left,
                    "The server removes them within a minute; without one: tiltyard admin reap.",
                )
            )
    return Report(tuple(findings), tuple(checked), tuple(notes))


def check_here(settings: Settings, *, quick: bool = False, sandboxes: bool = True) -> Report:
    """``check`` of the server of these settings. Raises UserError where there is none."""
    database = Database(settings.url)
    try:
        require_record(database)
        if not settings.artefacts.is_dir():
            raise UserError(
                f"there is no folder {settings.artefacts}; name the server's --data-dir, or set "
                "TILTYARD_ARTEFACTS_DIR as the server has it"
            )
        store = Store(settings.artefacts)
        if not sandboxes or not settings.workers:
            return check(database, store, quick=quick)
        from .app import open_provider

        try:
            provider = open_provider(settings, name_of(settings.data_dir))
        except InfrastructureError as error:
            found = check(database, store, quick=quick)
            return Report(found.findings, found.checked, (*found.notes, str(error)))
        try:
            return check(database, store, provider, quick=quick)
        finally:
            provider.close()
    finally:
        database.close()


def _broken_artefacts(store: Store, names: set[str], quick: bool) -> Iterator[tuple[str, str]]:
    for sha256 in sorted(names):
        try:
            path = store.path(sha256)
            if quick and path.is_file():
                continue
            if hash_file(path) != sha256:
                yield sha256, "rotten"
        except ValueError:
            yield sha256, "misnamed"
        except OSError:
            yield sha256, "missing"


def _artefact_findings(wrong: dict[str, str]) -> Iterator[Finding]:
    texts = {
        "missing": "artefacts that rows refer to are not there or can't be read",
        "rotten": "artefacts do not hash to their names",
        "misnamed": "rows refer to what is no SHA-256",
    }
    for why, text in texts.items():
        rows = tuple(sha256 for sha256, found in wrong.items() if found == why)
        if rows:
            mend = "Take them from a backup (artefacts/ab/abcd...): the names are their contents."
            yield Finding("artefacts", text, rows, mend)
