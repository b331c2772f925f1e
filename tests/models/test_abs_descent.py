"""BFGS in a ball on objectives whose minimum is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.abs_vae.descent import Minimum, Objective, descend, project

PAIRS, SIZE = 40, 8


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quadratics(seed: int, spread: float = 1.0) -> tuple[Objective, Tensor, Tensor]:
    """Convex ones, their Hessians (P, L, L) and where their minima, all 0, are (P, L)."""
    factors = random(PAIRS, SIZE, SIZE, seed=seed)
    hessians = factors @ factors.transpose(1, 2) + torch.eye(SIZE)
    best = spread * random(PAIRS, SIZE, seed=seed + 1)

    def objective(latents: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert bool((pairs[1:] > pairs[:-1]).all())
        away = latents - best[pairs]
        slopes = torch.einsum("pij,pj->pi", hessians[pairs], away)
        return (away * slopes).sum(1) / 2, slopes, latents.repeat(1, 2)

    return objective, hessians, best


def eyes() -> Tensor:
    return torch.eye(SIZE).repeat(PAIRS, 1, 1)


def run(objective: Objective, start: Tensor, **changes: object) -> Minimum:
    settings = {"radius": 100.0, "tolerance": 1e-6, "most": 200, **changes}
    return descend(objective, start, eyes(), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_the_minimum_of_a_convex_quadratic_is_found(seed: int) -> None:
    objective, _, best = quadratics(seed)

    found = run(objective, random(PAIRS, SIZE, seed=99))

    torch.testing.assert_close(found.latents, best, rtol=0, atol=0.01)
    assert float(found.values.max()) < 1e-4
    assert int(found.evaluations.max()) < 100


def test_the_true_inverse_hessian_needs_few_evaluations() -> None:
    objective, hessians, best = quadratics(4, spread=0.3)

    found = descend(
        objective,
        torch.zeros(PAIRS, SIZE),
        torch.linalg.inv(hessians),
        radius=100.0,
        tolerance=1e-6,
        most=50,
    )

    torch.testing.assert_close(found.latents, best, rtol=0, atol=0.01)
    assert int(found.evaluations.max()) <= 3


def test_values_and_images_are_those_of_the_latents_that_are_returned() -> None:
    objective, _, _ = quadratics(5)
    found = run(objective, random(PAIRS, SIZE, seed=1), most=6)

    values, _, images = objective(found.latents, torch.arange(PAIRS))

    assert torch.equal(found.values, values)
    assert torch.equal(found.images, images)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_nothing_gets_worse_than_its_start_and_no_pair_is_asked_too_often(most: int) -> None:
    objective, _, _ = quadratics(6)
    start = random(PAIRS, SIZE, seed=2)

    found = run(objective, start, most=most)

    assert bool((found.values <= objective(start, torch.arange(PAIRS))[0]).all())
    assert int(found.evaluations.max()) <= most


def test_the_ball_is_never_left() -> None:
    objective, _, best = quadratics(7, spread=2.0)
    asked: list[float] = []

    def watched(latents: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        asked.append(float(torch.linalg.vector_norm(latents, dim=1).max()))
        return objective(latents, pairs)

    found = run(watched, torch.zeros(PAIRS, SIZE), radius=2.0)

    assert float(torch.linalg.vector_norm(best, dim=1).min()) > 2.0
    assert max(asked) <= 2.0 * (1 + 1e-5)
    assert float(torch.linalg.vector_norm(found.latents, dim=1).max()) <= 2.0 * (1 + 1e-5)


def test_a_minimum_outside_of_the_ball_ends_at_the_best_point_on_it() -> None:
    """Of a round bowl that is the projection; of others what a long projected descent finds."""
    best = 3 * random(PAIRS, SIZE, seed=8)  # of length 8

    def bowl(latents: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        away = latents - best[pairs]
        return away.square().sum(1), 2 * away, latents

    round_one = run(bowl, random(PAIRS, SIZE, seed=3) * 0.1, radius=2.0)
    torch.testing.assert_close(round_one.latents, project(best, 2.0), rtol=0, atol=0.01)

    objective, hessians, _ = quadratics(9, spread=2.0)
    steep = torch.linalg.eigvalsh(hessians).amax(1).view(-1, 1)
    here = torch.zeros(PAIRS, SIZE)
    for _ in range(1500):
        here = project(here - objective(here, torch.arange(PAIRS))[1] / steep, 2.0)
    wanted = objective(here, torch.arange(PAIRS))[0]
    for guess in (eyes(), torch.linalg.inv(hessians)):
        found = descend(
            objective, torch.zeros(PAIRS, SIZE), guess, radius=2.0, tolerance=1e-4, most=50
        )
        torch.testing.assert_close(found.values, wanted, rtol=1e-3, atol=0)


def test_each_pair_stops_by_itself() -> None:
    objective, _, best = quadratics(10)
    start = best.clone()
    start[::2] += 1.0

    found = run(objective, start)

    assert found.evaluations[1::2].tolist() == [1] * (PAIRS // 2)
    assert int(found.evaluations[::2].min()) > 1


def test_a_pair_does_not_depend_on_those_beside_it() -> None:
    objective, _, _ = quadratics(11)
    start = random(PAIRS, SIZE, seed=4)
    together = run(objective, start)

    def third(latents: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return objective(latents, pairs + 3)

    alone = descend(third, start[3:4], eyes()[:1], radius=100.0, tolerance=1e-6, most=200)

    torch.testing.assert_close(alone.latents[0], together.latents[3], rtol=0, atol=1e-3)


def test_pairs_that_are_not_wanted_keep_their_start() -> None:
    objective, _, _ = quadratics(12)
    start = random(PAIRS, SIZE, seed=5)
    first = objective(start, torch.arange(PAIRS))[0]
    cheap = first <= first.median()

    found = run(objective, start, wanted=lambda values: values <= values.median())

    assert torch.equal(found.latents[~cheap], start[~cheap])
    assert found.evaluations[~cheap].unique().tolist() == [1]
    assert int(found.evaluations[cheap].min()) > 1


def test_projecting_twice_changes_nothing_and_what_is_inside_stays() -> None:
    latents = 3 * random(50, SIZE, seed=6)
    once = project(latents, 5.0)
    inside = torch.linalg.vector_norm(latents, dim=1) <= 5

    torch.testing.assert_close(project(once, 5.0), once)
    assert torch.equal(once[inside], latents[inside])
    assert float(torch.linalg.vector_norm(once, dim=1).max()) <= 5 * (1 + 1e-6)
    assert torch.equal(project(torch.zeros(1, SIZE), 5.0), torch.zeros(1, SIZE))
