"""APGD beyond what every white-box attack is held to in test_white_box.py."""

from __future__ import annotations

import pytest
import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import Adversarials, perturb, quantise
from attacks.projections import on_sphere
from attacks.random import ImageRandom


def played(model: Linear, *, epsilon: float, **parameters: object) -> Adversarials:
    batch = images()
    attack = attacks.create("apgd", **parameters)
    return perturb(attack, model, batch, model(batch).argmax(1), epsilon=epsilon)


def between(norm_dual: float) -> tuple[Tensor, float]:
    """The closed-form distances (12,), and a radius that half of them are within."""
    known = Linear().margins(images(), dual=norm_dual)
    ordered = known.sort().values
    return known, float(ordered[5:7].mean())


class Sure(Linear):
    """The same decisions from logits so far apart that a softmax is 0 or 1."""

    def __call__(self, asked: Tensor, /) -> Tensor:
        return 1e4 * super().__call__(asked)


class Wide(Linear):
    """The same model for values in [-1, 1]."""

    bounds = (-1.0, 1.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        return super().__call__((asked + 1) / 2)


class Two(Linear):
    """Two of the three classes."""

    def __call__(self, asked: Tensor, /) -> Tensor:
        return super().__call__(asked)[:, :2]


class Still(Linear):
    """Decisions without a gradient, and nothing that fools."""

    def __call__(self, asked: Tensor, /) -> Tensor:
        self.asked += len(asked)
        return torch.tensor([[1.0, 0.0, 0.0]]).repeat(len(asked), 1)


class Bent(Linear):
    """Two layers that never leave class 0, and a gradient that turns again and again within 0.01.

    It remembers what it is asked.
    """

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(3)
        self.inner = torch.randn(36, 24, generator=draw)
        self.outer = torch.randn(24, 3, generator=draw) / 4
        self.points: list[Tensor] = []

    def __call__(self, asked: Tensor, /) -> Tensor:
        self.points.append(asked.detach().clone())
        bent = (16 * asked.flatten(1) @ self.inner).sin() @ self.outer
        return bent + torch.tensor([8.0, 0.0, 0.0])


def climb_plainly(
    model: Bent, image: Tensor, label: Tensor, radius: float, seed: int, steps: int
) -> None:
    """Algorithm 1 of arXiv 2003.01690 for one image (1, C, H, W), one line after the other."""
    momentum, rho = 0.75, 0.75

    def ask(point: Tensor) -> tuple[float, Tensor, Tensor]:
        asked = point.clone().requires_grad_()
        value = torch.nn.functional.cross_entropy(model(asked).double(), label)
        return value.item(), torch.autograd.grad(value, asked)[0], point

    def within(point: Tensor) -> Tensor:
        return point.clamp(image - radius, image + radius).clamp(0, 1)

    everyone, random = torch.tensor([0]), ImageRandom.of(seed, ["it"])
    noise = on_sphere("linf", everyone, image.shape[1:], torch.tensor([radius]), random)
    before = (image + noise).clamp(0, 1)
    best = value, gradient, now = ask(before)
    checked, step, rises, reduced, since, period = value, 2 * radius, 0, True, 0, int(0.22 * steps)
    for k in range(steps):
        share = momentum if k else 1.0
        stepped = within(now + step * gradient.sign())
        moved = within(now + share * (stepped - now) + (1 - share) * (now - before))
        before, last = now, value
        value, gradient, now = ask(moved)
        rises += value > last
        best = max(best, (value, gradient, now), key=lambda found: found[0])
        since += 1
        if since == period:
            reduced = rises <= rho * period or (not reduced and best[0] <= checked)
            checked, rises, since = best[0], 0, 0
            period = max(period - int(0.03 * steps), int(0.06 * steps))
            if reduced:
                step /= 2
                value, gradient, now = best


def test_it_asks_the_points_of_the_paper_s_algorithm_one_after_the_other() -> None:
    batch, label, attack, same = images(), torch.tensor([0]), attacks.create("apgd"), 0
    for row in range(len(batch)):
        image, model, plain = batch[[row]], Bent(), Bent()
        perturb(attack, model, image, label, epsilon=0.01, seed=row, ids=["it"])
        climb_plainly(plain, image, label, 0.01, row, 100)
        assert len(plain.points) == 101
        # The first and the last that ours asks are the judge's.
        same += torch.allclose(torch.cat(model.points[1:-1]), torch.cat(plain.points), atol=1e-6)
    # A gradient that is 0 but for rounding has either sign: late in a run, an image may part.
    assert same >= 9


def test_cross_entropy_is_climbed_on_a_model_that_is_sure() -> None:
    known, radius = between(1.0)
    result = played(Sure(), epsilon=radius, steps=40)
    assert torch.equal(result.success, known < radius)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1.0), ("l2", 2.0), ("l1", torch.inf)])
