"""The referee's answers to the protocol of 2018, alone and mixed with ours."""

from __future__ import annotations

import http.client
import io
import socket
import threading
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import attacks
from bench.adapters import to_pixels
from server import bson, challenge_2018
from server.answers import Answer
from server.referee import Referee
from server.sandbox.errors import Crashed
from server.sandbox.serve import Server
from server.sandbox.types import Outputs

SIZE = (2, 3, 3)  # C, H, W: different, so that a wrong order of axes shows


class Brightness:
    """Label: mean brightness // 26. Counts the images that it is asked about."""

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
    """Three samples of brightness 10, 36, 62: labels 0, 1, 2; a pool of 3 x budget queries."""

    def __init__(
        self,
        budget: int | None = 4,
        model: Brightness | None = None,
        criterion: attacks.Criterion | None = None,
    ) -> None:
        levels = torch.tensor([10, 36, 62]) / 255
        images = levels.view(3, 1, 1, 1).expand(3, *SIZE).contiguous()
        self.pixels = to_pixels(images)
        self.model = model or Brightness()
        self.criterion = criterion or attacks.Misclassification(torch.tensor([0, 1, 2]))
        self.oracle = attacks.Oracle(
            self.model, images, self.criterion, norm="l2", budget=budget, quantised=True
        )
        self.referee = Referee(
            self.oracle,
            images,
            self.criterion,
            random=attacks.ImageRandom.of(7, ["a", "b", "c"]),
            track="brightness",
            epsilon=None,
            seconds=100,
        )

    def old(self, level: int) -> Answer:
        """POST /predict of 2018, of an image of one brightness."""
        return self.send(challenge_2018.request(picture(level)))

    def send(self, body: bytes | None) -> Answer:
        return self.referee.answer("POST", "/predict", "", body)

    def new(self, sample: int, level: int, count: int = 1) -> Answer:
        """POST /v1/predict of as many such images."""
        stack = np.repeat(picture(level)[None], count, 0)
        query = "samples=" + ",".join([str(sample)] * count)
        return self.referee.answer("POST", "/v1/predict", query, npy(stack))

    def take(self, **files: NDArray[Any] | None) -> None:
        """What `store_adversarial` writes, under the names "image0", "image1", ..."""
        contents = {
            challenge_2018.file_name(int(name[-1])): npy(array) for name, array in files.items()
        }
        self.referee.take(Outputs(contents, {}))


def picture(level: int) -> NDArray[np.uint8]:
    return np.full((3, 3, 2), level, dtype=np.uint8)


def npy(array: NDArray[Any] | None) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)  # type: ignore[arg-type]
    return stream.getvalue()


def test_what_a_client_of_2018_asks_first_is_answered_as_it_was() -> None:
    referee = Arena().referee
    assert referee.answer("GET", "/", "", b"").body == (
        b"NIPS 2018 Adversarial Vision Challenge Model Server\n"
    )
    assert referee.answer("GET", "/server_version", "", b"").body == b"1.0.5"


def test_shutdown_is_answered_and_does_nothing() -> None:
    arena = Arena()
    assert arena.referee.answer("GET", "/shutdown", "", b"").status == 200
    assert not arena.referee.finished.is_set()
    assert arena.old(10).status == 200


def test_predict_answers_a_label_and_nothing_else() -> None:
    answer = Arena().old(40)
    assert (answer.status, answer.kind) == (200, "application/bson")
    assert bson.loads(answer.body) == {"prediction": 1}


def test_a_query_belongs_to_the_sample_that_it_is_nearest_to() -> None:
    arena = Arena()
    for level in (0, 22, 24, 255):
        arena.old(level)
    assert arena.oracle.queries.tolist() == [2, 1, 1]
    # 24 is nearest to the second sample and still has label 0: an adversarial of it.
    assert float(arena.oracle.best_distance[1]) == pytest.approx(12 / 255 * 18**0.5)


def test_a_query_between_two_samples_belongs_to_the_first() -> None:
    arena = Arena()
    arena.old(23)
    assert arena.oracle.queries.tolist() == [1, 0, 0]


