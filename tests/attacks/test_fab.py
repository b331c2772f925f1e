"""FAB beyond what every white-box attack is held to in test_white_box.py."""

from __future__ import annotations

import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import Adversarials, Targeted, perturb


def played(model: Linear, **parameters: object) -> Adversarials:
    batch = images()
    return perturb(attacks.create("fab", **parameters), model, batch, model(batch).argmax(1))


class Shut(Linear):
    """The third class is out of reach: its boundary lies outside the box."""

    def __call__(self, asked: Tensor, /) -> Tensor:
        return super().__call__(asked) - torch.tensor([0.0, 0.0, 1e4])


class Wide(Linear):
    """The same model for values in [-1, 1]."""

    bounds = (-1.0, 1.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        return super().__call__((asked + 1) / 2)


def test_a_targeted_search_reaches_the_closed_form_distance_of_its_class() -> None:
    model, batch = Linear(), images()
    logits = model(batch)
    labels = logits.argmax(1)
    runner_up = logits.topk(2, dim=1).indices[:, 1]
    criterion = Targeted(labels, runner_up)
    result = perturb(attacks.create("fab", norm="l2", steps=25), model, batch, criterion)
    rows = torch.arange(len(batch))
    normals = model.weights[labels] - model.weights[runner_up]
    exact = (logits[rows, labels] - logits[rows, runner_up]) / normals.norm(dim=1)
    assert result.success.all()
    assert (result.distance > exact * (1 - 1e-4)).all()
    assert ((result.distance / exact).sort().values[:8] < 1.01).all()  # the third class may be near


def test_a_boundary_out_of_reach_is_walked_towards_without_an_end_in_nan() -> None:
    for norm in ("linf", "l2", "l1"):
        result = played(Shut(), norm=norm, targets=2, steps=10)
        assert result.success.all()
        assert result.distance.isfinite().all()


def test_all_classes_come_from_one_forward_pass_which_is_one_query() -> None:
    model = Linear()
    result = played(model, steps=10, final_steps=0)
    assert (result.gradients == 10).all()
    assert (result.queries == 20).all()


def test_the_final_search_comes_nearer_for_a_few_queries() -> None:
    without, rounded_off = played(Linear(), steps=8, final_steps=0), played(Linear(), steps=8)
    assert (rounded_off.distance < without.distance).all()
    assert (rounded_off.queries - without.queries == 3 + 2).all()


def test_restarts_begin_elsewhere_and_never_make_it_worse() -> None:
    once, thrice = played(Linear(), steps=5), played(Linear(), steps=5, restarts=3)
    assert (thrice.distance <= once.distance * (1 + 1e-6)).all()
    assert (thrice.gradients == 3 * once.gradients).all()


def test_bounds_other_than_0_and_1_are_kept() -> None:
    exact = Linear().margins(images(), dual=2.0)
    batch, labels = images() * 2 - 1, Linear()(images()).argmax(1)
    result = perturb(attacks.create("fab", norm="l2", steps=20), Wide(), batch, labels)
    ratio = result.distance / (2 * exact)
    assert (ratio > 1 - 1e-4).all()
    assert (ratio < 1.01).all()


def test_an_image_at_the_corner_of_the_box_is_taken_along_it() -> None:
    model = Linear()
    white = torch.ones(1, 1, 6, 6)  # no value can go up
    label = model(white).argmax(1)
    for norm in ("linf", "l2", "l1"):
        attack = attacks.create("fab", norm=norm, steps=30)
        result = perturb(attack, model, white, label)
        assert result.success.all()
        down = white - result.images
        assert (down >= 0).all()
        # No other class is nearer along what can change.
        logits = model(white)[0]
        others = [k for k in range(3) if k != int(label)]
        nearest = min(
            _least(norm, logits[label] - logits[k], model.weights[label[0]] - model.weights[k])
            for k in others
        )
        assert float(result.distance[0]) < nearest * 1.02


def _least(norm: str, gap: Tensor, normal: Tensor) -> float:
    """The least change downwards, no value by more than 1, that closes the gap, by bisection."""
    gain = normal.clamp_min(0.0)  # what going down by 1 wins
    if norm == "l1":
        gains = gain.sort(descending=True).values
        before = gains.cumsum(0) - gains
        part = ((gap - before) / gains.clamp_min(1e-9)).clamp(0.0, 1.0)
        return float(part.sum()) if float(gains.sum()) > float(gap) else torch.inf
    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        change = torch.full_like(gain, middle) if norm == "linf" else middle * gain
        change = torch.where(gain > 0, change.clamp_max(1.0), 0.0)
        low, high = (low, middle) if float((gain * change).sum()) > float(gap) else (middle, high)
    change = torch.full_like(gain, high) if norm == "linf" else high * gain
    change = torch.where(gain > 0, change.clamp_max(1.0), 0.0)
    if float((gain * change).sum()) < float(gap) * (1 - 1e-4):
        return torch.inf
    return float(change.amax() if norm == "linf" else change.norm())
