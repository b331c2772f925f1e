"""A model of the zoo is frozen, checks what it is given, and lets gradients through to images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.errors import UsageError
from models.wrappers import Classifier, DecisionOnly, Normalise, seeded


def linear() -> Classifier:
    """Two pixels, two classes: logits are (x0, x1), computed with dropout before in training."""
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), layer)
    return Classifier(network, image_shape=(1, 1, 2), classes=2)


def test_a_classifier_computes_what_its_network_does_without_dropout() -> None:
    images = torch.tensor([[[[0.25, 0.75]]], [[[1.0, 0.0]]]])

    assert torch.equal(linear()(images), torch.tensor([[0.25, 0.75], [1.0, 0.0]]))


def test_the_parameters_are_frozen_and_the_network_evaluates() -> None:
    model = linear()

    assert not any(p.requires_grad for p in model.module.parameters())
    assert not any(m.training for m in model.module.modules())
    with pytest.raises(AttributeError):
        model.classes = 3  # type: ignore[misc]


def test_gradients_reach_the_images() -> None:
    images = torch.rand(3, 1, 1, 2, requires_grad=True)

    linear()(images)[:, 1].sum().backward()

    assert images.grad is not None
    assert torch.equal(images.grad, torch.tensor([0.0, 1.0]).expand(3, 1, 1, 2))


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 1, 2, 1), (3, 2, 1, 2)])
def test_another_shape_is_refused_with_the_one_that_is_wanted(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"got images of shape .*, wanted \(N, 1, 1, 2\)"):
        linear()(torch.zeros(shape))


def test_bytes_are_refused_with_the_way_to_convert_them() -> None:
    with pytest.raises(UsageError, match=r"got images of torch.uint8.*images.float\(\) / 255"):
        linear()(torch.zeros(1, 1, 1, 2, dtype=torch.uint8))


def test_a_decision_view_shows_the_class_and_no_gradient() -> None:
    images = torch.tensor([[[[0.25, 0.75]]], [[[1.0, 0.0]]]], requires_grad=True)
    seen = DecisionOnly(linear())(images)

    assert torch.equal(seen, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert not seen.requires_grad
    assert DecisionOnly(linear()).bounds == linear().bounds == (0.0, 1.0)


def test_normalising_subtracts_and_divides_for_each_channel() -> None:
    images = torch.ones(1, 2, 1, 1)

    out = Normalise((0.5, 0.0), (0.25, 2.0))(images)

    assert out.flatten().tolist() == [2.0, 0.5]


def test_seeded_networks_are_equal_and_leave_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (seeded(s, lambda: nn.Linear(4, 4)) for s in (1, 1, 2))

    weights = [next(m.parameters()) for m in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.rand(1), expected)
