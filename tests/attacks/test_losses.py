"""Losses against the formulas written out in numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks.losses import (
    Loss,
    ascended,
    cross_entropy,
    dlr,
    dlr_targeted,
    falls_back,
    input_gradient,
    log_cross_entropy,
    margin,
    most_likely_others,
)

LOGITS = torch.tensor([[4.0, 1.0, 3.0, 0.0, -2.0], [1.0, 5.0, 0.0, 4.0, 2.0]])
LABELS = torch.tensor([0, 3])
TARGETS = torch.tensor([1, 2])


def test_the_margin_is_positive_while_the_model_gives_the_label() -> None:
    assert margin(LOGITS, LABELS).tolist() == [1.0, -1.0]


def test_the_difference_of_logits_ratio_is_that_of_the_paper() -> None:
    # -(4 - 3) / (4 - 1) and -(4 - 5) / (5 - 2)
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-1 / 3, 1 / 3])
    # -(4 - 1) / (4 - (1 + 0) / 2) and -(4 - 0) / (5 - (2 + 1) / 2)
    assert dlr_targeted(LOGITS, LABELS, TARGETS).tolist() == pytest.approx([-3 / 3.5, -4 / 3.5])


@pytest.mark.parametrize("change", [lambda z: 7 * z, lambda z: z - 40])
def test_the_ratio_does_not_see_a_scale_or_a_shift(change: object) -> None:
    changed: Tensor = change(LOGITS)  # type: ignore[operator]
    assert torch.allclose(dlr(changed, LABELS), dlr(LOGITS, LABELS))
    expected = dlr_targeted(LOGITS, LABELS, TARGETS)
    assert torch.allclose(dlr_targeted(changed, LABELS, TARGETS), expected)


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("targets", [None, TARGETS])
def test_climbing_a_loss_leads_away_from_the_label_or_towards_the_target(
    loss: Loss, targets: Tensor | None
) -> None:
    logits = LOGITS.clone().requires_grad_()
    rising = input_gradient(ascended(loss, logits, LABELS, targets), logits)
    rows = torch.arange(2)
    if targets is None:
        assert (rising[rows, LABELS] < 0).all()
    else:
        assert (rising[rows, targets] > 0).all()


def test_with_too_few_classes_the_ratio_is_the_margin() -> None:
    two, three = LOGITS[:1, :2], LOGITS[:1, :3]
    label, target = LABELS[:1], TARGETS[:1]
    assert falls_back("dlr", 2, targeted=False)
    assert falls_back("dlr", 3, targeted=True)
    assert not falls_back("dlr", 3, targeted=False)
    assert not falls_back("ce", 2, targeted=True)
    assert torch.equal(ascended("dlr", two, label, None), -margin(two, label))
    assert torch.equal(ascended("dlr", three, label, target), margin(three, target))


def test_the_logarithm_of_cross_entropy_keeps_a_gradient_where_the_model_is_sure() -> None:
    sure = torch.tensor([[900.0, 0.0, -5.0]], requires_grad=True)
    label = torch.tensor([0])
    assert (input_gradient(cross_entropy(sure, label), sure) == 0).all()
    kept = input_gradient(log_cross_entropy(sure, label), sure)
    assert kept[0, 0] == pytest.approx(-1.0)
    assert kept[0, 1:].tolist() == pytest.approx([0.99331, 0.00669], abs=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 7.0])
def test_the_logarithm_of_cross_entropy_is_that_and_points_the_same_way(scale: float) -> None:
    logits = (LOGITS * scale).requires_grad_()
    plain, log = cross_entropy(logits, LABELS), log_cross_entropy(logits, LABELS)
    assert torch.allclose(plain.log(), log, rtol=1e-6)
    first, second = input_gradient(plain, logits), input_gradient(log, logits)
    unit = torch.nn.functional.normalize
    assert torch.allclose(unit(first), unit(second), atol=1e-5)


def test_the_most_likely_others_come_best_first_and_without_the_label() -> None:
    assert most_likely_others(LOGITS, LABELS, 2).tolist() == [[2, 1], [1, 4]]
    assert most_likely_others(LOGITS, LABELS, 9).shape == (2, 4)


def test_a_gradient_is_zero_where_there_is_none_and_never_nan() -> None:
    image = torch.zeros(2, 3, requires_grad=True)
    assert torch.equal(input_gradient(torch.ones(2), image), torch.zeros(2, 3))
    other = torch.ones(2, requires_grad=True)
    assert torch.equal(input_gradient(other * 2, image), torch.zeros(2, 3))
    root = (image**2).sum(1).sqrt()  # its gradient at 0 is NaN
    assert torch.equal(input_gradient(root, image), torch.zeros(2, 3))
