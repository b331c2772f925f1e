"""Alembic migrations, run at start: ``upgrade(database)``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from bench.errors import InfrastructureError

from ..engine import Database

_MIGRATION_LOCK = 0x7117_0002


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision; two servers that start at once wait for each other.

    Raises InfrastructureError when the database does not answer.
    """
    try:
        database.engine.connect().close()
    except OperationalError as error:
        url = database.url.render_as_string(hide_password=True)
        first = str(error.orig).strip().splitlines()[0]
        raise InfrastructureError(
            f"the database {url} does not answer ({first}); start it, or give its right URL "
            "with --database"
        ) from error
    _run(database, command.upgrade, revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision ("base": nothing left)."""
    _run(database, command.downgrade, revision)


def current(database: Database) -> str | None:
    """The revision that the schema is at; None for an empty database."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@cache
def head() -> str:
    """The revision that this version of the server works with."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None
    return found


@cache
def known() -> frozenset[str]:
    """Every revision that this version of the server can bring up to ``head``."""
    script = ScriptDirectory.from_config(_config())
    return frozenset(each.revision for each in script.walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _run(database: Database, action: object, revision: str) -> None:
    assert callable(action)
    config = _config()
    with _unchecked(database) as connection, connection.begin():
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:k)"), {"k": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        action(config, revision)
        if database.is_sqlite:
            broken = connection.execute(text("PRAGMA foreign_key_check")).all()
            if broken:
                raise InfrastructureError(
                    f"the migration to {revision} would leave references to nothing in "
                    f"{', '.join(sorted({row[0] for row in broken}))}; nothing was changed"
                )


@contextmanager
def _unchecked(database: Database) -> Iterator[Connection]:
    """A writing connection on which SQLite may make a table anew that others refer to.

    That is its only way to change a constraint; the references are checked at the end instead.
    """
    writer = database.engine.execution_options(tiltyard_write=True)
    with writer.connect() as connection:
        if not database.is_sqlite:
            yield connection
            return
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys=OFF")
        try:
            yield connection
        finally:
            raw.execute("PRAGMA foreign_keys=ON")
