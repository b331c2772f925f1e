from __future__ import annotations

import pytest
import torch
from linear import Linear, images

import attacks
from attacks import UsageError, perturb


class Wide(Linear):
    """The linear model on other bounds."""

    bounds = (-1.0, 3.0)

    def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
        return super().__call__((asked + 1) / 4)


@pytest.mark.parametrize(("norm", "dual", "within"), [("l2", 2, 1.1), ("linf", 1, 1.4)])
def test_it_nears_the_closed_form_distance(norm: str, dual: float, within: float) -> None:
    model, batch = Linear(), images()
    result = perturb(
        attacks.create("hop_skip_jump", norm=norm),
        model,
        batch,
        model(batch).argmax(1),
        budget=3000,
    )
    ratio = result.distance / model.margins(batch, dual=dual)
    assert result.success.all()
    assert (ratio > 1 - 1e-4).all()
    assert ratio.median() < within


def test_other_bounds_are_respected_and_change_nothing_but_the_scale() -> None:
    narrow, wide = Linear(), Wide()
    batch = images()
    labels = narrow(batch).argmax(1)
    attack = attacks.create("hop_skip_jump")
    small = perturb(attack, narrow, batch, labels, budget=500)
    large = perturb(attack, wide, batch * 4 - 1, labels, budget=500)
    assert large.success.all()
    assert torch.allclose(large.distance / 4, small.distance, rtol=0.2)


def test_probes_survive_rounding_on_a_quantised_track() -> None:
    model, batch = Linear(), images()
    result = perturb(
        attacks.create("hop_skip_jump"),
        model,
        batch,
        model(batch).argmax(1),
        budget=1500,
        quantised=True,
    )
    assert result.success.all()
    levels = result.images * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert (result.distance / model.margins(batch, dual=2)).median() < 1.25


def test_an_image_within_the_radius_is_done() -> None:
    model, batch = Linear(), images()
    radius = float(model.margins(batch, dual=2).median()) * 1.5
    labels = model(batch).argmax(1)
    attack = attacks.create("hop_skip_jump")
    stopped = perturb(attack, model, batch, labels, epsilon=radius, budget=3000)
    whole = perturb(attack, model, batch, labels, budget=3000)
    assert (stopped.queries[stopped.success] < whole.queries[stopped.success]).any()
    assert (stopped.distance[stopped.success] <= radius * (1 + 1e-5)).all()


def test_smooth_probes_are_smooth_and_pay_where_the_gradient_is() -> None:
    class Smooth(Linear):
        """Its gradient is of low frequency."""

        def __init__(self) -> None:
            super().__init__()
            ramp = torch.linspace(-1, 1, 16)
            planes = (ramp[:, None] + 0 * ramp, ramp[None] + 0 * ramp[:, None], 0.1 + 0 * ramp)
            self.weights = torch.stack([p.expand(16, 16).flatten() for p in planes])

    generator = torch.Generator().manual_seed(2)
    batch = torch.randint(90, 166, (10, 1, 16, 16), generator=generator).float() / 255
    model = Smooth()
    labels = model(batch).argmax(1)
    white = perturb(attacks.create("hop_skip_jump"), model, batch, labels, budget=250)
    smooth = perturb(attacks.create("hop_skip_jump", cells=4), model, batch, labels, budget=250)
    assert smooth.distance.median() < 0.8 * white.distance.median()


@pytest.mark.parametrize(
    "wrong",
    [
        {"norm": "l0"},
        {"steps": -1},
        {"initial_probes": 0},
        {"probe_size": 0.0},
        {"cells": 1},
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong)))):
        attacks.create("hop_skip_jump", **wrong)
