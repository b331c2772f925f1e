"""The client that speaks to models nobody trusts, against a server that says anything."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from server.sandbox import wire
from server.sandbox.http import Connection, MalformedAnswer
from server.sandbox.types import Reply

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Some: Thing\r\n\r\nhello"


@contextmanager
def saying(path: Path, *answers: bytes, each_closes: bool = False) -> Iterator[list[bytes]]:
    """A server on a unix socket that gives these answers, whatever it is asked."""
    asked: list[bytes] = []
    left = list(answers)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            while left:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                with accepted:
                    while left and (data := accepted.recv(65536)):
                        asked.append(data)
                        accepted.sendall(left.pop(0))
                        if each_closes:
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def call(connection: Connection, timeout: float = 10, most: int = 1000) -> Reply:
    return connection.call(
        "POST", "/v1/predict", b"body", {"content-type": "x"}, timeout=timeout, most=most
    )


def answered(answer: bytes, tmp_path: Path, most: int = 1000) -> Reply:
    path = tmp_path / "s"
    with saying(path, answer, each_closes=True):
        connection = Connection(path)
        try:
            return call(connection, most=most)
        finally:
            connection.close()


def test_a_request_and_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with saying(path, OK) as asked:
        connection = Connection(path)
        assert call(connection) == Reply(200, {"content-length": "5", "x-some": "Thing"}, b"hello")
        connection.close()
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert body == b"body"
    assert head.split(b"\r\n") == [
        b"POST /v1/predict HTTP/1.1",
        b"host: model",
        b"content-length: 4",
        b"content-type: x",
    ]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", b"until the end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;x=y\r\nhello\r\nA\r\n, chunks!!\r\n0\r\nTrailer: 1\r\n\r\n",
            b"hello, chunks!!",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_the_ways_to_end_a_body(tmp_path: Path, answer: bytes, body: bytes) -> None:
    assert answered(answer, tmp_path).body == body


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 1024 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_or_too_long_is_malformed(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        answered(answer, tmp_path)


@pytest.mark.parametrize("answer", [b"", OK[:20], OK[:-2], b"HTTP/1.1 200 OK\r\n"])
def test_an_answer_that_breaks_off_is_a_connection_error(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(ConnectionError):
        answered(answer, tmp_path)


def test_nobody_there_is_a_connection_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        call(Connection(tmp_path / "nothing"))


def test_a_connection_is_kept_and_opened_again_when_it_was_closed_in_between(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    with saying(path, OK, OK, OK, each_closes=True) as asked:
        connection = Connection(path)
        assert [call(connection).body for _ in range(3)] == [b"hello"] * 3
        connection.close()
    assert len(asked) == 3


def test_the_time_limit_is_for_the_whole_exchange(tmp_path: Path) -> None:
    # Each of these bytes comes well within the limit; all of them don't.
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def drip() -> None:
            accepted, _ = listening.accept()
            with accepted:
                for byte in OK * 100:
                    try:
                        accepted.sendall(bytes([byte]))
                    except OSError:
                        return
                    time.sleep(0.02)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        connection = Connection(path)
        with pytest.raises(TimeoutError):
            call(connection, timeout=0.2)
        connection.close()
        thread.join(5)
        assert not thread.is_alive()


# Arrays.

plain = numpy_strategies.arrays(
    dtype=st.sampled_from(["|b1", "|u1", "<i8", ">i4", "<f4", "<f8"]),
    shape=numpy_strategies.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
)


@given(plain)
def test_an_array_survives_the_wire_and_numpy_reads_it(array: np.ndarray) -> None:
    body = wire.dumps(array)
    for again in (wire.loads(body), np.load(io.BytesIO(body), allow_pickle=False)):
        assert again.dtype == array.dtype
        assert again.shape == array.shape
        assert again.tobytes() == array.tobytes()


@given(plain)
def test_what_numpy_writes_is_read_in_either_order(array: np.ndarray) -> None:
    for version in ((1, 0), (2, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asfortranarray(array), version=version)
        assert wire.loads(stream.getvalue()).tobytes() == array.tobytes()


@given(st.binary(max_size=300), st.binary(max_size=200))
def test_bytes_are_read_or_refused_and_do_nothing_else(header: bytes, rest: bytes) -> None:
    framed = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + rest
    for body in (header, framed):
        try:
            array = wire.loads(body)
        except wire.NotAnArray:
            continue
        assert array.nbytes <= len(body)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f4', 'fortran_order': False}",
        "__import__('os').abort()",
        "(" * 2000,
    ],
)
def test_a_header_that_is_not_plain_is_refused(header: str) -> None:
    text = header.encode()
    body = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(4)
    with pytest.raises(wire.NotAnArray):
        wire.loads(body)
