from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import UsageError, perturb
from attacks.types import Access, Norm


@dataclass(frozen=True, kw_only=True)
class Returns:
    """An attack that returns what it is told to."""

    make: Any
    norm: Norm = "l2"
    access: Access = "decision"

    def run(self, model: Any, images: Tensor, criterion: Any, **_: Any) -> Tensor:
        made: Tensor = self.make(model, images)
        return made


def play(make: Any, **options: Any) -> attacks.Adversarials:
    model, batch = Linear(), images()
    return perturb(Returns(make=make), model, batch, model(batch).argmax(1), **options)


def test_an_unchanged_image_is_a_failure_that_says_so() -> None:
    result = play(lambda model, x: x)
    assert not result.success.any()
    assert result.distance.isinf().all()
    assert set(result.reasons) == {"the image came back unchanged"}


def test_nan_is_an_invalid_answer_and_never_a_success() -> None:
    result = play(lambda model, x: x * float("nan"))
    assert set(result.status) == {"invalid"}
    assert result.images.isfinite().all()


def test_a_success_flag_is_not_needed_and_not_trusted_the_image_is_judged_again() -> None:
    result = play(lambda model, x: (x + 0.01).clamp(0, 1))
    labels = Linear()(images()).argmax(1)
    assert torch.equal(Linear()(images() + 0.01).argmax(1) != labels, result.success)


def test_an_answer_outside_the_radius_is_projected_before_it_is_judged() -> None:
    result = play(lambda model, x: 1 - x, epsilon=0.05)
    moved = (result.images - images()).flatten(1).norm(dim=1)
    assert (moved <= 0.05 * (1 + 1e-5)).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_a_quantised_track_rounding_never_leaves_the_radius(norm: Norm) -> None:
    model, batch = Linear(), images()
    attack = Returns(make=lambda model, x: x + 0.3 * torch.randn_like(x), norm=norm)
    result = perturb(attack, model, batch, model(batch).argmax(1), epsilon=0.11, quantised=True)
    steps = result.images * 255
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert (attacks.distance(norm, batch, result.images) <= 0.11 * (1 + 1e-5)).all()


def test_a_clean_error_is_not_attacked_costs_nothing_and_has_distance_zero() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    labels[3] = (labels[3] + 1) % 3

    def ask(meter: Any, x: Tensor) -> Tensor:
        assert len(x) == len(batch) - 1
        meter.labels(x, torch.arange(len(x)))
        return x

    result = perturb(Returns(make=ask), model, batch, labels)
    assert result.status[3] == "clean_error"
    assert result.distance[3] == 0
    assert result.queries[3] == 0
    assert result.queries.sum() == len(batch) - 1


def test_where_the_budget_ends_the_run_the_best_image_asked_counts() -> None:
    model, batch = Linear(), images()

    def ask_for_ever(meter: Any, x: Tensor) -> Tensor:
        share = 1.0
        while True:
            share *= 0.9
            meter.labels(torch.lerp(x, 1 - x, share), torch.arange(len(x)))

    result = perturb(Returns(make=ask_for_ever), model, batch, model(batch).argmax(1), budget=7)
    assert result.queries.tolist() == [7] * len(batch)
    assert result.success.any()
    for i in range(len(batch)):
        if result.success[i]:
            assert result.traces[i][-1][1] == pytest.approx(float(result.distance[i]), rel=1e-5)
        else:
            assert result.status[i] == "exhausted"
            assert "budget of 7 queries" in str(result.reasons[i])


def test_an_attack_that_needs_more_than_was_granted_is_refused() -> None:
    model, batch = Linear(), images()
    attack = Returns(make=lambda model, x: x, access="gradient")
    with pytest.raises(UsageError, match="needs gradient access.*decision access was granted"):
        perturb(attack, model, batch, model(batch).argmax(1), access="decision")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": images().double()}, "float32"),
        ({"images": images()[0]}, r"\(N, C, H, W\)"),
        ({"images": images() * 3}, "scale them first"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "12 images, 3 labels"),
        ({"labels": torch.zeros(12)}, "integers"),
        ({"epsilon": 0.0}, "above 0"),
        ({"budget": 0}, "at least 1"),
        ({"ids": ["same"] * 12}, "ids must differ"),
        ({"images": images() * 0.999, "quantised": True}, "off the lattice"),
    ],
)
def test_bad_input_is_refused_with_what_was_got_and_wanted(
    change: dict[str, Any], message: str
) -> None:
    model = Linear()
    given: dict[str, Any] = {"images": images(), "labels": model(images()).argmax(1), **change}
    batch, labels = given.pop("images"), given.pop("labels")
    with pytest.raises(UsageError, match=message):
        perturb(Returns(make=lambda model, x: x), model, batch, labels, **given)


def test_an_attack_that_returns_the_wrong_number_of_images_is_named() -> None:
    with pytest.raises(UsageError, match="Returns returned"):
        play(lambda model, x: x[:2])


def test_the_best_image_that_was_asked_counts_even_if_a_worse_one_is_returned() -> None:
    model, batch = Linear(), images()

    def forgetful(meter: Any, x: Tensor) -> Tensor:
        for share in (1.0, 0.8, 0.6):
            meter.labels(torch.lerp(x, 1 - x, share), torch.arange(len(x)))
        return 1 - x

    result = perturb(Returns(make=forgetful), model, batch, model(batch).argmax(1))
    assert result.success.any()
    for i in result.success.nonzero().flatten().tolist():
        assert float(result.distance[i]) == pytest.approx(result.traces[i][-1][1], rel=1e-5)


def test_an_image_asked_outside_the_radius_does_not_count() -> None:
    model, batch = Linear(), images()

    def far(meter: Any, x: Tensor) -> Tensor:
        meter.labels(1 - x, torch.arange(len(x)))
        return x

    result = perturb(Returns(make=far), model, batch, model(batch).argmax(1), epsilon=1e-4)
    assert not result.success.any()


def test_the_verdicts_are_the_models_labels_of_the_images_that_are_returned() -> None:
    model, batch = Linear(), images()
    clean = model(batch).argmax(1)

    def ask(meter: Any, x: Tensor) -> Tensor:
        meter.labels(1 - x, torch.arange(len(x)))  # asked and not handed in: it counts all the same
        return x

    for make in (lambda meter, x: 1 - x, lambda meter, x: x, ask):
        result = play(make)
        assert torch.equal(result.verdicts, model(result.images).argmax(1))
        assert torch.equal(result.verdicts != clean, result.success)