def test_bounds_other_than_0_and_1_are_kept(norm: str, dual: float) -> None:
    known, radius = between(dual)
    batch, labels = images() * 2 - 1, Linear()(images()).argmax(1)
    attack = attacks.create("apgd", norm=norm, steps=60)
    result = perturb(attack, Wide(), batch, labels, epsilon=2 * radius)
    assert not result.success[known > radius * 1.001].any()
    assert result.success[known < radius * 0.95].all()


def test_an_l1_success_lies_within_the_radius_though_its_first_stages_search_beyond() -> None:
    known, radius = between(torch.inf)
    result = played(Linear(), norm="l1", epsilon=radius, steps=60)
    assert (result.distance[result.success] <= radius * (1 + 1e-5)).all()
    assert result.success[known < radius * 0.95].all()
    assert not result.success[known > radius * 1.001].any()
    # Each of the three stages asks for its start as well.
    assert (result.queries[~result.success] == 60 + 3).all()


def test_the_last_step_asks_for_no_gradient() -> None:
    result = played(Linear(), epsilon=between(1.0)[1], steps=20)
    assert (result.queries[~result.success] == 21).all()
    assert (result.gradients[~result.success] == 20).all()


def test_another_restart_and_another_target_are_for_those_that_still_stand() -> None:
    known, radius = between(1.0)
    once = played(Linear(), epsilon=radius, steps=10)
    again = played(Linear(), epsilon=radius, steps=10, restarts=3)
    early = once.success
    assert torch.equal(again.queries[early], once.queries[early])
    assert (again.queries[known > radius] == 3 * 11).all()
    targeted = played(Linear(), epsilon=radius, steps=10, loss="dlr_targeted", targets=2)
    # One query more to learn the likely classes.
    assert (targeted.queries[known > radius] == 1 + 2 * 11).all()


def test_where_there_is_nothing_to_climb_a_run_ends_with_its_first_query_and_says_so() -> None:
    result = perturb(
        attacks.create("apgd", restarts=3),
        Still(),
        images(),
        torch.zeros(12, dtype=torch.int64),
        epsilon=0.1,
    )
    assert (result.queries == 3).all()
    assert not result.success.any()
    assert all("the gradient is zero" in str(reason) for reason in result.reasons)


@pytest.mark.parametrize("loss", ["dlr", "dlr_targeted"])
def test_with_too_few_classes_the_margin_is_climbed_and_a_note_says_so(loss: str) -> None:
    model, batch = Two(), images()
    labels = model(batch).argmax(1)
    gaps = model(batch).diff(dim=1).abs().flatten()
    known = gaps / (model.weights[0] - model.weights[1]).abs().sum()
    radius = float(known.sort().values[5:7].mean())
    attack = attacks.create("apgd", loss=loss, steps=40)
    result = perturb(attack, model, batch, labels, epsilon=radius)
    assert torch.equal(result.success, known < radius)
    assert all("2 classes are too few for DLR" in str(reason) for reason in result.reasons)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1.0), ("l2", 2.0)])
def test_on_a_quantised_track_successes_lie_on_the_lattice_and_within_the_radius(
    norm: str, dual: float
) -> None:
    batch, model = images(), Linear()
    radius = float(model.margins(batch, dual=dual).max()) * 1.5
    result = perturb(
        attacks.create("apgd", norm=norm, steps=40),
        model,
        batch,
        model(batch).argmax(1),
        epsilon=radius,
        quantised=True,
    )
    assert result.success.all()
    assert torch.equal(result.images, quantise(result.images))
    assert (result.distance <= radius * (1 + 1e-5)).all()


def test_a_curve_costs_less_than_a_run_for_each_radius_and_agrees_with_them() -> None:
    known = Linear().margins(images(), dual=1.0).sort().values
    radii = tuple(float(known[k : k + 2].mean()) for k in (1, 3, 5, 7, 9))
    batch, model = images(), Linear()
    labels = model(batch).argmax(1)
    attack = attacks.create("apgd", radii=radii, bisections=0, steps=20)
    once = perturb(attack, model, batch, labels)
    apart = [played(Linear(), epsilon=radius, steps=20) for radius in radii]
    for radius, single in zip(radii, apart, strict=True):
        assert torch.equal(once.distance <= radius * (1 + 1e-5), single.success)
    assert once.queries.sum() * 1.5 < sum(single.queries.sum() for single in apart)
