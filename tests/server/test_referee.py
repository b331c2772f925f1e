"""The referee's HTTP: the rules, the reasons, and exact counting under concurrent requests."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import attacks
from bench.adapters import to_images, to_pixels
from server.answers import Answer
from server.referee import FREE_CLAIMS, MOST_IMAGES, Referee
from server.sandbox.errors import Crashed
from server.sandbox.serve import Server

SIZE = (2, 3, 3)  # C, H, W: different, so that a wrong order of axes shows


class Brightness:
    """Label: mean brightness // 26."""

    bounds = (0.0, 1.0)

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.images += len(images)
        labels = (images * 255).round().flatten(1).mean(1).long() // 26
        return torch.nn.functional.one_hot(labels, 10).float()


class Broken(Brightness):
    def __call__(self, images: Tensor) -> Tensor:
        raise Crashed("the model ended with exit code 5", "look", "model", 5)


class Arena:
    """Three samples of brightness 10, 36, 62: labels 0, 1, 2."""

    def __init__(
        self, budget: int | None = 10, model: Brightness | None = None, targeted: bool = False
    ) -> None:
        levels = torch.tensor([10, 36, 62]) / 255
        self.images = levels.view(3, 1, 1, 1).expand(3, *SIZE).contiguous()
        labels = torch.tensor([0, 1, 2])
        criterion = (
            attacks.Targeted(labels, labels + 3) if targeted else attacks.Misclassification(labels)
        )
        self.model = model or Brightness()
        self.oracle = attacks.Oracle(
            self.model, self.images, criterion, norm="l2", budget=budget, quantised=True
        )
        self.referee = Referee(
            self.oracle,
            self.images,
            criterion,
            random=attacks.ImageRandom.of(7, ["a", "b", "c"]),
            track="brightness",
            epsilon=None,
            seconds=100,
        )
        self.pixels = to_pixels(self.images)

    def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        path, _, query = path.partition("?")
        return self.referee.answer(method, path, query, body)

    def predict(self, samples: str, array: NDArray[Any]) -> Answer:
        return self.ask("POST", f"/v1/predict?samples={samples}", npy(array))

    def store(self, sample: int | str, array: NDArray[Any]) -> Answer:
        return self.ask("POST", f"/v1/adversarials/{sample}", npy(array))

    def brighter(self, sample: int, step: int) -> NDArray[np.uint8]:
        made: NDArray[np.uint8] = self.pixels[sample] + np.uint8(step)
        return made


def npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def array(answer: Answer) -> list[int]:
    assert answer.status == 200, answer.body
    labels = np.load(io.BytesIO(answer.body), allow_pickle=False)
    assert labels.dtype == np.int64
    return [int(label) for label in labels]


def fields(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_pixels_and_images_go_both_ways_unchanged() -> None:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    images = to_images(pixels)
    assert images.shape == (2, 5, 3, 4)
    assert images.dtype == torch.float32
    assert np.array_equal(to_pixels(images), pixels)
    assert np.array_equal(
        to_pixels(to_images(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1))).ravel(),
        np.arange(256),
    )


def test_the_task_says_all_that_an_attack_needs() -> None:
    arena = Arena()
    task = fields(arena.ask("GET", "/v1/task"))
    assert 90 < task.pop("deadline_seconds") <= 100
    seeds = [attacks.image_seed(7, name) for name in "abc"]
    assert task == {
        "protocol": 1,
        "track": "brightness",
        "image": {"shape": [3, 3, 2], "dtype": "uint8"},
        "norm": "l2",
        "epsilon": None,
        "targeted": False,
        "samples": [
            {"sample": i, "label": i, "target": None, "seed": seeds[i], "remaining": 10}
            for i in range(3)
        ],
    }


def test_a_targeted_task_names_the_targets() -> None:
    task = fields(Arena(targeted=True).ask("GET", "/v1/task"))
    assert task["targeted"] is True
    assert [sample["target"] for sample in task["samples"]] == [3, 4, 5]


def test_the_images_are_uint8_with_channels_last() -> None:
    arena = Arena()
    answer = arena.ask("GET", "/v1/images.npy")
    images = np.load(io.BytesIO(answer.body))
    assert images.dtype == np.uint8
    assert np.array_equal(images, arena.pixels)


def test_predict_gives_labels_and_what_is_left_for_each_image() -> None:
    arena = Arena()
    stack = np.stack([arena.pixels[2], arena.brighter(2, 30), arena.pixels[0]])
    answer = arena.predict("2,2,0", stack)
    assert array(answer) == [2, 3, 0]
    assert answer.headers["x-tiltyard-remaining"] == "8,8,9"
    assert arena.oracle.queries.tolist() == [1, 0, 2]


