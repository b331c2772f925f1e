"""What each class makes of an image: our search, and the authors' public one beside it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.abs_vae.bank import Bank, draw
from models.abs_vae.decoder import Decoders
from models.abs_vae.inference import MOST, RADIUS, TOGETHER, Inference
from models.abs_vae.network import Autoencoders
from models.abs_vae.public_algorithm import RATE, PublicAlgorithm


@pytest.fixture(scope="module")
def ours(decoders: Decoders, bank: Bank) -> Inference:
    return Inference(decoders, bank)


def decoded(network: Autoencoders, latents: Tensor) -> Tensor:
    """(N, C, 784) of latents (N, C, 8), by the modules as they were trained."""
    return torch.stack([v.decode(latents[:, k]).flatten(1) for k, v in enumerate(network)], dim=1)


@pytest.mark.parametrize("prior", [1.0, 0.0])
def test_costs_are_those_of_the_latents_and_images_that_are_returned(
    autoencoders: Autoencoders, ours: Inference, images: Tensor, prior: float
) -> None:
    flat = images.flatten(1)
    found = ours.explain(flat, prior=prior)

    pictures = decoded(autoencoders, found.latents)
    torch.testing.assert_close(found.images, pictures, atol=2e-5, rtol=0)
    costs = (flat.unsqueeze(1) - pictures).square().sum(2)
    costs += prior / 2 * found.latents.square().sum(2)
    torch.testing.assert_close(found.costs, costs, atol=1e-3, rtol=1e-5)
    assert float(torch.linalg.vector_norm(found.latents, dim=2).max()) <= RADIUS * (1 + 1e-5)


def test_the_gradient_by_the_latents_vanishes_inside_of_the_ball(
    autoencoders: Autoencoders, ours: Inference, images: Tensor
) -> None:
    flat = images.flatten(1)
    found = ours.explain(flat)
    z = found.latents.clone().requires_grad_()
    costs = (decoded(autoencoders, z) - flat.unsqueeze(1)).square().sum(2) + z.square().sum(2) / 2
    (gradient,) = torch.autograd.grad(costs.sum(), z)
    start = draw(len(flat) * len(ours._single)).view_as(z).requires_grad_()
    costs = (decoded(autoencoders, start) - flat.unsqueeze(1)).square().sum(2)
    (typical,) = torch.autograd.grad(costs.sum(), start)

    inside = torch.linalg.vector_norm(z.detach(), dim=2) < RADIUS * 0.99
    steep = torch.linalg.vector_norm(gradient, dim=2)[inside]
    assert int(inside.sum()) > 20
    assert float(steep.max()) < 0.05 * float(torch.linalg.vector_norm(typical, dim=2).mean())


def test_an_image_alone_costs_what_it_costs_in_a_batch(ours: Inference, images: Tensor) -> None:
    """In a batch classes are decoded apart, alone all as one; both ways end in the same minima."""
    flat = images.flatten(1)
    assert len(flat) > TOGETHER
    together = ours.explain(flat)
    alone = [ours.explain(image.unsqueeze(0)) for image in flat]

    costs = torch.cat([found.costs for found in alone])
    torch.testing.assert_close(costs, together.costs, atol=1e-3, rtol=0)


def test_two_runs_are_equal_bit_for_bit(ours: Inference, images: Tensor) -> None:
    first, again = ours.explain(images.flatten(1)), ours.explain(images.flatten(1))

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_no_images_have_no_explanations(ours: Inference) -> None:
    found = ours.explain(torch.zeros(0, 784))

    assert found.costs.shape == (0, 3)
    assert found.images.shape == (0, 3, 784)


def test_evaluations_are_counted_for_each_pair(
    ours: Inference, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = torch.zeros(3 * len(images), dtype=torch.int64)
    inner = ours._evaluate

    def counted(
        flat: Tensor, latents: Tensor, pairs: Tensor, prior: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        asked[pairs] += 1
        return inner(flat, latents, pairs, prior)

    monkeypatch.setattr(ours, "_evaluate", counted)
    found = ours.explain(images.flatten(1))

    assert torch.equal(found.evaluations, asked.view(3, -1).t())
    assert 1 < int(found.evaluations.max()) <= MOST


def test_with_a_margin_only_classes_that_can_win_are_refined(
    decoders: Decoders, bank: Bank, ours: Inference, images: Tensor
) -> None:
    flat = images.flatten(1)
    fast = Inference(decoders, bank, tolerance=0.1, margin=10.0)
    found, full = fast.explain(flat), ours.explain(flat)

    start = bank.latents[bank.nearest(flat, 1.0)]
    pictures = torch.stack([decoders.decode(z.unsqueeze(0)).images[0] for z in start])
    costs = (pictures - flat.unsqueeze(1)).square().sum(2) + start.square().sum(2) / 2
    hopeless = costs > costs.amin(1, keepdim=True) + 10.0 + 1e-3
    assert bool(hopeless.any())
    assert found.evaluations[hopeless].unique().tolist() == [1]
    torch.testing.assert_close(found.costs[hopeless], costs[hopeless], rtol=1e-4, atol=1e-3)
    assert torch.equal(found.costs.argmin(1), full.costs.argmin(1))
    assert int(found.evaluations.sum()) < int(full.evaluations.sum())


def test_ours_explains_at_least_as_well_as_the_public_algorithm(
    autoencoders: Autoencoders, ours: Inference, images: Tensor
) -> None:
    public = PublicAlgorithm(list(autoencoders), samples=200, drop_signs=False)

    theirs, found = public.explain(images.flatten(1)), ours.explain(images.flatten(1))

    assert float(found.costs.mean()) <= float(theirs.costs.mean()) + 0.01
    assert torch.equal(found.costs.argmin(1), theirs.costs.argmin(1))
    assert theirs.evaluations.unique().tolist() == [50]


def test_the_public_algorithm_is_adam_from_the_best_sample(autoencoders: Autoencoders) -> None:
    """The first steps by hand: Kingma & Ba 2014 (1412.6980), algorithm 1."""
    vae = next(iter(autoencoders))
    image = torch.rand(1, 784, generator=torch.Generator().manual_seed(3))

    def cost(z: Tensor) -> Tensor:
        return (vae.decode(z).flatten(1) - image).square().sum(1) + z.square().sum(1) / 2

    latents = draw(100)
    z = latents[cost(latents).argmin()].unsqueeze(0)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, 4):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cost(z).sum(), z)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        root = (second / (1 - 0.999**step)).sqrt() + 1e-8
        z = z.detach() - RATE * first / (1 - 0.9**step) / root

    found = PublicAlgorithm([vae], samples=100, steps=4).explain(image)

    assert float(torch.linalg.vector_norm(z)) < RADIUS
    torch.testing.assert_close(found.latents[:, 0], z, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.costs[:, 0], cost(z), atol=1e-4, rtol=0)


def test_one_step_of_the_public_algorithm_is_its_sampling_stage(
    autoencoders: Autoencoders, images: Tensor
) -> None:
    public = PublicAlgorithm(list(autoencoders), samples=100, steps=1)
    found = public.explain(images.flatten(1))

    assert bool((found.latents.unsqueeze(2) == draw(100)).all(3).any(2).all())


def test_latents_outside_of_the_ball_come_back_with_or_without_their_signs(
    autoencoders: Autoencoders,
) -> None:
    latents = torch.tensor([[3.0, -4.0, 0, 0, 0, 0, 0, 0], [6.0, -8.0, 0, 0, 0, 0, 0, 0]])
    vaes = list(autoencoders)[:1]
    dropped = PublicAlgorithm(vaes, samples=5)._clip(latents)
    kept = PublicAlgorithm(vaes, samples=5, drop_signs=False)._clip(latents)

    torch.testing.assert_close(dropped[1, :2], torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(kept[1, :2], torch.tensor([3.0, -4.0]))
    assert torch.equal(dropped[0], latents[0])
    assert torch.equal(kept[0], latents[0])


def test_the_public_algorithm_works_inside_of_no_grad_and_leaves_no_graph(
    autoencoders: Autoencoders, images: Tensor
) -> None:
    public = PublicAlgorithm(list(autoencoders), samples=50, steps=3)
    with torch.no_grad():
        found = public.explain(images[:2].flatten(1))

    assert not any(part.requires_grad for part in found)
