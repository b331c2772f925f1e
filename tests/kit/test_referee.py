"""The kit against the server's own referee, over a real socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

import kit
from attacks.criteria import Misclassification
from attacks.oracle import Oracle
from attacks.random import ImageRandom
from server.referee import FREE_CLAIMS, Referee
from server.sandbox.serve import Server

Array = np.ndarray[Any, Any]
BUDGET = 1000


class Bright:
    """Says 1 where the mean is above 0.4, else 0; nothing once it is broken."""

    bounds = (0.0, 1.0)
    broken = False

    def __call__(self, images: torch.Tensor, /) -> torch.Tensor:
        if self.broken:
            raise RuntimeError("the model broke")
        return torch.nn.functional.one_hot((images.mean(dim=(1, 2, 3)) > 0.4).long(), 2).float()


class Ground:
    """Two dark samples, their oracle, and the referee over them."""

    def __init__(self) -> None:
        levels = torch.tensor([90, 91]).view(2, 1, 1, 1).expand(2, 1, 5, 4) / 255
        criterion = Misclassification(torch.zeros(2, dtype=torch.int64))
        self.model = Bright()
        self.oracle = Oracle(
            self.model,
            levels,
            criterion,
            norm="l2",
            access="decision",
            budget=BUDGET,
            quantised=True,
        )
        self.referee = Referee(
            self.oracle,
            levels,
            criterion,
            random=ImageRandom([5, 6]),
            track="test",
            epsilon=None,
            seconds=60,
        )
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self._server = Server(self.referee, listening)

    def close(self) -> None:
        self._server.close()

    def play(self, way: Callable[[Any, Array, int, np.random.Generator], Any]) -> None:
        class Attack:
            def attack_image(
                self, predict: Any, image: Array, label: int, rng: np.random.Generator
            ) -> Any:
                return way(predict, image, label, rng)

        kit.attack(Attack(), host="127.0.0.1", port=self.port)


@pytest.fixture
def ground() -> Iterator[Ground]:
    with closing(Ground()) as made:
        yield made


def bright(image: Array, value: int) -> Array:
    return np.full_like(image, value)


def test_what_was_handed_in_is_verified_and_measured(ground: Ground) -> None:
    ground.play(lambda predict, image, label, rng: bright(image, 103))
    wanted = [np.sqrt(20) * 13 / 255, np.sqrt(20) * 12 / 255]
    assert ground.oracle.claimed_distance.tolist() == pytest.approx(wanted)
    assert ground.oracle.queries.tolist() == [0, 0]
    assert ground.referee.finished.is_set()


def test_the_query_after_the_last_raises_and_the_best_asked_counts(ground: Ground) -> None:
    refused = []

    def spend(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        assert predict.remaining == BUDGET
        predict(np.stack([bright(image, 250)] * (BUDGET - 1)))
        predict(bright(image, 110)[None])
        assert predict.remaining == 0
        assert int(predict.best.max()) == 110
        try:
            predict(bright(image, 109)[None])
        except kit.BudgetExhausted as error:
            refused.append(str(error))
            raise

    ground.play(spend)
    assert ground.oracle.queries.tolist() == [BUDGET, BUDGET]
    assert len(refused) == 2
    assert "has 0 of its 1000 queries left" in refused[0]
    assert torch.isfinite(ground.oracle.claimed_distance).all()


def test_the_seeds_are_those_of_the_match(ground: Ground) -> None:
    drawn = []
    ground.play(lambda predict, image, label, rng: drawn.append(float(rng.random())))
    assert drawn == [float(np.random.default_rng(seed).random()) for seed in (5, 6)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda image: image / 255, "got float64, wanted uint8"),
        (lambda image: image * np.nan, "NaN or infinite"),
        (lambda image: image[:2], "got the shape"),
        (lambda image: image, "unchanged clean image"),
        (lambda image: bright(image, 50), "not adversarial: the model says 0"),
    ],
)
def test_what_can_not_count_is_noted_and_said(
    answer: Callable[[Array], Any],
    reason: str,
    ground: Ground,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ground.play(lambda predict, image, label, rng: answer(image))
    assert reason in str(ground.oracle.notes[0])
    assert reason in capsys.readouterr().err
    assert not torch.isfinite(ground.oracle.claimed_distance).any()


def test_a_question_that_the_referee_refuses_reaches_its_author(ground: Ground) -> None:
    seen = []

    def ask(predict: Any, image: Array, label: int, rng: np.random.Generator) -> None:
        with pytest.raises(kit.RefereeError, match="got 1025 images in one request") as caught:
            predict(np.stack([image] * 1025))
        seen.append(caught.value.status)

    ground.play(ask)
    assert seen == [422, 422]
    assert ground.oracle.queries.tolist() == [0, 0]


def test_a_match_that_fails_ends_the_run(ground: Ground) -> None:
    ground.model.broken = True
    with pytest.raises(kit.RefereeGoneError, match="the run is over: the model has failed"):
        ground.play(lambda predict, image, label, rng: predict(image[None]))


def test_the_best_asked_may_be_handed_in_however_often(ground: Ground) -> None:
    def many(predict: Any, image: Array, label: int, rng: np.random.Generator) -> Array:
        for value in range(255, 255 - 2 * FREE_CLAIMS, -1):
            predict(bright(image, value)[None])
            predict._referee.hand_in(int(predict._number), predict.best)
        return bright(image, 200)

    ground.play(many)
    assert torch.isfinite(ground.oracle.claimed_distance).all()