def test_an_adversarial_that_was_only_asked_is_kept() -> None:
    arena = Arena()
    arena.predict("0", arena.brighter(0, 16)[None])
    assert float(arena.oracle.best_distance[0]) == pytest.approx(16 / 255 * 18**0.5)
    assert fields(arena.ask("POST", "/v1/done")) == {"stored": 1}
    assert arena.referee.finished.is_set()


def test_the_query_after_the_last_gets_429_and_nothing_else_breaks() -> None:
    arena = Arena(budget=10)
    for _ in range(10):
        assert arena.predict("1", arena.pixels[1:2]).status == 200
    answer = arena.predict("1", arena.pixels[1:2])
    assert answer.status == 429
    body = fields(answer)
    assert (body["sample"], body["remaining"]) == (1, 0)
    assert "0 of its 10 queries left" in body["error"]
    assert "another sample" in body["mend"]
    assert arena.oracle.notes[1] == body["error"]
    assert arena.predict("0", arena.pixels[:1]).status == 200
    assert arena.oracle.queries.tolist() == [1, 10, 0]


def test_a_request_that_is_too_large_for_the_budget_counts_nothing() -> None:
    arena = Arena(budget=3)
    stack = np.repeat(arena.pixels[:1], 4, 0)
    answer = arena.predict("0,0,0,0", stack)
    assert answer.status == 429
    assert fields(answer)["remaining"] == 3
    assert arena.oracle.queries.tolist() == [0, 0, 0]
    assert arena.model.images == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: x.astype(np.float64), "got float64, wanted uint8"),
        (lambda x: x.astype(np.float64), "np.clip(np.rint(x), 0, 255).astype(np.uint8)"),
        (lambda x: x.astype(np.float32) / 255, "np.clip(np.rint(255 * x), 0, 255)"),
        (lambda x: x.astype(np.int64), "got int64, wanted uint8"),
        (lambda x: np.full(x.shape, np.nan), "holds NaN or infinite values"),
        (lambda x: np.full(x.shape, np.inf, np.float32), "holds NaN or infinite values"),
        (lambda x: x.transpose(0, 3, 1, 2), "got the shape (1, 2, 3, 3), wanted (1, 3, 3, 2)"),
        (lambda x: x[0], "wanted (1, 3, 3, 2): x.reshape(1, 3, 3, 2)"),
        (lambda x: np.repeat(x, 2, 0), "got the shape (2, 3, 3, 2), wanted (1, 3, 3, 2)"),
        (lambda x: np.array([{"a": 1}], dtype=object), "never pickled objects"),
        (lambda x: np.array(["ab"]), "only plain numbers are read"),
    ],
)
def test_a_wrong_array_is_refused_with_a_reason_that_is_kept(wrong: Any, words: str) -> None:
    arena = Arena()
    answer = arena.predict("1", wrong(arena.pixels[1:2]))
    assert answer.status == 422
    assert words in fields(answer)["error"]
    assert arena.oracle.notes[1] == fields(answer)["error"]
    assert arena.oracle.notes[0] is None
    assert arena.oracle.queries.tolist() == [0, 0, 0]


