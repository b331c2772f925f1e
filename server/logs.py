"""Logs: one line an event on stderr, as text or as JSON, each with what it belongs to.

Modules log with the standard library. ``belongs_to`` says which request or job the lines of a
block are about; it holds for the block's own thread, and for what FastAPI runs in its pool for it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

import structlog

from .db.ids import new_id

if TYPE_CHECKING:
    from structlog.types import Processor

    from .settings import LogFormat, LogLevel

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")


@contextmanager
def belongs_to(**what: str | int) -> Iterator[None]:
    """Every line that this block logs carries these: a request's id, or a job's and its fence."""
    with structlog.contextvars.bound_contextvars(**what):
        yield


def request_id(incoming: str | None) -> str:
    """The id of a request: the one that came with it where that is one, else a new one.

    One is 8 to 64 letters, digits, dots, dashes and underscores, so that nothing can be written
    into a log or a header by it.
    """
    return incoming if incoming is not None and _REQUEST_ID.fullmatch(incoming) else new_id()


def configure(form: LogFormat, level: LogLevel, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to a stream, stderr by default.

    ``form`` "json": each line is an object with ``timestamp`` (UTC), ``level``, ``logger``,
    ``event``, what it belongs to, and ``exception`` where there is one.
    """
    render: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
