from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

import kit
from kit import wire
from kit.attack import Referee, measure

Array = np.ndarray[Any, Any]
BUDGET = 20


class SmallReferee(ThreadingHTTPServer):
    """The protocol over a model that says 1 where the mean is above 100, else 0."""

    daemon_threads = True

    def __init__(self, images: Array, **task: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.images = images
        self.starts = images[:0]
        self.left = [BUDGET] * len(images)
        self.best: dict[int, float] = {}
        self.handed: list[tuple[int, Array]] = []
        self.refused: list[str] = []
        self.connections = 0
        self.starting = 0  # answers 503 to this many first requests
        self.done = False
        self.stopped = False
        samples = [
            {"sample": i, "label": 0, "target": None, "seed": 100 + i, "remaining": BUDGET}
            for i in range(len(images))
        ]
        shape = {"shape": list(images.shape[1:]), "dtype": "uint8"}
        self.task: dict[str, Any] = {"protocol": 1, "track": "t", "image": shape, "norm": "l2"}
        self.task.update(targeted=False, deadline_seconds=60, samples=samples, **task)

    def labels(self, images: Array) -> Array:
        return np.asarray(images.mean(axis=(1, 2, 3)) > 100, dtype=np.int64)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SmallReferee

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, *_: Any) -> None: ...

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, status: int, answer: dict[str, Any]) -> None:
        self.answer(status, json.dumps(answer).encode())

    def do_GET(self) -> None:
        if self.server.starting > 0:
            self.server.starting -= 1
            self.answer_json(503, {"error": "starting"})
        elif self.path == "/v1/task":
            self.answer_json(200, self.server.task)
        elif self.path.startswith("/v1/starts/"):
            self.answer(200, wire.dumps(self.server.starts))
        else:
            self.answer(200, wire.dumps(self.server.images))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = urlsplit(self.path)
        if url.path == "/v1/predict":
            self.predict([int(i) for i in parse_qs(url.query)["samples"][0].split(",")], body)
        elif url.path == "/v1/done":
            self.server.done = True
            self.answer_json(200, {"stored": len(self.server.best)})
        else:
            self.hand_in(int(url.path.rpartition("/")[2]), wire.loads(body))

    def predict(self, samples: list[int], body: bytes) -> None:
        images = wire.loads(body, dtype="uint8", shape=(len(samples), *self.server.images[0].shape))
        left = self.server.left
        if self.server.stopped:
            self.answer_json(503, {"error": "the model failed"})
            return
        if left[samples[0]] < len(samples):
            remaining = left[samples[0]]
            self.answer_json(429, {"error": "spent", "sample": samples[0], "remaining": remaining})
            return
        header = []
        for sample in samples:
            left[sample] -= 1
            header.append(str(left[sample]))
        labels = wire.dumps(self.server.labels(images))
        self.answer(200, labels, X_Tiltyard_Remaining=",".join(header))

    def hand_in(self, sample: int, image: Array) -> None:
        self.server.handed.append((sample, image))
        original = self.server.images[sample]
        if image.dtype != np.uint8 or image.shape != original.shape:
            self.server.refused.append("wanted uint8")
            self.answer_json(422, {"error": "wanted uint8"})
            return
        adversarial = bool(self.server.labels(image[None])[0] != 0)
        distance = float(measure("l2", image[None], original)[0])
        if adversarial:
            self.server.best[sample] = min(distance, self.server.best.get(sample, np.inf))
        answer = {"accepted": True, "adversarial": adversarial, "distance": distance}
        self.answer_json(200, {**answer, "best": self.server.best.get(sample), "reason": None})


