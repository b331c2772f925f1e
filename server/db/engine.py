"""One Database object for SQLite and PostgreSQL: engines set up for safety, sessions by purpose.

SQLite: WAL, ``synchronous=FULL``, foreign keys, ``BEGIN IMMEDIATE`` for writers, so that two
writers queue at BEGIN instead of failing at COMMIT; readers never wait. PostgreSQL: psycopg, read
committed; every guarded write is one UPDATE whose WHERE repeats what must still hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Double

from bench.errors import UserError

SQLITE_BUSY_SECONDS = 30


class db_now(FunctionElement[float]):  # noqa: N801  (a SQL function, named like one)
    """The database's clock, in seconds since 1970: the only clock that leases are judged by."""

    type = Double()
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: SQLCompiler, **kwargs: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgresql_now(element: db_now, compiler: SQLCompiler, **kwargs: Any) -> str:
    return "(extract(epoch from clock_timestamp()))::double precision"


class Database:
    """The record. ``with db.write() as session`` is one transaction; ``db.read()`` only looks."""

    def __init__(self, url: str) -> None:
        self.url: URL = normalise(url)
        self.engine: Engine = _engine(self.url)
        self._writer = self.engine.execution_options(tiltyard_write=True)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that is rolled back at the end, whatever happened in it."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """As ``read``, and everything that is read is of one moment, whoever writes meanwhile."""
        with self.read() as session:
            if not self.is_sqlite:  # SQLite's readers see one moment anyway
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def normalise(url: str) -> URL:
    """The URL with our drivers filled in; raises UserError for other databases."""
    try:
        parsed = make_url(url)
    except Exception as error:
        raise UserError(
            f"cannot read the database URL {url!r}; "
            "write sqlite:////folder/file.db or postgresql://user:password@host/name"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise UserError("an in-memory SQLite cannot be shared by threads; name a file")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise UserError(f"database {backend!r} is not supported; use sqlite or postgresql")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, connect_args={"timeout": SQLITE_BUSY_SECONDS}, pool_size=10, max_overflow=20
        )
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20)


def _sqlite_connect(connection: Any, record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, below
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("tiltyard_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