def test_the_pool_may_be_spent_on_one_sample_and_the_next_query_ends_the_run() -> None:
    arena = Arena(budget=4)
    assert [arena.old(10).status for _ in range(12)] == [200] * 12
    assert not arena.referee.finished.is_set()
    assert arena.old(62).status == 429
    assert arena.referee.finished.is_set()
    assert arena.oracle.queries.tolist() == [12, 0, 0]
    assert arena.model.images == 12
    assert "4 queries for each of 3 samples, is spent" in (arena.referee.remarks or "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "cut off"),
        (b"not bson", "not BSON"),
        (bson.dumps({"picture": 3}), 'no "image"'),
        (bson.dumps({"image": 3}), "wanted an array"),
        (
            bson.dumps({"image": bson.as_document(picture(3).astype(np.float32))}),
            "got float32, wanted uint8",
        ),
        (challenge_2018.request(picture(3)[:2]), "got the shape (2, 3, 2), wanted (3, 3, 2)"),
        (None, "had more than"),
    ],
)
def test_a_malformed_query_counts_and_is_refused_with_a_reason(
    body: bytes | None, words: str
) -> None:
    arena = Arena(budget=1)
    for _ in range(3):
        answer = arena.send(body)
        assert answer.status in (413, 422)
        assert words in answer.body.decode().replace("\\", "")
    assert arena.oracle.queries.tolist() == [0, 0, 0]
    assert arena.old(10).status == 429
    assert arena.model.images == 0


def test_both_protocols_draw_on_one_budget() -> None:
    arena = Arena(budget=4)
    assert arena.new(0, 10, count=4).status == 200  # the first sample's own budget is spent
    assert arena.new(0, 10).status == 429
    assert arena.old(10).status == 200  # the pool is not
    assert arena.new(1, 36, count=4).status == 200
    assert [arena.old(10).status for _ in range(2)] == [200, 200]
    # 11 of 12 are spent; the third sample has had none of its four, and gets the last one.
    refused = arena.new(2, 62, count=2)
    assert refused.status == 429
    assert b"the run has 1 queries left for all its samples together" in refused.body
    answer = arena.new(2, 62)
    assert answer.headers["x-tiltyard-remaining"] == "0"
    assert arena.new(2, 62).status == 429
    assert not arena.referee.finished.is_set()  # our own clients know what to do with a 429
    assert arena.oracle.queries.tolist() == [7, 4, 1]
    assert arena.model.images == 12


def test_the_task_tells_what_the_pool_has_left() -> None:
    arena = Arena(budget=4)
    for _ in range(10):
        arena.old(10)
    assert arena.oracle.remaining().tolist() == [0, 2, 2]
    assert arena.oracle.remaining_of([0, 1, 2]) == [0, 2, 2]


def test_without_a_budget_there_is_no_end() -> None:
    arena = Arena(budget=None)
    assert [arena.old(10).status for _ in range(20)] == [200] * 20


def test_a_model_that_fails_ends_the_match_and_its_error_is_kept() -> None:
    arena = Arena(model=Broken())
    assert arena.old(10).status == 503
    assert isinstance(arena.referee.failure, Crashed)


def test_the_files_hold_the_images_and_their_labels() -> None:
    files = Arena().referee.files().inputs
    assert files["labels.yml"] == b"00000.npy: 0\n00001.npy: 1\n00002.npy: 2\n"
    assert np.array_equal(np.load(io.BytesIO(files["00001.npy"])), picture(36))
    assert len(files) == 4


def test_in_a_targeted_run_the_label_file_names_the_targets() -> None:
    targeted = attacks.Targeted(torch.tensor([0, 1, 2]), torch.tensor([5, 6, 7]))
    labels = Arena(criterion=targeted).referee.files().inputs["labels.yml"]
    assert labels == b"00000.npy: 5\n00001.npy: 6\n00002.npy: 7\n"


