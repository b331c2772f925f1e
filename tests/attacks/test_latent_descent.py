from __future__ import annotations

import pytest
import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import UsageError, perturb
from attacks.binary_projection import project_binary


class Nearest:
    """A generative classifier whose best reconstruction of a class is that class's one picture."""

    bounds = (0.0, 1.0)

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures  # (K, C, H, W)
        self.explained = 0

    def __call__(self, asked: Tensor, /) -> Tensor:
        return -(torch.cdist(asked.flatten(1), self.pictures.flatten(1)) ** 2)

    def reconstruct(self, asked: Tensor, /) -> tuple[Tensor, Tensor]:
        self.explained += len(asked)
        return self(asked), self.pictures.expand(len(asked), *self.pictures.shape)


def classes() -> tuple[Nearest, Tensor, Tensor]:
    model = Nearest(images(4, seed=7))
    batch = (model.pictures[[0, 1, 2, 3, 0, 1]] * 0.9 + 0.05 * images(6, seed=8)).clamp(0, 1)
    return model, batch, torch.tensor([0, 1, 2, 3, 0, 1])


def crossing(model: Nearest, batch: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
    """Where the straight line to the goal's picture leaves the label's cell: L2 from the image."""
    own, other = model.pictures[labels].flatten(1), model.pictures[goals].flatten(1)
    clean = batch.flatten(1)
    normal = other - own
    gap = ((other + own) / 2 * normal).sum(1) - (clean * normal).sum(1)
    along = ((other - clean) * normal).sum(1)
    reached: Tensor = gap / along * torch.linalg.vector_norm(other - clean, dim=1)
    return reached


def test_it_ends_where_the_line_to_the_likeliest_other_class_crosses_the_boundary() -> None:
    model, batch, labels = classes()
    scores = model(batch)
    scores[torch.arange(6), labels] = -torch.inf
    attack = attacks.create("latent_descent", generator=model, bisection_steps=14)
    result = perturb(attack, model, batch, labels)
    assert result.success.all()
    expected = crossing(model, batch, labels, scores.argmax(1))
    assert torch.allclose(result.distance, expected, rtol=1e-2)
    assert attack.access == "decision"


def test_targeted_it_goes_to_the_wanted_class() -> None:
    model, batch, labels = classes()
    wanted = (labels + 2) % 4
    result = perturb(
        attacks.create("latent_descent", generator=model),
        model,
        batch,
        attacks.Targeted(labels, wanted),
    )
    assert result.success.all()
    assert torch.equal(model(result.images).argmax(1), wanted)


def test_finished_images_are_not_explained_again() -> None:
    model, batch, labels = classes()
    perturb(attacks.create("latent_descent", generator=model), model, batch, labels)
    assert model.explained < 50 * len(batch)


def test_a_model_without_reconstructions_is_refused() -> None:
    with pytest.raises(UsageError, match="Linear without reconstruct"):
        attacks.create("latent_descent", generator=Linear())
    model, _, _ = classes()
    with pytest.raises(UsageError, match="coarse_steps=0"):
        attacks.create("latent_descent", generator=model, coarse_steps=0)
    with pytest.raises(UsageError, match="norm='l0'"):
        attacks.create("latent_descent", generator=model, norm="l0")


def test_reconstructions_of_a_wrong_shape_are_refused() -> None:
    model, batch, labels = classes()
    model.reconstruct = lambda asked: (model(asked), asked)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="wanted \\(n, K\\) and \\(n, K, C, H, W\\)"):
        perturb(attacks.create("latent_descent", generator=model), model, batch, labels)


class Binary(Linear):
    """A linear classifier that thresholds its input."""

    def __call__(self, asked: Tensor, /) -> Tensor:
        return super().__call__((asked > 0.5).float())


@pytest.mark.parametrize("quantised", [False, True])
def test_binary_projection_keeps_the_verdict_and_comes_nearer(quantised: bool) -> None:
    model, batch = Binary(), images()
    labels = model(batch).argmax(1)
    inner = attacks.create("hop_skip_jump")
    plain = perturb(inner, model, batch, labels, budget=200, quantised=quantised)
    attack = attacks.create("binary_projection", attack=inner)
    result = perturb(attack, model, batch, labels, budget=200, quantised=quantised)
    assert result.success.all()
    assert (result.queries <= 200).all()
    assert result.distance.median() < 0.85 * plain.distance.median()


def test_the_projection_moves_only_what_crossed_and_no_farther_than_needed() -> None:
    clean = torch.tensor([0.2, 0.2, 0.8, 0.8, 0.5]).view(1, 1, 1, 5)
    found = torch.tensor([0.4, 0.9, 0.6, 0.1, 0.5]).view(1, 1, 1, 5)
    projected = project_binary(clean, found, threshold=0.5, margin=0.01)
    assert torch.allclose(projected.flatten(), torch.tensor([0.2, 0.51, 0.8, 0.49, 0.5]))
    again = project_binary(clean, projected, threshold=0.5, margin=0.01)
    assert torch.equal(again, projected)


def test_a_threshold_outside_the_bounds_is_refused() -> None:
    attack = attacks.create(
        "binary_projection", attack=attacks.create("gaussian_noise"), threshold=1.5
    )
    with pytest.raises(UsageError, match="threshold 1.5"):
        perturb(attack, Linear(), images(), Linear()(images()).argmax(1))
