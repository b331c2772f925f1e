"""PostgreSQL's own programs, for backups: `pg_dump` and `pg_restore`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from bench.errors import InfrastructureError, UserError

DEBIAN: Final = Path("/usr/lib/postgresql")


def dump(session: Session, url: URL, target: Path) -> None:
    """Write the database as this very snapshot of ``session`` sees it.

    Raises UserError without pg_dump, InfrastructureError when it fails.
    """
    snapshot = session.scalar(text("SELECT pg_export_snapshot()"))
    _run(
        "pg_dump", url,
        ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}",
         f"--file={target}"],
    )  # fmt: skip


def load(url: URL, source: Path) -> None:
    """Fill an empty database, all or nothing.

    Raises UserError without pg_restore, InfrastructureError when it fails.
    """
    options = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]
    _run("pg_restore", url, [*options, f"--dbname={_named(url)}", str(source)])


def program(name: str) -> str:
    """The path of the newest program of that name. Raises UserError where there is none."""
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: _number(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        raise UserError(
            f"a backup of PostgreSQL needs its program {name}, of the server's version or a newer "
            "one; install Debian's package postgresql-client"
        )
    return found


def _number(version: str) -> float:
    try:
        return float(version)
    except ValueError:
        return 0.0


def _named(url: URL) -> str:
    """The database as libpq takes it, without the password: other users see arguments."""
    return url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)


def _run(name: str, url: URL, arguments: list[str]) -> None:
    command = [program(name), *arguments]
    if name == "pg_dump":
        command.append(_named(url))
    environment = dict(os.environ)
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise InfrastructureError(f"{name} failed: {lines[-1] if lines else done.returncode}")
