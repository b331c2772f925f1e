"""What the commands of `tiltyard admin` share: options, and the server's database and store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bench.errors import UserError

from .policy import COMMAND_LINE as ACTOR

__all__ = ["ACTOR", "DataDir", "DatabaseUrl", "Place", "opened"]

if TYPE_CHECKING:
    from .db.engine import Database
    from .settings import Settings
    from .storage import Store

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the server's files and database.")
]
DatabaseUrl = Annotated[
    str | None, typer.Option("--database", help="Database URL; SQLite in --data-dir by default.")
]


class Place(NamedTuple):
    """A server's settings and what it keeps."""

    settings: Settings
    database: Database
    store: Store


@contextmanager
def opened(data_dir: Path | None, url: str | None) -> Iterator[Place]:
    """The server's database, with its tables, and its store; also beside a running server.

    The API's complaints become the user's.
    """
    from . import settings
    from .db import migrations
    from .db.engine import Database
    from .errors import ApiError
    from .storage import Store

    chosen = settings.load(data_dir=data_dir, database_url=url)
    chosen.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(chosen.url)
    try:
        migrations.upgrade(database)
        yield Place(chosen, database, Store(chosen.artefacts))
    except ApiError as error:
        raise UserError(error.detail) from error
    finally:
        database.close()