@contextmanager
def refereed(count: int = 2, **task: Any) -> Iterator[SmallReferee]:
    images = np.full((count, 4, 4, 1), 90, dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    with SmallReferee(images, **task) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


Way = Callable[[Any, Array, int, np.random.Generator], Any]


def play(server: SmallReferee, way: Way) -> None:
    class Attack:
        def attack_image(
            self, predict: Any, image: Array, label: int, rng: np.random.Generator
        ) -> Any:
            return way(predict, image, label, rng)

    kit.attack(Attack(), host="127.0.0.1", port=server.server_address[1])


def bright(image: Array, value: int) -> Array:
    return np.full_like(image, value)


def test_what_the_attack_returns_is_handed_in_over_one_connection() -> None:
    with refereed() as server:
        play(server, lambda predict, image, label, rng: bright(image, 120))
    assert sorted(server.best) == [0, 1]
    assert server.done
    assert server.connections == 1


def test_each_sample_has_its_image_its_label_and_the_randomness_of_its_seed() -> None:
    seen = []

    def look(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        seen.append((int(image[0, 0, 0]), label, float(rng.random())))

    with refereed() as server:
        play(server, look)
    wanted = [float(np.random.default_rng(seed).random()) for seed in (100, 101)]
    assert seen == [(0, 0, wanted[0]), (1, 0, wanted[1])]


def test_asking_counts_one_query_an_image_and_says_what_is_left() -> None:
    left = []

    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        labels = predict(np.stack([image, bright(image, 200), image]))
        assert labels.tolist() == [0, 1, 0]
        left.append(predict.remaining)
        assert predict(image[None][:0]).shape == (0,)
        predict(image[None])
        left.append(predict.remaining)

    with refereed(1) as server:
        play(server, ask)
    assert left == [BUDGET - 3, BUDGET - 4]
    assert server.left == [BUDGET - 4]


def test_none_hands_in_the_nearest_adversarial_that_was_asked() -> None:
    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        predict(np.stack([bright(image, value) for value in (250, 120, 180)]))
        predict(bright(image, 255)[None])

    with refereed(1) as server:
        play(server, ask)
    assert [int(image.max()) for _, image in server.handed] == [120]


def test_a_spent_budget_ends_the_sample_and_its_best_counts() -> None:
    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> Array:
        for value in range(255, 0, -5):
            predict(bright(image, value)[None])
        return image

    with refereed() as server:
        play(server, ask)
    assert server.left == [0, 0]
    assert [int(image.max()) for _, image in server.handed] == [160, 160]


def test_an_attack_may_catch_the_end_of_its_budget_and_ask_for_less() -> None:
    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> Array:
        predict(np.stack([image] * (BUDGET - 2)))
        with pytest.raises(kit.BudgetExhausted, match="spent"):
            predict(np.stack([image] * 3))
        assert predict.remaining == 2
        predict(np.stack([image] * 2))
        return bright(image, 130)

    with refereed(1) as server:
        play(server, ask)
    assert server.left == [0]
    assert sorted(server.best) == [0]


def test_an_exception_is_printed_and_the_next_sample_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> Array:
        predict(bright(image, 140)[None])
        if image[0, 0, 0] == 0:
            raise ZeroDivisionError("my own fault")
        return bright(image, 110)

    with refereed() as server:
        play(server, ask)
    assert [(i, int(image.max())) for i, image in server.handed] == [(0, 140), (1, 110)]
    said = capsys.readouterr().err
    assert "sample 0: the attack raised" in said
    assert "ZeroDivisionError: my own fault" in said


def test_an_attack_that_raises_on_every_sample_ends_with_a_failure() -> None:
    def fail(*_: Any) -> None:
        raise ValueError("never works")

    with refereed() as server, pytest.raises(SystemExit, match="raised on every sample"):
        play(server, fail)
    assert server.done


@pytest.mark.parametrize(
    "answer",
    [
        lambda image: image.astype(np.float64) + np.nan,
        lambda image: image[0],
        lambda image: "not an image",
        lambda image: image,
    ],
)
def test_a_useless_answer_is_said_and_the_best_asked_is_handed_in_instead(
    answer: Callable[[Array], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> Any:
        predict(bright(image, 150)[None])
        return answer(image)

    with refereed(1) as server:
        play(server, ask)
    assert int(server.handed[-1][1].max()) == 150
    assert sorted(server.best) == [0]
    assert "sample 0: not a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (lambda image: image[None] / 255, "predict got float64, wanted a uint8 array"),
        (lambda image: image, r"for one image, predict\(image\[None\]\)"),
        (lambda image: [image], "predict got list"),
        (lambda image: image[None, :2], r"wanted \('n', 4, 4, 1\)"),
    ],
)
def test_a_wrong_question_is_explained_before_it_is_asked(
    question: Callable[[Array], Any], reason: str
) -> None:
    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        with pytest.raises(ValueError, match=reason):
            predict(question(image))

    with refereed(1) as server:
        play(server, ask)
    assert server.left == [BUDGET]


def test_changing_the_image_in_place_does_not_change_what_is_measured() -> None:
    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        image[:] = 120
        predict(image[None])
        assert predict.distance > 0

    with refereed(1) as server:
        play(server, ask)
    assert server.best[0] > 0


def test_it_waits_until_the_referee_is_ready() -> None:
    with refereed() as server:
        server.starting = 3
        play(server, lambda predict, image, label, rng: bright(image, 120))
    assert server.done


def test_a_referee_that_never_comes_is_given_up() -> None:
    with refereed() as server:
        port = server.server_address[1]
    reason = "not ready in 0 s: no answer from the referee"
    with pytest.raises(kit.RefereeGoneError, match=reason):
        Referee("127.0.0.1", port).task(patience=0)


def test_a_referee_that_goes_away_ends_the_run() -> None:
    asked = []

    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        asked.append(image)
        predict._referee._connection.close()
        predict._referee._connection.port = 1
        predict(image[None])

    with refereed() as server, pytest.raises(kit.RefereeGoneError, match="127.0.0.1:1"):
        play(server, ask)
    assert len(asked) == 1


def test_a_match_that_was_stopped_ends_the_run() -> None:
    asked = []

    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        asked.append(image)
        server.stopped = True
        predict(image[None])

    with refereed() as server, pytest.raises(kit.RefereeGoneError, match="over: the model failed"):
        play(server, ask)
    assert len(asked) == 1


def test_a_targeted_sample_has_a_target_and_images_to_start_from() -> None:
    seen = []

    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        starts = predict.starts
        assert predict.starts is starts  # asked for once
        seen.append((predict.target, starts.shape, predict.fools(starts).tolist()))
        assert np.array_equal(predict.best, starts[1])  # what has the wanted label counts

    with refereed() as server:
        server.task["targeted"] = True
        for sample in server.task["samples"]:
            sample["target"] = 1
        server.starts = np.stack([np.full_like(server.images[0], v) for v in (50, 200)])
        play(server, ask)
        assert len(server.handed) == len(server.images)
    assert seen == [(1, (2, *server.images.shape[1:]), [False, True])] * len(server.images)


def test_a_task_of_another_protocol_is_refused() -> None:
    with refereed() as server:
        server.task.update(protocol=2)
        with pytest.raises(kit.RefereeError, match="get a newer one"):
            play(server, lambda *_: None)


def test_a_class_instead_of_an_attack_is_refused() -> None:
    with pytest.raises(TypeError, match="pass the attack itself"):
        kit.attack(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("norm", "wanted"), [("l0", 2), ("l1", 2.0), ("l2", np.sqrt(1.44)), ("linf", 1.0)]
)
def test_distances_are_those_of_values_in_0_to_1(norm: str, wanted: float) -> None:
    original = np.zeros((2, 2, 3), dtype=np.uint8)
    changed = original.copy()
    changed[0, 0] = (255, 51, 51)
    changed[1, 1, 2] = 153
    assert measure(norm, changed[None], original)[0] == pytest.approx(wanted)