def test_a_stored_file_is_verified_measured_and_not_counted() -> None:
    arena = Arena()
    arena.take(image0=picture(30), image1=picture(37), image2=None)
    assert float(arena.oracle.claimed_distance[0]) == pytest.approx(20 / 255 * 18**0.5)
    assert arena.oracle.claimed_distance.isfinite().tolist() == [True, False, False]
    assert "the model says 1" in (arena.oracle.notes[1] or "")
    assert arena.oracle.notes[2] == "the attack stored None: it found nothing for this image"
    assert arena.oracle.queries.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (picture(10), "the unchanged clean image"),
        (picture(30).astype(np.float32), "got float32, wanted uint8"),
        (picture(30)[0], "got the shape (3, 2)"),
        (np.array([{"a": 1}], dtype=object), "never pickled objects"),
        (np.array(7, dtype=object), "never pickled objects"),
    ],
)
def test_a_stored_file_that_is_none_of_ours_is_refused_with_a_reason(
    stored: NDArray[Any], words: str
) -> None:
    arena = Arena()
    arena.take(image0=stored)
    assert words in (arena.oracle.notes[0] or "")
    assert not arena.oracle.claimed_distance.isfinite().any()


def test_a_file_that_was_not_read_and_one_of_another_name_are_told() -> None:
    arena = Arena()
    arena.referee.take(Outputs({"cat.npy": b""}, {"00000.npy": "it is no plain file"}))
    assert arena.oracle.notes[0] == "the file 00000.npy was refused: it is no plain file"
    assert "'cat.npy': it is the name of no image" in (arena.referee.remarks or "")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_saved_none_is_known_in_every_form_and_never_unpickled(protocol: int) -> None:
    import pickle

    header = npy(None)[: npy(None).index(b"\n") + 1]
    none = header + pickle.dumps(np.array(None, dtype=object), protocol=protocol)
    assert challenge_2018.is_none(none)
    assert not challenge_2018.is_none(none + bytes(challenge_2018.NONE_BYTES))
    assert not challenge_2018.is_none(none[:-9])
    assert not challenge_2018.is_none(header + pickle.dumps(np.array("x", dtype=object)))


def test_a_file_with_code_in_it_is_not_run() -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, ("raise SystemExit('unpickled')",)

    arena = Arena()
    stored = np.empty((), dtype=object)
    stored[()] = Harmful()
    arena.take(image0=stored)
    assert "never pickled objects" in (arena.oracle.notes[0] or "")


CLIENTS, ASKS = 64, 12


def test_the_budget_is_exact_to_one_under_64_clients_of_both_protocols_at_once() -> None:
    # Over real sockets: 768 requests for a pool of 501, some of them ours, some malformed.
    arena = Arena(budget=167)
    old, broken = challenge_2018.request(picture(10)), b"not bson"
    ours = npy(picture(36)[None])
    answers: list[tuple[str, int]] = []
    begin = threading.Barrier(CLIENTS)

    def ask(port: int, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        begin.wait()
        for turn in range(ASKS):
            kind = ("old", "ours", "old", "broken")[(number + turn) % 4]
            path = "/v1/predict?samples=1" if kind == "ours" else "/predict"
            body = {"old": old, "ours": ours, "broken": broken}[kind]
            connection.request("POST", path, body)
            reply = connection.getresponse()
            reply.read()
            answers.append((kind, reply.status))
        connection.close()

    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    server = Server(arena.referee, sock)
    try:
        port = int(sock.getsockname()[1])
        threads = [threading.Thread(target=ask, args=(port, n)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.close()
    assert len(answers) == CLIENTS * ASKS
    asked = sum(status == 200 for _, status in answers)
    wasted = answers.count(("broken", 422))
    assert asked + wasted == 501
    assert sum(status == 429 for _, status in answers) == CLIENTS * ASKS - 501
    assert arena.model.images == asked
    assert arena.oracle.queries.tolist() == [
        answers.count(("old", 200)),
        answers.count(("ours", 200)),
        0,
    ]
    assert arena.oracle.queries[1] <= 167
    assert arena.oracle.shared_remaining() == 0
    assert arena.referee.finished.is_set()
