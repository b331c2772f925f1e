from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import kit
from kit import wire
from kit.model import check_labels, make_server

Array = np.ndarray[Any, Any]
IMAGES = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2, 1)


class Sums:
    """Labels are pixel sums, so that every image has another one."""

    def predict(self, images: Array) -> Array:
        return np.asarray(images.astype(np.int32).sum(axis=(1, 2, 3)))


@contextmanager
def serving(model: Any) -> Iterator[int]:
    with make_server(model, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int, method: str, path: str, body: bytes | None = None
) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body)
    answer = connection.getresponse()
    result = (answer.status, answer.headers["Content-Type"], answer.read())
    connection.close()
    return result


def reason(body: bytes) -> str:
    return str(json.loads(body)["error"])


def test_a_batch_of_images_gets_a_label_each() -> None:
    with serving(Sums()) as port:
        status, kind, body = ask(port, "POST", "/v1/predict", wire.dumps(IMAGES))
    assert (status, kind) == (200, "application/x-npy")
    assert wire.loads(body, dtype="int64", shape=(3,)).tolist() == [6, 22, 38]


def test_it_says_that_it_is_ready_and_what_it_is() -> None:
    with serving(Sums()) as port:
        assert ask(port, "GET", "/v1/ready") == (200, "application/json", b'{"ready": true}')
        assert b"Tiltyard model" in ask(port, "GET", "/")[2]


def test_one_connection_takes_many_questions() -> None:
    with serving(Sums()) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.connect()
        first = connection.sock
        for _ in range(5):
            connection.request("POST", "/v1/predict", wire.dumps(IMAGES[:1]))
            assert wire.loads(connection.getresponse().read()).tolist() == [6]
        assert connection.sock is first
        connection.close()


def test_questions_of_several_connections_reach_the_model_one_at_a_time() -> None:
    inside = 0
    overlaps = []

    class Watchful(Sums):
        def predict(self, images: Array) -> Array:
            nonlocal inside
            inside += 1
            overlaps.append(inside)
            time.sleep(0.01)
            inside -= 1
            return super().predict(images)

    with serving(Watchful()) as port, ThreadPoolExecutor(4) as pool:
        bodies = [wire.dumps(IMAGES[i : i + 1]) for i in (0, 1, 2, 0)]
        answers = list(pool.map(lambda body: ask(port, "POST", "/v1/predict", body)[2], bodies))
    assert [int(wire.loads(answer)[0]) for answer in answers] == [6, 22, 38, 6]
    assert overlaps == [1, 1, 1, 1]


def test_a_model_that_changes_its_images_changes_only_its_own() -> None:
    class Scribbler(Sums):
        def predict(self, images: Array) -> Array:
            images += 1
            return super().predict(images)

    with serving(Scribbler()) as port:
        labels = [ask(port, "POST", "/v1/predict", wire.dumps(IMAGES))[2] for _ in range(2)]
    assert labels[0] == labels[1]


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        (IMAGES / 255, "got an array of float64, wanted uint8"),
        (IMAGES[0], r"got an array of shape (2, 2, 1), wanted (any, any, any, any)"),
    ],
)
def test_other_arrays_than_images_are_refused(images: Array, wanted: str) -> None:
    with serving(Sums()) as port:
        status, kind, body = ask(port, "POST", "/v1/predict", wire.dumps(images))
    assert (status, kind) == (400, "application/json")
    assert wanted in reason(body)


@pytest.mark.parametrize(
    ("returned", "wanted"),
    [
        (np.zeros((3, 10)), "return the labels, scores.argmax(axis=1)"),
        (np.zeros(3), "predict returned float64, wanted whole numbers"),
        (np.zeros(2, np.int64), "predict returned shape (2,), wanted (3,)"),
        (np.array([1, -1, 2]), "predict returned the label -1"),
        (None, "predict returned shape (), wanted (3,)"),
    ],
)
def test_a_wrong_return_value_is_explained(
    returned: Any, wanted: str, capfd: pytest.CaptureFixture[str]
) -> None:
    class Wrong:
        def predict(self, images: Array) -> Any:
            return returned

    with serving(Wrong()) as port:
        status, _, body = ask(port, "POST", "/v1/predict", wire.dumps(IMAGES))
    assert status == 500
    assert wanted in reason(body)
    assert wanted in capfd.readouterr().err


def test_an_exception_of_the_model_is_answered_and_the_next_question_is_fine(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Choosy(Sums):
        def predict(self, images: Array) -> Array:
            if len(images) > 1:
                raise MemoryError('two are "too many"')
            return super().predict(images)

    with serving(Choosy()) as port:
        status, _, body = ask(port, "POST", "/v1/predict", wire.dumps(IMAGES))
        assert status == 500
        assert reason(body) == 'the model raised MemoryError: two are "too many"'
        assert ask(port, "POST", "/v1/predict", wire.dumps(IMAGES[:1]))[0] == 200
    assert "Traceback" in capfd.readouterr().err


def test_labels_may_be_a_list_or_small_integers() -> None:
    assert check_labels([1, 2], 2).dtype == np.int64
    assert check_labels(np.array([1, 2], np.uint8), 2).tolist() == [1, 2]
    assert check_labels([], 0).shape == (0,)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/predict", 405), ("POST", "/v1/ready", 405), ("GET", "/shutdown", 404)],
)
def test_other_requests_are_told_what_there_is(method: str, path: str, status: int) -> None:
    with serving(Sums()) as port:
        got, _, body = ask(port, method, path)
    assert got == status
    assert "POST /v1/predict" in reason(body)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /v1/predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/predict HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /v1/predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400),
    ],
)
def test_what_is_no_proper_request_is_answered_and_cut_off(message: bytes, status: int) -> None:
    with serving(Sums()) as port, socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.sendall(message)
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert answer.status == status
        assert reason(answer.read())
        answer.close()


def test_a_client_that_asks_before_it_sends_is_told_to_go_on() -> None:
    body = wire.dumps(IMAGES)
    head = f"POST /v1/predict HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n"
    with serving(Sums()) as port, socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.sendall(head.encode() + b"\r\n")
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert answer.status == 200
        answer.close()


def test_serve_listens_at_model_port_of_the_environment() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import kit\nclass M:\n  def predict(self, i): return [7] * len(i)\nkit.serve(M())"
    environment = {"MODEL_PORT": str(port), "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"answering on 127.0.0.1:{port}\n"
        body = ask(port, "POST", "/v1/predict", wire.dumps(IMAGES))[2]
        process.terminate()
    assert wire.loads(body).tolist() == [7, 7, 7]


def test_a_class_instead_of_a_model_is_refused_before_anything_listens() -> None:
    with pytest.raises(TypeError, match=r"wanted an object with predict\(images"):
        kit.serve(object())  # type: ignore[arg-type]
