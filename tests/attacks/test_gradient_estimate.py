from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import ImageRandom, Misclassification, Oracle, Targeted, UsageError, perturb
from attacks.estimates import EstimatedView
from attacks.losses import margin
from attacks.types import Access, Norm

IDS = [f"image-{i}" for i in range(12)]
Method = Literal["coordinate", "nes"]


def labels() -> Tensor:
    return Linear()(images()).argmax(1)


def meter(batch: Tensor, budget: int | None = None, *, quantised: bool = False) -> Oracle:
    model = Linear()
    return Oracle(
        model,
        batch,
        Misclassification(model(batch).argmax(1)),
        norm="l2",
        access="score",
        budget=budget,
        quantised=quantised,
    )


def estimate(
    batch: Tensor, method: Method, samples: int = 50, step: float = 0.01, seed: int = 0
) -> tuple[Tensor, Tensor, Oracle]:
    """The gradient of a loss of the scores as estimated, as it is (N, 36), and the meter."""
    whole = meter(batch)
    random = ImageRandom.of(seed, IDS[: len(batch)])
    view = EstimatedView(whole, random, method=method, samples=samples, step=step)
    asked = batch.clone().requires_grad_()
    truth = Linear()(batch).argmax(1)
    logits = view.logits(asked, torch.arange(len(batch)))
    torch.nn.functional.cross_entropy(logits, truth, reduction="sum").backward()
    exact = batch.clone().requires_grad_()
    torch.nn.functional.cross_entropy(Linear()(exact), truth, reduction="sum").backward()
    assert asked.grad is not None
    assert exact.grad is not None
    return asked.grad.flatten(1), exact.grad.flatten(1), whole


def at_the_bounds() -> Tensor:
    """A third of the values black, a third white."""
    batch = images()
    flat = batch.flatten(1)
    flat[:, ::3], flat[:, 1::3] = 0.0, 1.0
    return flat.view_as(batch)


@pytest.mark.parametrize("batch", [images(), at_the_bounds()], ids=["inside", "at the bounds"])
def test_coordinate_wise_differences_are_the_gradient_of_a_linear_model(batch: Tensor) -> None:
    found, exact, whole = estimate(batch, "coordinate", step=0.1)
    assert torch.cosine_similarity(found, exact).min() > 0.99
    assert torch.allclose(found, exact, rtol=0.02, atol=0.02)
    assert (whole.queries == 1 + 2 * 36).all()
    assert (whole.gradients == 0).all()


@pytest.mark.parametrize("batch", [images(), at_the_bounds()], ids=["inside", "at the bounds"])
@pytest.mark.parametrize("samples", [10, 50, 300])
def test_the_cosine_of_a_nes_estimate_is_what_theory_says(batch: Tensor, samples: int) -> None:
    found, exact, whole = estimate(batch, "nes", samples)
    expected = math.sqrt(samples / (samples + 36 + 1))
    measured = float(torch.cosine_similarity(found, exact).mean())
    assert measured == pytest.approx(expected, abs=0.08)
    assert (whole.queries == 1 + 2 * samples).all()


def test_every_value_of_a_nes_estimate_is_heard_alike_at_the_bounds_and_inside() -> None:
    batch = at_the_bounds()[:3]
    found = [estimate(batch, "nes", 300, seed=k) for k in range(30)]
    mean = torch.stack([f for f, _, _ in found]).mean(0)
    _, exact, _ = found[0]
    for values in (slice(0, None, 3), slice(1, None, 3), slice(2, None, 3)):  # black, white, inside
        true = exact[:, values]
        share = float((mean[:, values] * true).sum() / true.square().sum())
        assert share == pytest.approx(300 / (300 + 36 + 1), abs=0.08)


@pytest.mark.parametrize("samples", [5, 50])
def test_along_itself_a_nes_estimate_is_as_steep_as_the_model(samples: int) -> None:
    ratios = []
    for seed in range(20):
        found, exact, _ = estimate(images(), "nes", samples, seed=seed)
        ratios.append((found * exact).sum(1) / found.square().sum(1))
    assert float(torch.stack(ratios).median()) == pytest.approx(1, abs=0.1)


