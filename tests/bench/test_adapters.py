from __future__ import annotations

from typing import Any

import foolbox
import numpy as np
import pytest
import torch

from attacks import Pool, Targeted, perturb
from bench.adapters import LabelModel, as_attack, as_model, check_labels, to_images, to_pixels
from bench.errors import UserError


class Bright:
    """A numpy model: 1 where the mean is above 127."""

    def predict(self, images: Any) -> Any:
        assert images.dtype == np.uint8
        return (images.mean(axis=(1, 2, 3)) > 127).astype(np.int64)


def images(n: int = 5) -> torch.Tensor:
    return torch.randint(0, 100, (n, 3, 4, 4), generator=torch.Generator().manual_seed(0)) / 255


class Whiten:
    """A numpy attack: adds random light until the label changes; `ending` is what goes wrong."""

    def __init__(self, ending: Any = None) -> None:
        self.ending = ending

    def attack_image(self, predict: Any, image: Any, label: int, rng: Any) -> Any:
        while True:
            step = rng.integers(0, 40, size=image.shape)
            image = np.minimum(image.astype(int) + step, 255).astype(np.uint8)
            if predict(image[None])[0] != label:
                return image if self.ending is None else self.ending(image)


def play(attack: Any, **options: Any) -> Any:
    model = LabelModel(Bright())
    return perturb(
        as_attack(attack, "test"), model, images(), torch.zeros(5, dtype=torch.int64),
        quantised=True, **options,
    )  # fmt: skip


def test_pixels_and_images_are_inverse_to_each_other() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 8, 16, 3)
    assert np.array_equal(to_pixels(to_images(pixels)), pixels)


def test_a_numpy_model_and_a_numpy_attack_meet() -> None:
    result = play(Whiten())
    assert result.success.all()
    assert (result.queries >= 1).all()


def test_the_random_numbers_of_an_image_are_its_own() -> None:
    model = LabelModel(Bright())
    labels = torch.zeros(5, dtype=torch.int64)
    ids = list("abcde")
    together = perturb(as_attack(Whiten(), "t"), model, images(), labels, ids=ids)
    alone = perturb(as_attack(Whiten(), "t"), model, images()[[3]], labels[[3]], ids=["d"])
    assert torch.equal(together.images[3], alone.images[0])


def test_a_targeted_numpy_attack_is_told_the_target_and_where_to_start() -> None:
    seen: list[tuple[int | None, list[int], list[bool]]] = []

    class Start:
        def attack_image(self, predict: Any, image: Any, label: int, rng: Any) -> Any:
            fools = predict.fools(predict.starts)
            seen.append((predict.target, [int(s[0, 0, 0]) for s in predict.starts], fools.tolist()))
            return predict.starts[fools][0]

    levels = (torch.tensor([250, 120, 30]) / 255).view(3, 1, 1, 1).expand(3, 3, 4, 4).contiguous()
    pool = Pool(levels, torch.tensor([1, 1, 0]))
    labels = torch.zeros(5, dtype=torch.int64)
    result = perturb(
        as_attack(Start(), "t"), LabelModel(Bright()), images(), Targeted(labels, labels + 1),
        pool=pool, quantised=True,
    )  # fmt: skip
    assert seen == [(1, [120, 250], [False, True])] * 5
    assert result.success.all()
    assert (result.queries == 2).all()


def test_without_a_target_or_a_pool_there_is_neither() -> None:
    class Look:
        def attack_image(self, predict: Any, image: Any, label: int, rng: Any) -> Any:
            assert predict.target is None
            assert predict.starts.shape == (0, 4, 4, 3)
            assert predict.fools(np.full_like(image, 200)[None]).tolist() == [True]

    assert play(Look()).success.all()


def test_where_the_budget_ends_an_attack_its_best_image_counts() -> None:
    class Greedy(Whiten):
        def attack_image(self, predict: Any, image: Any, label: int, rng: Any) -> Any:
            while True:
                predict(np.full_like(image, 200)[None])

    result = play(Greedy(), budget=4)
    assert result.queries.tolist() == [4] * 5
    assert result.success.all()


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (lambda x: x.astype(np.float64), r"got float64, wanted uint8: np.clip"),
        (lambda x: x[:2], r"got shape \(2, 4, 3\), wanted \(4, 4, 3\)"),
        (lambda x: None, "it found nothing"),
        (lambda x: list(x), "got list, wanted uint8"),
        (lambda x: 1 / 0, "raised ZeroDivisionError"),
        (lambda x: np.zeros_like(x), r"not adversarial \(the model says 0\); the best one that"),
    ],
)
def test_a_bad_answer_is_noted_with_a_reason_and_the_best_image_asked_counts(
    ending: Any, reason: str
) -> None:
    import re

    result = play(Whiten(ending))
    assert result.success.all()
    assert all(re.search(reason, str(text)) for text in result.reasons)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((3, 10)), r"float64 of shape \(3, 10\) for 3 images"),
        (np.array([0.0, 1.0, 2.0]), "wanted whole numbers"),
        (np.array([0, -1, 2]), "label -1"),
    ],
)
def test_a_model_that_returns_something_else_is_told(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_labels(answer, 3)


def test_a_torch_module_is_a_model_frozen_and_in_eval_mode() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(48, 2))
    model = as_model(net, "net")
    assert torch.equal(model(images()), model(images()))
    assert not any(p.requires_grad for p in net.parameters())


def test_a_foolbox_attack_object_is_an_attack() -> None:
    assert as_attack(foolbox.attacks.L2PGD(steps=3), "mine").norm == "l2"


def test_something_else_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="returned int; wanted an attack"):
        as_attack(5, "mine.py")
    with pytest.raises(UserError, match="returned str; wanted a model"):
        as_model("x", "mine.py")
