from __future__ import annotations

import pytest
import torch
from linear import SHAPE, Linear, images

import attacks
from attacks import UsageError, perturb
from attacks.low_frequency import smooth_noise
from attacks.random import ImageRandom


def distances(budget: int = 150, **parameters: object) -> torch.Tensor:
    model, batch = Linear(), images()
    attack = attacks.create("biased_boundary", **parameters)
    result = perturb(attack, model, batch, model(batch).argmax(1), budget=budget)
    assert result.success.all()
    assert (result.distance >= model.margins(batch, dual=2) * (1 - 1e-4)).all()
    return result.distance


def test_a_surrogate_that_knows_the_gradient_leads_to_the_closed_form_distance() -> None:
    model, batch = Linear(), images()
    exact = model.margins(batch, dual=2)
    guided = distances(cells=0, mask=False, surrogate=Linear(), surrogate_weight=1.0)
    alone = distances(cells=0, mask=False)
    assert (guided / exact).median() < 1.1
    assert (alone / exact).median() > 1.2 * (guided / exact).median()


def test_a_misleading_surrogate_costs_half_of_the_steps_and_no_more() -> None:
    class Against(Linear):
        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            return -super().__call__(asked)

    misled = distances(600, cells=0, mask=False, surrogate=Against(), surrogate_weight=0.9)
    assert misled.median() < 1.2 * distances(300, cells=0, mask=False).median()


def test_the_surrogate_costs_no_queries_and_keeps_no_gradient() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))

    class Surrogate:
        bounds = (-1.0, 1.0)  # other bounds than the victim's

        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            assert asked.min() >= -1
            answer: torch.Tensor = network(asked)
            return answer

    distances(surrogate=Surrogate())
    assert all(p.grad is None for p in network.parameters())


def test_smooth_noise_is_smooth_and_belongs_to_the_row() -> None:
    streams = ImageRandom.of(0, ["a", "b"])
    noise = smooth_noise(torch.tensor([0, 1]), (3, 32, 32), 4, streams)
    assert noise.shape == (2, 3, 32, 32)
    step = (noise[..., 1:] - noise[..., :-1]).std()
    assert step < 0.2 * noise.std()
    alone = smooth_noise(torch.tensor([0]), (3, 32, 32), 4, ImageRandom.of(0, ["b"]))
    assert torch.equal(alone[0], noise[1])
    white = smooth_noise(torch.tensor([0]), SHAPE, 0, streams)
    assert white.shape == (1, *SHAPE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cells": 1},
        {"surrogate_weight": 0.0},
        {"steps": -1},
        {"spherical_step": 2.0},
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong)))):
        attacks.create("biased_boundary", **wrong)
