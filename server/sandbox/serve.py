"""The referee's application on a socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .errors import EngineFailed
from .types import App

START_SECONDS = 30.0
STOP_SECONDS = 60.0
"""A call of a model may be under way: it ends when the model's sandbox is closed or its time up."""


class Server:
    """Serves from construction on; `close` ends it. The socket is bound, and is closed here."""

    def __init__(self, app: App, sock: socket.socket) -> None:
        self._socket = sock
        self._server = _Quiet(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_AtOnce,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                # An attack may think for as long as its run lasts between two queries.
                timeout_keep_alive=86400,
                limit_concurrency=512,
                backlog=128,
            )
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="referee", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(START_SECONDS):
            self.close()
            raise EngineFailed("the referee's HTTP server did not start")

    def close(self) -> None:
        """Stop serving; connections are cut."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(STOP_SECONDS)
        with contextlib.suppress(OSError):
            self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


class _AtOnce(HttpToolsProtocol):
    """Sends an answer's head and body in one packet, which wakes the other side once, not twice."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]


class _Joined:
    """A transport whose writes leave together as soon as the event loop comes round."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._transport.write(b"".join(waiting))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Quiet(uvicorn.Server):
    """Says when it listens, and leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
