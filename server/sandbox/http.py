"""One kept-alive HTTP/1.1 connection to a model that nobody trusts.

The standard library's client has a time limit for each read, so an answer that drips one byte at a
time would hold a worker for hours; here the limit is for the whole exchange. Answers are capped.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from .types import Reply

HEAD_BYTES = 32768
CHUNK = 1 << 18

Address = Path | tuple[str, int]


class MalformedAnswer(ValueError):
    """Not HTTP, or more of it than was allowed."""


class Connection:
    """Opened at the first call, and again when it was closed between two calls.

    Args:
        address: a unix socket, or (host, port).
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float,
        most: int,
    ) -> Reply:
        """Send one request and read its answer.

        Raises:
            TimeoutError: `timeout` seconds have passed.
            ConnectionError: nobody listens, or the connection ended before the answer did.
            MalformedAnswer: not HTTP, or a body of more than `most` bytes.
        """
        lines = [f"{method} {path} HTTP/1.1", "host: model", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        message = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        until = time.monotonic() + timeout
        with self._lock:
            used = self._socket is not None
            try:
                return self._exchange(message, until, most)
            except _EndedBefore:
                if not used:
                    raise
                # A server may close an idle connection at any moment; it has seen nothing of
                # this request, so asking again on a new one is safe.
                return self._exchange(message, until, most)

    def close(self) -> None:
        """Close it, from any thread: a call that is waiting gets a ConnectionError."""
        current = self._socket
        if current is not None:
            with contextlib.suppress(OSError):
                current.shutdown(socket.SHUT_RDWR)
            current.close()

    def _open(self, until: float) -> socket.socket:
        if isinstance(self._address, Path):
            fresh = socket.socket(socket.AF_UNIX)
            target: str | tuple[str, int] = str(self._address)
        else:
            fresh = socket.socket(socket.AF_INET)
            fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            target = self._address
        self._socket = fresh
        fresh.settimeout(_left(until))
        try:
            fresh.connect(target)
        except FileNotFoundError as error:
            raise ConnectionRefusedError(str(error)) from error
        return fresh

    def _exchange(self, message: bytes, until: float, most: int) -> Reply:
        keep = False
        try:
            reused = self._socket is not None
            sock = self._socket if self._socket is not None else self._open(until)
            try:
                sock.settimeout(_left(until))
                sock.sendall(message)
                reader = _Reader(sock, until)
                status, headers = _head(reader)
            except (BrokenPipeError, ConnectionResetError, _EndedBefore) as error:
                if reused:
                    raise _EndedBefore("closed without an answer") from error
                raise
            body, keep = _body(reader, headers, most)
            return Reply(status, headers, body)
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            raise ConnectionAbortedError(str(error)) from error
        finally:
            if not keep and self._socket is not None:
                self._socket.close()
                self._socket = None


class _EndedBefore(ConnectionError):
    """The connection ended before the first byte of an answer."""


class _Reader:
    def __init__(self, sock: socket.socket, until: float) -> None:
        self._socket = sock
        self._until = until
        self._buffer = bytearray()

    def more(self) -> bool:
        """Receive something; False at the end."""
        self._socket.settimeout(_left(self._until))
        data = self._socket.recv(CHUNK)
        self._buffer += data
        return bool(data)

    def upto(self, mark: bytes, most: int) -> bytes:
        """Everything up to a mark, which is dropped."""
        searched = 0
        while (found := self._buffer.find(mark, searched)) < 0:
            if len(self._buffer) > most:
                raise MalformedAnswer(f"no end of line in {most} bytes: not HTTP, or too long")
            searched = max(0, len(self._buffer) - len(mark) + 1)
            if not self.more():
                if not self._buffer:
                    raise _EndedBefore("closed without an answer")
                raise ConnectionResetError("closed in the middle of an answer")
        taken = bytes(self._buffer[:found])
        del self._buffer[: found + len(mark)]
        return taken

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not self.more():
                raise ConnectionResetError("closed in the middle of an answer")
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def rest(self, most: int) -> bytes:
        while self.more():
            _check_size(len(self._buffer), most)
        _check_size(len(self._buffer), most)
        return bytes(self._buffer)


def _head(reader: _Reader) -> tuple[int, dict[str, str]]:
    while True:
        lines = reader.upto(b"\r\n\r\n", HEAD_BYTES).decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        digits = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (digits.isascii() and digits.isdigit()):
            raise MalformedAnswer(f"the answer starts with {lines[0][:60]!r}, wanted HTTP/1.1")
        headers: dict[str, str] = {":version": version}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise MalformedAnswer(f"got the header line {line[:60]!r}")
            headers[name.strip().lower()] = value.strip()
        if int(digits) >= 200:
            return int(digits), headers


def _body(reader: _Reader, headers: dict[str, str], most: int) -> tuple[bytes, bool]:
    """The body, and whether the connection may be used again."""
    connection = headers.get("connection", "").lower()
    keep = headers.pop(":version") == "HTTP/1.1" and connection != "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunks(reader, most), keep
    if "content-length" not in headers:
        return reader.rest(most), False
    length = _number(headers["content-length"], 10)
    _check_size(length, most)
    return reader.exactly(length), keep


def _chunks(reader: _Reader, most: int) -> bytes:
    body = bytearray()
    while True:
        size = _number(reader.upto(b"\r\n", 256).decode("latin-1").split(";")[0], 16)
        _check_size(len(body) + size, most)
        if size == 0:
            while reader.upto(b"\r\n", HEAD_BYTES):
                pass
            return bytes(body)
        body += reader.exactly(size)
        if reader.exactly(2) != b"\r\n":
            raise MalformedAnswer("a chunk does not end where its size says")


def _number(text: str, base: int) -> int:
    text = text.strip()
    if not text.isalnum() or not text.isascii() or len(text) > 16:
        raise MalformedAnswer(f"got the length {text[:20]!r}")
    try:
        return int(text, base)
    except ValueError:
        raise MalformedAnswer(f"got the length {text[:20]!r}") from None


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise MalformedAnswer(f"the answer has {size} bytes or more, wanted {most} at most")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