def test_an_estimate_does_not_depend_on_the_other_images() -> None:
    batch = images()
    together, _, _ = estimate(batch, "nes", 150)
    alone, _, _ = estimate(batch[:1], "nes", 150)
    assert torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-3)


def test_every_function_of_the_scores_is_differentiated_for_one_price() -> None:
    batch = images()
    whole = meter(batch)
    view = EstimatedView(whole, ImageRandom.of(0, IDS), method="coordinate", samples=1, step=0.1)
    asked = batch.clone().requires_grad_()
    logits = view.logits(asked, torch.arange(12))
    for k in range(3):
        (found,) = torch.autograd.grad(logits[:, k].sum(), asked, retain_graph=True)
        exact = Linear().weights[k].expand(12, -1)
        assert torch.allclose(found.flatten(1), exact, atol=1e-2)
    assert (whole.queries == 1 + 2 * 36).all()


def test_only_images_that_the_loss_depends_on_are_probed() -> None:
    batch = images()
    whole = meter(batch)
    view = EstimatedView(whole, ImageRandom.of(0, IDS), method="nes", samples=5, step=0.1)
    asked = batch.clone().requires_grad_()
    logits = view.logits(asked, torch.arange(12))
    logits[3, 0].backward()
    assert whole.queries.tolist() == [11 if i == 3 else 1 for i in range(12)]
    assert asked.grad is not None
    assert asked.grad.flatten(1).any(1).tolist() == [i == 3 for i in range(12)]


def test_one_row_may_be_asked_several_times_in_one_call() -> None:
    batch = images(2)
    whole = meter(batch, budget=3 * 11 + 2)
    view = EstimatedView(whole, ImageRandom.of(0, IDS[:2]), method="nes", samples=5, step=0.1)
    asked = batch[[0, 0, 1, 0]].clone().requires_grad_()
    logits = view.logits(asked, torch.tensor([0, 0, 1, 0]))
    (found,) = torch.autograd.grad(logits[:, 0].sum(), asked)
    assert whole.queries.tolist() == [33, 11]
    assert found.flatten(1).any(1).all()
    assert not torch.equal(found[0], found[1])  # probes of their own


@dataclass(frozen=True, kw_only=True)
class Climbs:
    """Steps of a fixed length along the gradient of the margin, while queries remain."""

    steps: int = 6
    norm: Norm = "l2"
    access: Access = "gradient"

    def run(self, model: Any, images: Tensor, criterion: Any, **_: Any) -> Tensor:
        now = images.clone()
        for _step in range(self.steps):
            rows = (model.remaining() > 0).nonzero().flatten()
            if len(rows) == 0:
                break
            asked = now[rows].requires_grad_()
            logits = model.logits(asked, rows)
            sure = margin(logits, criterion.labels[rows])
            (slope,) = torch.autograd.grad(sure.sum(), asked)
            length = slope.flatten(1).norm(dim=1).clamp_min(1e-9).view(-1, 1, 1, 1)
            now[rows] = (now[rows] - 0.2 * slope / length).clamp(*model.bounds)
        return now


