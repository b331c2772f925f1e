from __future__ import annotations

from typing import Any

import pytest
import torch
from linear import Linear, images

import attacks
from attacks import Oracle, Targeted, UsageError, perturb


class Brightness(Linear):
    """Class 1 from a mean of `level` on; class 0 below."""

    def __init__(self, level: float, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__()
        self.level = level
        self.bounds = bounds

    def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
        over = asked.flatten(1).mean(1) - self.level
        return torch.stack([-over, over], dim=1)


def test_the_share_of_noise_is_the_smallest_that_fools() -> None:
    """Black images and noise of mean 0.5: the model turns where the share is twice the level."""
    dark = torch.zeros(4, 1, 6, 6)
    model = Brightness(0.2)
    attack = attacks.create("blended_noise", directions=1, bisection_steps=12)
    result = perturb(attack, model, dark, torch.zeros(4, dtype=torch.int64))
    assert result.success.all()
    assert torch.allclose(result.images.flatten(1).mean(1), torch.full((4,), 0.2), atol=1e-3)
    assert (result.queries <= 7 + 12).all()


def test_more_directions_end_nearer() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    one, many = (
        perturb(attacks.create("blended_noise", directions=n), model, batch, labels)
        for n in (1, 20)
    )
    assert (many.distance <= one.distance).all()
    assert many.success.all()
    exact = model.margins(batch, dual=2)
    assert (many.distance >= exact * (1 - 1e-4)).all()


@pytest.mark.parametrize("norm", ["l0", "l1", "linf"])
def test_the_norm_that_is_made_small_can_be_chosen(norm: attacks.Norm) -> None:
    model, batch = Linear(), images()
    result = perturb(
        attacks.create("blended_noise", norm=norm), model, batch, model(batch).argmax(1)
    )
    measured = attacks.distance(norm, batch, result.images)
    assert torch.allclose(result.distance[result.success], measured[result.success])


def test_a_wanted_class_is_found_where_noise_has_it() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    targets = (labels + 1) % 3
    result = perturb(attacks.create("blended_noise"), model, batch, Targeted(labels, targets))
    assert result.success.any()
    assert torch.equal(model(result.images).argmax(1)[result.success], targets[result.success])


def test_other_bounds_are_kept_and_filled() -> None:
    model = Brightness(0.0, bounds=(-2.0, 2.0))
    dark = torch.full((3, 1, 6, 6), -2.0)
    asked = []

    class Watched(Brightness):
        def __call__(self, batch: torch.Tensor, /) -> torch.Tensor:
            asked.append(batch)
            return super().__call__(batch)

    watched = Watched(1.9, bounds=model.bounds)  # so bright no noise is
    labels = torch.zeros(3, dtype=torch.int64)
    result = perturb(attacks.create("blended_noise", directions=2), watched, dark, labels)
    seen = torch.cat(asked)
    assert seen.min() >= -2
    assert 1.8 < seen.max() <= 2
    assert not result.success.any()
    assert (result.queries == 2 * 7).all()


def test_nothing_is_asked_beyond_the_budget() -> None:
    model, batch = Linear(), images()
    meter = Oracle(
        model,
        batch,
        attacks.Misclassification(model(batch).argmax(1)),
        norm="l2",
        budget=5,
    )
    random = attacks.ImageRandom.of(0, [str(i) for i in range(len(batch))])
    attacks.create("blended_noise").run(meter, batch, meter.criterion, epsilon=None, random=random)
    assert (meter.queries == 5).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"norm": "l3"}, "norm='l3'; wanted one of l0, l1, l2, linf"),
        ({"directions": 0}, "directions=0"),
        ({"growth_steps": 0}, "growth_steps=0"),
        ({"bisection_steps": -1}, "bisection_steps=-1"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attacks.create("blended_noise", **parameters)