@pytest.mark.parametrize("body", [b"", b"hello", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{"])
def test_what_is_not_an_array_is_refused(body: bytes) -> None:
    answer = Arena().ask("POST", "/v1/predict?samples=0", body)
    assert answer.status == 422
    assert "numpy.save" in fields(answer)["error"]


def test_a_header_that_claims_more_than_follows_is_refused_before_it_is_believed() -> None:
    arena = Arena()
    body = npy(arena.pixels[:1]).replace(b"(1, 3, 3, 2)", b"(9999999999,)")
    answer = arena.ask("POST", "/v1/predict?samples=0", body)
    assert answer.status == 422
    assert "9999999999 bytes" in fields(answer)["error"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/predict", 422, "got no samples"),
        ("/v1/predict?samples=", 422, "got no samples"),
        ("/v1/predict?samples=3", 404, "there is no sample '3'; they are 0 to 2"),
        ("/v1/predict?samples=-1", 404, "there is no sample '-1'"),
        ("/v1/predict?samples=one", 404, "there is no sample 'one'"),
        ("/v1/predict?samples=%D9%A1", 404, "there is no sample"),
        ("/v1/predict?samples=" + "0," * MOST_IMAGES + "0", 422, "1024 at most"),
        ("/v1/adversarials/9", 404, "there is no sample '9'"),
        ("/v1/adversarials/", 404, "there is no sample ''"),
        ("/v1/shutdown", 404, "GET /v1 lists what there is"),
    ],
)
def test_a_sample_or_path_that_is_not_there_is_named(path: str, status: int, words: str) -> None:
    arena = Arena()
    answer = arena.ask("POST", path, npy(arena.pixels[:1]))
    assert answer.status == status
    assert words in fields(answer)["error"]


def test_a_stored_image_is_verified_measured_and_not_counted() -> None:
    arena = Arena()
    first = fields(arena.store(0, arena.brighter(0, 20)))
    assert first == {
        "accepted": True,
        "adversarial": True,
        "distance": pytest.approx(20 / 255 * 18**0.5),
        "best": pytest.approx(20 / 255 * 18**0.5),
        "reason": None,
    }
    better = fields(arena.store(0, arena.brighter(0, 16)))
    assert better["best"] == pytest.approx(16 / 255 * 18**0.5)
    worse = fields(arena.store(0, arena.brighter(0, 50)))
    assert worse["best"] == better["best"]
    assert arena.oracle.queries.tolist() == [0, 0, 0]


def test_a_stored_image_that_is_not_adversarial_is_told_so() -> None:
    arena = Arena()
    answer = fields(arena.store(0, arena.brighter(0, 1)))
    assert (answer["accepted"], answer["adversarial"], answer["best"]) == (True, False, None)
    assert "the model says 0" in answer["reason"]
    assert arena.oracle.notes[0] == answer["reason"]


def test_an_unchanged_image_is_refused() -> None:
    arena = Arena()
    answer = arena.store(2, arena.pixels[2])
    assert answer.status == 422
    assert "unchanged clean image" in fields(answer)["error"]
    assert arena.model.images == 0


def test_storing_is_no_way_to_ask_for_free() -> None:
    arena = Arena()
    for step in range(1, FREE_CLAIMS + 1):
        assert arena.store(0, arena.brighter(0, step)).status == 200
    refused = arena.store(0, arena.brighter(0, 100))
    assert refused.status == 429
    assert "POST /v1/predict" in fields(refused)["error"]
    # What was asked and paid for may be handed in all the same, and other samples too.
    arena.predict("0", arena.brighter(0, 100)[None])
    assert arena.store(0, arena.brighter(0, 100)).status == 200
    assert arena.store(1, arena.brighter(1, 100)).status == 200


def test_a_model_that_fails_ends_the_match_and_its_error_is_kept() -> None:
    arena = Arena(model=Broken())
    answer = arena.predict("0", arena.pixels[:1])
    assert answer.status == 503
    assert fields(answer)["error"] == "the model has failed"
    assert isinstance(arena.referee.failure, Crashed)
    assert arena.referee.finished.is_set()
    assert arena.ask("GET", "/v1/task").status == 503


@contextmanager
def served(arena: Arena) -> Iterator[int]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    server = Server(arena.referee, sock)
    try:
        yield port
    finally:
        server.close()


def fetch(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b""
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection.request(method, path, body)
    reply = connection.getresponse()
    return reply.status, reply.read(), reply.headers


def test_the_budget_is_exact_when_eight_connections_ask_at_once() -> None:
    arena = Arena(budget=100)
    statuses: list[int] = []
    body = npy(arena.pixels[:1])

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(20):
            statuses.append(fetch(connection, "POST", "/v1/predict?samples=0", body)[0])
        connection.close()

    with served(arena) as port:
        threads = [threading.Thread(target=ask, args=(port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (statuses.count(200), statuses.count(429)) == (100, 60)
    assert arena.oracle.queries.tolist() == [100, 0, 0]
    assert arena.model.images == 100


def test_over_http_every_answer_says_its_kind_and_a_connection_is_kept() -> None:
    arena = Arena()
    with served(arena) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        status, body, headers = fetch(connection, "GET", "/v1")
        assert status == 200
        assert b"/v1/predict" in body
        assert headers["content-type"].startswith("text/plain")
        kept = connection.sock
        status, body, headers = fetch(
            connection, "POST", "/v1/predict?samples=1", npy(arena.pixels[1:2])
        )
        assert (status, headers["content-type"]) == (200, "application/x-npy")
        assert headers["x-tiltyard-remaining"] == "9"
        assert fetch(connection, "POST", "/v1/nothing")[0] == 404
        assert connection.sock is kept
        connection.close()


def test_a_body_that_is_too_large_is_answered_413_and_the_connection_goes_on() -> None:
    arena = Arena()
    large = bytes(arena.referee.largest_body + 1)
    with served(arena) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        status, body, _ = fetch(connection, "POST", "/v1/predict?samples=0", large)
        assert status == 413
        assert b"1024 images at most" in body
        assert fetch(connection, "GET", "/v1/task")[0] == 200
        connection.close()
    assert arena.referee.remarks is not None


def test_half_a_request_is_not_judged_and_leaves_no_note() -> None:
    arena = Arena()
    with served(arena) as port:
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.sendall(b"POST /v1/predict?samples=0 HTTP/1.1\r\ncontent-length: 100\r\n\r\n")
    while answer := connection.recv(4096):  # closing the server cuts it
        assert b" 500 " in answer
    connection.close()
    assert arena.oracle.notes == [None, None, None]
    assert arena.referee.remarks is None
