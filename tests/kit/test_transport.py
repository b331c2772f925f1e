from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kit.transport import Connection

FINE = b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-Count: 7\r\n\r\nok"


class Script:
    """A server that says a given text to each request and counts connections and requests."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.connections = connections
        self.opened = 0
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        for answers in self.connections:
            peer, _ = self.listener.accept()
            self.opened += 1
            with peer:
                for answer in answers:
                    self.requests.append(peer.recv(65536))
                    peer.sendall(answer)


@contextmanager
def speaking(*connections: list[bytes]) -> Iterator[tuple[Script, Connection]]:
    script = Script(*connections)
    thread = threading.Thread(target=script.run)
    thread.start()
    connection = Connection("127.0.0.1", script.port, timeout=10)
    try:
        yield script, connection
    finally:
        connection.close()
        thread.join()
        script.listener.close()


def test_an_answer_has_status_body_and_headers() -> None:
    with speaking([FINE]) as (script, connection):
        reply = connection.request("POST", "/path?x=1", b"body", kind="text/plain")
    assert (reply.status, reply.body, reply.headers["x-count"]) == (200, b"ok", "7")
    assert script.requests[0].startswith(b"POST /path?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert script.requests[0].endswith(b"\r\nContent-Type: text/plain\r\n\r\nbody")


def test_the_connection_is_kept() -> None:
    with speaking([FINE, FINE, FINE]) as (script, connection):
        assert [connection.request("GET", "/").body for _ in range(3)] == [b"ok"] * 3
    assert script.opened == 1


def test_a_connection_that_was_closed_meanwhile_is_opened_again_and_asked_once() -> None:
    with speaking([FINE], [FINE]) as (script, connection):
        assert connection.request("GET", "/first").body == b"ok"
        assert connection.request("GET", "/second").body == b"ok"
    assert script.opened == 2
    assert len(script.requests) == 2


def test_a_new_connection_that_breaks_is_not_asked_again() -> None:
    with (
        speaking([b""]) as (script, connection),
        pytest.raises(ConnectionResetError, match="without an answer"),
    ):
        connection.request("GET", "/")
    assert script.opened == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nok", "middle of an answer"),
        (b"nonsense\r\n", "wanted an HTTP answer"),
        (b"HTTP/1.1 200 Fine\r\n\r\n", "without Content-Length"),
        (b"HTTP/1.1 200 Fine\r\nContent-Length: x\r\n\r\n", "wanted a whole number"),
        (b"HTTP/1.1 200 Fine\r\nContent-Le", "cut off"),
    ],
)
def test_a_broken_answer_is_an_error_of_the_connection(answer: bytes, reason: str) -> None:
    with speaking([answer]) as (_, connection), pytest.raises(ConnectionError, match=reason):
        connection.request("GET", "/")


def test_after_a_broken_answer_the_next_request_opens_another_connection() -> None:
    with speaking([b"nonsense\r\n"], [FINE]) as (_, connection):
        with pytest.raises(ConnectionError):
            connection.request("GET", "/")
        assert connection.request("GET", "/").body == b"ok"


def test_a_server_that_closes_after_its_answer_is_obeyed() -> None:
    closing = FINE.replace(b"X-Count: 7", b"Connection: close")
    with speaking([closing], [FINE]) as (script, connection):
        assert connection.request("GET", "/").body == b"ok"
        assert connection.request("GET", "/").body == b"ok"
    assert script.opened == 2


def test_nobody_there_is_an_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        Connection("127.0.0.1", port, timeout=10).request("GET", "/")
