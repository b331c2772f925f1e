"""Just enough HTTP/1.1 for arrays on one kept-alive connection, without delay.

The standard library's own server and client parse headers as if they were e-mail, which costs six
times as much as the round trip itself. An attack asks a thousand times a sample, so this file
reads the few headers that matter and nothing else: bodies have a ``Content-Length``, connections
stay open, small packets leave at once.
"""

from __future__ import annotations

import json
import select
import socket
import socketserver
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

LONGEST_LINE = 16_384
MOST_HEADERS = 100
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}
REASONS.update({411: "Length Required", 413: "Content Too Large", 500: "Internal Server Error"})


class Reply(NamedTuple):
    """An answer: its status, its body, and the headers that this side looks at (lower case)."""

    status: int
    body: bytes
    headers: dict[str, str]


class Lines(Protocol):
    """A buffered file of bytes: what messages are read from."""

    def readline(self, size: int, /) -> bytes: ...


Handler = Callable[[str, str, bytes], Reply]  # (method, path, body) -> reply


class MalformedError(Exception):
    """What came is no HTTP message that this file reads; the text says why."""


class Server(socketserver.ThreadingTCPServer):
    """Answers with ``handler``, in one thread a connection. ``largest``: bytes a body may have."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Handler, *, largest: int) -> None:
        self.handler = handler
        self.largest = largest
        super().__init__(address, _Conversation)


class _Conversation(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = 1 << 16
    server: Server

    def handle(self) -> None:
        try:
            while self._answer_one():
                pass
        except OSError:
            pass  # the other side went away: nobody is left to tell

    def _answer_one(self) -> bool:
        """Answer one request; tell whether the connection goes on."""
        try:
            request = self._read()
        except MalformedError as error:
            return self._send(failure(400, str(error)), keep=False)
        if request is None:
            return False
        method, path, headers, keep = request

        if "transfer-encoding" in headers:
            reason = "got a chunked body, wanted a Content-Length"
            return self._send(failure(411, reason), keep=False)
        length = int(headers.get("content-length", "0"))
        if length > self.server.largest:
            reason = f"got {length} bytes, wanted {self.server.largest} at most"
            return self._send(failure(413, reason), keep=False)
        if headers.get("expect", "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(length)
        if len(body) < length:
            return False
        return self._send(self.server.handler(method, path, body), keep=keep)

    def _read(self) -> tuple[str, str, dict[str, str], bool] | None:
        """Read a request up to its body: method, path, headers, keep open; None at the end."""
        line = self.rfile.readline(LONGEST_LINE)
        if not line:
            return None
        try:
            method, path, version = line.decode("latin1").split()
        except ValueError:
            raise MalformedError(f"got {line[:40]!r}, wanted an HTTP request") from None
        headers = read_headers(self.rfile)
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return method, path, headers, keep

    def _send(self, reply: Reply, *, keep: bool) -> bool:
        head = f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Answer')}\r\n"
        head += f"Content-Length: {len(reply.body)}\r\n"
        head += f"Content-Type: {reply.headers.get('content-type', 'application/json')}\r\n"
        head += "\r\n" if keep else "Connection: close\r\n\r\n"
        self.connection.sendall(head.encode("latin1") + reply.body)
        return keep


class Connection:
    """One kept-alive connection, opened at the first request and again when it was closed.

    Not for several threads at once. Raises ``OSError`` when the other side cannot be reached.
    """

    def __init__(self, host: str, port: int, *, timeout: float) -> None:
        self.host, self.port, self.timeout = host, port, timeout
        self._socket: socket.socket | None = None
        self._file: Any = None

    def request(self, method: str, path: str, body: bytes = b"", *, kind: str = "") -> Reply:
        """Send one request and read its reply. ``kind``: the content type of the body."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        head += f"Content-Length: {len(body)}\r\n" + (f"Content-Type: {kind}\r\n" if kind else "")
        message = head.encode("latin1") + b"\r\n" + body
        fresh = self._gone()
        if fresh:
            self._open()
        try:
            return self._exchange(message)
        except OSError:
            self.close()
            if fresh:
                raise
        # The connection had been idle and was closed before this request came in, so it was not
        # counted: asking again is safe. A new connection that breaks is another matter.
        self._open()
        return self._exchange(message)

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._file is not None:
            self._file.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._file = None

    def _open(self) -> None:
        self.close()
        self._socket = socket.create_connection((self.host, self.port), self.timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", buffering=1 << 16)

    def _gone(self) -> bool:
        """Tell whether there is no open connection: one that can be read between requests ended."""
        return self._socket is None or bool(select.select([self._socket], [], [], 0)[0])

    def _exchange(self, message: bytes) -> Reply:
        assert self._socket is not None
        self._socket.sendall(message)
        line = self._file.readline(LONGEST_LINE)
        if not line:
            raise ConnectionResetError("the other side closed the connection without an answer")
        try:
            status = int(line.split(None, 2)[1])
        except (IndexError, ValueError):
            raise ConnectionError(f"got {line[:40]!r}, wanted an HTTP answer") from None
        try:
            headers = read_headers(self._file)
        except MalformedError as error:
            raise ConnectionError(str(error)) from None
        if "content-length" not in headers:
            raise ConnectionError("got an answer without Content-Length")
        length = int(headers["content-length"])
        body = self._file.read(length)
        if len(body) < length:
            raise ConnectionResetError("the connection broke in the middle of an answer")
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Reply(status, body, headers)


def read_headers(file: Lines) -> dict[str, str]:
    """Read header lines up to the empty one; names in lower case."""
    headers: dict[str, str] = {}
    for _ in range(MOST_HEADERS):
        line = file.readline(LONGEST_LINE)
        if line in (b"\r\n", b"\n"):
            _check_length(headers)
            return headers
        name, colon, value = line.decode("latin1").partition(":")
        if not colon or not line.endswith(b"\n"):
            raise MalformedError("a header line is cut off or too long")
        headers[name.strip().lower()] = value.strip()
    raise MalformedError(f"more than {MOST_HEADERS} header lines")


def _check_length(headers: dict[str, str]) -> None:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise MalformedError(f"got the Content-Length {text[:20]!r}, wanted a whole number")


def failure(status: int, reason: str) -> Reply:
    """Give the reply for a request that can't be answered: JSON with the reason."""
    return Reply(status, json.dumps({"error": reason}).encode(), {})
