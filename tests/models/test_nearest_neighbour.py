"""The nearest training image of each class, against distances written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import models
from attacks.types import GenerativeModel
from models.errors import UsageError
from models.nearest_neighbour import NearestNeighbour, create
from models.types import References


def references(n: int = 30, classes: int = 4) -> References:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    return References(
        torch.rand(n, 1, 5, 4, generator=generator), labels[torch.randperm(n, generator=generator)]
    )


@pytest.fixture
def model() -> NearestNeighbour:
    return create(references=references())


def asked(n: int = 7) -> Tensor:
    return torch.rand(n, 1, 5, 4, generator=torch.Generator().manual_seed(1))


def test_logits_are_minus_the_distances_to_the_nearest_of_each_class(
    model: NearestNeighbour,
) -> None:
    images, labels = references()
    away = torch.cdist(asked().flatten(1).double(), images.flatten(1).double())
    wanted = torch.stack([-away[:, labels == k].amin(1) for k in range(4)], dim=1)

    assert (model.bounds, model.image_shape, model.classes) == ((0.0, 1.0), (1, 5, 4), 4)
    torch.testing.assert_close(model(asked()).double(), wanted, atol=1e-5, rtol=0)


def test_a_reference_is_of_its_own_class_and_has_a_finite_gradient(
    model: NearestNeighbour,
) -> None:
    images, labels = references()
    x = images.clone().requires_grad_()
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x)

    assert torch.equal(logits.argmax(1), labels)
    assert float(logits.detach().amax(1).abs().max()) < 1e-4
    assert bool(torch.isfinite(gradient).all())


def test_the_gradient_points_to_the_neighbour(model: NearestNeighbour) -> None:
    x = asked().requires_grad_()
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), x)
    _, nearest = model.reconstruct(x.detach())

    towards = nearest[:, 2] - x.detach()
    wanted = towards / torch.linalg.vector_norm(towards.flatten(1), dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=0)


def test_reconstructions_are_references_of_the_class(model: NearestNeighbour) -> None:
    images, labels = references()
    logits, nearest = model.reconstruct(asked())

    assert isinstance(model, GenerativeModel)
    assert torch.equal(logits, model(asked()))
    assert nearest.shape == (7, 4, 1, 5, 4)
    for k in range(4):
        own = images[labels == k]
        assert all(bool((picture == own).flatten(1).all(1).any()) for picture in nearest[:, k])


def test_many_images_are_compared_in_parts(model: NearestNeighbour) -> None:
    images = asked(300)

    torch.testing.assert_close(model(images)[290:], model(images[290:]))
    assert model(images[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.rand(3, 4), torch.zeros(3), r"got references \(3, 4\)"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3), "torch.uint8"),
        (torch.rand(3, 1, 2, 2), torch.zeros(2), r"labels \(2,\); wanted .* and \(M,\)"),
        (torch.rand(0, 1, 2, 2), torch.zeros(0), "got no references"),
        (torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), r"no references of \[1\]"),
    ],
)
def test_references_that_do_not_fit_are_refused(images: Tensor, labels: Tensor, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        create(references=References(images, labels.long()))


def test_another_shape_and_bytes_are_refused(model: NearestNeighbour) -> None:
    with pytest.raises(UsageError, match=r"wanted \(N, 1, 5, 4\)"):
        model(torch.zeros(1, 1, 4, 5))
    with pytest.raises(UsageError, match=r"images.float\(\) / 255"):
        model.reconstruct(torch.zeros(1, 1, 5, 4, dtype=torch.uint8))


def test_the_zoo_makes_one_by_name() -> None:
    assert models.create("nearest_neighbour", references=references()).classes == 4