@pytest.mark.parametrize("budget", [1, 10, 11, 35, 60])
def test_an_image_that_cannot_pay_for_another_estimate_is_done(budget: int) -> None:
    batch = images()
    whole = meter(batch, budget=budget)
    attack = attacks.create("gradient_estimate", attack=Climbs(), samples=5)
    attack.run(whole, batch, whole.criterion, epsilon=None, random=ImageRandom.of(0, IDS))
    assert (whole.queries == 11 * min(6, budget // 11)).all()


def test_a_second_loss_that_the_budget_cannot_pay_for_has_no_gradient_and_says_so() -> None:
    batch = images(1)
    whole = meter(batch, budget=22)
    view = EstimatedView(whole, ImageRandom.of(0, IDS[:1]), method="nes", samples=5, step=0.1)
    asked = batch.clone().requires_grad_()
    row = torch.zeros(1, dtype=torch.int64)
    first = view.logits(asked, row)
    view.labels(batch, row)
    view.labels(batch, row)  # what was to pay for the gradient
    for _ in range(12):
        view.scores(batch, row)
    (found,) = torch.autograd.grad(first.sum(), asked)
    assert not found.any()
    assert whole.queries.tolist() == [15]
    assert "too few queries" in str(whole.notes[0])


@pytest.mark.parametrize("inner", ["foolbox:L2DeepFoolAttack", "foolbox:LinfDeepFoolAttack"])
def test_a_gradient_attack_finds_with_scores_alone_what_it_finds_with_gradients(inner: str) -> None:
    model, batch = Linear(), images()
    white = attacks.create(inner)
    scored = attacks.create("gradient_estimate", attack=white, method="coordinate", sigma=0.01)
    assert scored.access == "score"
    assert scored.norm == white.norm
    first = perturb(white, model, batch, labels())
    second = perturb(scored, model, batch, labels())
    assert (first.gradients > 0).all()
    assert (second.gradients == 0).all()
    assert torch.allclose(first.distance, second.distance, rtol=0.02)


def test_it_is_targeted_where_the_inner_attack_is() -> None:
    model, batch = Linear(), images()
    wanted = (labels() + 1) % 3
    inner = attacks.create("foolbox:L2FMNAttack", steps=30)
    attack = attacks.create("gradient_estimate", attack=inner, method="coordinate")
    result = perturb(attack, model, batch, Targeted(labels(), wanted))
    assert result.success.all()
    assert torch.equal(model(result.images).argmax(1), wanted)


def test_a_radius_reaches_the_inner_attack() -> None:
    model, batch = Linear(), images()
    inner = attacks.create("foolbox:LinfPGD", steps=20)
    attack = attacks.create("gradient_estimate", attack=inner, method="coordinate", sigma=0.01)
    exact = model.margins(batch, dual=1)
    radius = float(exact.median())
    result = perturb(attack, model, batch, labels(), epsilon=radius)
    assert not result.success[exact > radius * 1.001].any()
    assert result.success[exact < radius * 0.6].all()


def test_other_bounds_scale_the_probes() -> None:
    class Wide(Linear):
        bounds = (-10.0, 10.0)

    batch = images() * 20 - 10
    model = Wide()
    seen: list[float] = []

    class Watched(Wide):
        def __call__(self, asked: Tensor, /) -> Tensor:
            away = (asked.flatten(1).unsqueeze(1) - batch.flatten(1)).abs().amax(2)
            seen.append(float(away.amin(1).max()))
            return super().__call__(asked)

    attack = attacks.create(
        "gradient_estimate", attack=Climbs(steps=1), method="coordinate", sigma=0.05
    )
    perturb(attack, Watched(), batch, model(batch).argmax(1))
    assert max(seen) == pytest.approx(0.05 * 20, rel=1e-3)


def test_on_a_quantised_track_differences_go_by_the_steps_that_were_sent() -> None:
    batch = images()
    whole = meter(batch, quantised=True)
    view = EstimatedView(whole, ImageRandom.of(0, IDS), method="coordinate", samples=1, step=0.01)
    asked = batch.clone().requires_grad_()
    logits = view.logits(asked, torch.arange(12))  # 0.01 is 2.55 steps of 8 bits
    (found,) = torch.autograd.grad(logits[:, 1].sum(), asked)
    exact = Linear().weights[1].expand(12, -1)
    assert torch.cosine_similarity(found.flatten(1), exact).min() > 0.99
    assert torch.allclose(found.flatten(1), exact, rtol=0.01, atol=0.01)


def test_probes_that_rounding_would_swallow_are_refused() -> None:
    attack = attacks.create("gradient_estimate", attack=Climbs(), sigma=0.001)
    with pytest.raises(UsageError, match="less than the step 1/255"):
        perturb(attack, Linear(), images(), labels(), quantised=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "spsa"}, "method='spsa'; wanted nes or coordinate"),
        ({"samples": 0}, "samples=0; wanted at least 1"),
        ({"sigma": 0.0}, "sigma=0"),
        ({"sigma": 1.5}, "sigma=1.5"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attacks.create("gradient_estimate", attack=Climbs(), **parameters)


def test_an_attack_that_needs_no_gradient_is_sent_away() -> None:
    with pytest.raises(UsageError, match="needs decision access only; wanted a gradient attack"):
        attacks.create("gradient_estimate", attack=attacks.create("gaussian_noise"))
