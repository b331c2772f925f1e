"""Every check finds the defect that it is for, and finds none in a healthy linear model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from linear import Linear, images
from torch import Tensor

from attacks import checks, probes
from attacks.checks import Finding, examine
from attacks.errors import UsageError
from attacks.types import Access

RADIUS = 0.03
"""In Linf: about the median distance of the linear model's boundary, so that some images stand."""


class Changed:
    """The linear model behind a change of what goes in, or of what comes out."""

    bounds = (0.0, 1.0)

    def __init__(self, ask: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> None:
        self._linear = Linear()
        self._ask = ask

    def __call__(self, asked: Tensor, /) -> Tensor:
        return self._ask(self._linear, asked)


class Wrong(torch.autograd.Function):
    """The identity, with a gradient that points nowhere in particular."""

    @staticmethod
    def forward(ctx: Any, asked: Tensor) -> Tensor:
        return asked.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        random = torch.Generator().manual_seed(0)
        return torch.randn(gradients[0].shape, generator=random)


class Closed(torch.autograd.Function):
    """The identity, without a backward pass."""

    @staticmethod
    def forward(ctx: Any, asked: Tensor) -> Tensor:
        return asked.clone()


def levels_apart(asked: Tensor) -> Tensor:
    """How far values lie from 8-bit ones, (N,): 0 to a half."""
    return (asked * 255 - (asked * 255).round()).abs().flatten(1).mean(1)


def shift(logits: Tensor, where: Tensor) -> Tensor:
    """Another label where this holds."""
    return torch.where(where.view(-1, 1), logits.roll(1, dims=1), logits)


class Band:
    """Label 1 in a narrow band of brightness only: large steps jump over it."""

    bounds = (0.0, 1.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        away = (asked.flatten(1).mean(1) - 0.535).abs() - 0.005
        return torch.stack([away, -away], dim=1)


def drawn(linear: Any, asked: Tensor) -> Tensor:
    logits: Tensor = linear(asked)
    return logits + 0.1 * torch.randn(logits.shape)


def batched(linear: Any, asked: Tensor) -> Tensor:
    logits: Tensor = linear(asked)
    return logits - logits.mean(0)


def remembering() -> Changed:
    asked_before = []

    def ask(linear: Any, asked: Tensor) -> Tensor:
        asked_before.append(len(asked))
        logits: Tensor = linear(asked)
        return logits * len(asked_before)

    return Changed(ask)


def decoy(linear: Any, asked: Tensor) -> Tensor:
    """What gradients lead to matters little; what they do not see decides."""
    random = torch.Generator().manual_seed(5)
    away = (asked - asked.detach()).flatten(1) @ torch.randn(36, 3, generator=random)
    logits: Tensor = linear(asked.detach())
    return logits + 0.01 * away


class Rough:
    """Dark or bright, and the other way round where neighbours differ, which no gradient tells."""

    bounds = (0.0, 1.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        above = asked.flatten(1).mean(1) - 0.4
        neighbours = (asked[..., 1:] - asked[..., :-1]).detach().abs().flatten(1).mean(1)
        return shift(torch.stack([-above, above], dim=1), neighbours > 0.005)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)  # for the model that draws random numbers


def found(model: Any, *, access: Access = "gradient", **options: Any) -> dict[str, Finding]:
    batch = options.pop("batch", images(24))
    labels = model(batch).argmax(1)
    arguments = {"epsilon": RADIUS, "norm": "linf", "access": access, **options}
    return {
        finding.name: finding for finding in examine(model, batch, labels, **arguments).findings
    }


MODEL_CHECKS = {
    "randomised",
    "rounding",
    "probabilities",
    "saturated",
    "masked_gradients",
    "estimated_gradient",
    "single_step",
    "monotone",
    "unbounded",
    "noise",
    "black_box",
}


@pytest.mark.parametrize(("norm", "radius"), [("linf", RADIUS), ("l2", 0.15), ("linf", 0.2)])
def test_a_healthy_model_passes_every_check(norm: str, radius: float) -> None:
    findings = found(Linear(), norm=norm, epsilon=radius)
    assert set(findings) == MODEL_CHECKS
    assert [finding.text for finding in findings.values() if not finding.ok] == []


DEFECTS: dict[str, tuple[Any, set[str]]] = {
    "draws random numbers": (Changed(drawn), {"randomised"}),
    "mixes its batch": (Changed(batched), {"randomised"}),
    "remembers what it was asked": (remembering(), {"randomised"}),
    "returns probabilities": (
        Changed(lambda linear, x: linear(x).softmax(1)),
        {"probabilities"},
    ),
    "returns probabilities that are sure": (
        Changed(lambda linear, x: (1e4 * linear(x)).softmax(1)),
        {"probabilities", "masked_gradients", "estimated_gradient", "unbounded"},
    ),
    "has huge logits": (Changed(lambda linear, x: 1e4 * linear(x)), {"saturated"}),
    "rounds its input": (
        Changed(lambda linear, x: linear((x * 255).round() / 255)),
        {"masked_gradients", "estimated_gradient", "unbounded"},
    ),
    "has no backward pass": (
        Changed(lambda linear, x: linear(Closed.apply(x))),
        {"masked_gradients", "estimated_gradient", "unbounded"},
    ),
    "passes a wrong gradient on": (
        Changed(lambda linear, x: linear(Wrong.apply(x))),
        {"estimated_gradient"},
    ),
    "hides what decides from gradients": (
        Changed(decoy),
        {"estimated_gradient", "unbounded", "black_box"},
    ),
    "sees what 8 bits cannot hold": (
        Changed(lambda linear, x: shift(linear(x), levels_apart(x) > 0.1)),
        {"rounding"},
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_model_that(defect: str) -> None:
    model, expected = DEFECTS[defect]
    failing = {name for name, finding in found(model).items() if not finding.ok}
    assert expected <= failing


def test_a_defect_of_gradients_says_what_was_measured_what_was_expected_and_the_mend() -> None:
    finding = found(Changed(lambda linear, x: linear((x * 255).round() / 255)))["masked_gradients"]
    assert finding.measured == 1.0
    assert finding.measured > finding.limit
    assert "zero or not finite on 100.0% of the images (at most 5% expected)" in finding.text
    assert "; gradient attacks are blind there: play decision-based ones" in finding.text


def test_accuracy_that_rises_with_the_radius_is_found() -> None:
    finding = found(Band(), batch=torch.full((24, 1, 6, 6), 0.5), epsilon=0.2)["monotone"]
    assert not finding.ok
    assert finding.measured > 0
    assert (
        checks.monotone([(0.1, torch.tensor([True])), (0.2, torch.tensor([False]))]).measured == 1
    )
    assert checks.monotone([(0.1, torch.tensor([False])), (0.2, torch.tensor([True]))]).ok


def test_noise_that_fools_what_gradients_do_not_is_found() -> None:
    finding = found(Rough(), batch=torch.full((24, 1, 6, 6), 0.5))["noise"]
    assert finding.measured == 1.0
    assert not finding.ok
    assert "noise of the size of the radius fools 24 of 24 images" in finding.text


def test_one_step_that_fools_what_many_do_not_is_found() -> None:
    once, repeated = torch.tensor([True, False, True]), torch.tensor([False, True, True])
    finding = checks.single_step(once, repeated)
    assert not finding.ok
    assert finding.measured == pytest.approx(1 / 3)
    assert "one gradient step fools 1 of 3 images" in finding.text
    assert checks.single_step(once, torch.tensor([True, True, True])).ok


def test_half_a_point_of_robust_accuracy_is_too_much_for_more_steps_to_cost() -> None:
    assert checks.too_few_steps(0.500, 0.496).ok
    finding = checks.too_few_steps(0.500, 0.494)
    assert not finding.ok
    assert "from 50.0% to 49.4%" in finding.text


def test_a_distance_that_still_falls_is_found() -> None:
    assert checks.still_falling(1.0, 0.96).ok
    assert not checks.still_falling(1.0, 0.9).ok
    assert checks.still_falling(0.0, 0.0).ok


def test_adversarials_that_rounding_loses_are_counted() -> None:
    assert not checks.lost_by_rounding(torch.tensor([True, False])).ok
    assert checks.lost_by_rounding(torch.tensor([True, True])).ok
    assert checks.lost_by_rounding(torch.tensor([], dtype=torch.bool)).ok


def test_an_attack_that_sees_less_and_fools_more_is_named() -> None:
    finding = checks.beaten_by_less(
        torch.tensor([False, True]), torch.tensor([True, True]), "boundary"
    )
    assert not finding.ok
    assert finding.text.startswith("boundary, which sees less of the model, fools 1 of 2 images")


class Decisions:
    """The linear model's labels as one-hot logits: no score, no gradient."""

    bounds = (0.0, 1.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        labels = Linear()(asked).argmax(1)
        return torch.nn.functional.one_hot(labels, int(labels.max()) + 1).float()


class Wavering:
    """Labels by brightness and a little chance, which shows between dark and bright only."""

    bounds = (0.0, 1.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        bright = asked.flatten(1).mean(1) + 0.01 * torch.randn(len(asked)) > 0.7
        return torch.nn.functional.one_hot(bright.long(), 2).float()


def test_chance_that_shows_between_two_labels_only_is_found() -> None:
    batch = 0.4 * images(24)
    labels = {int(label) for _ in range(5) for label in Wavering()(batch).argmax(1)}
    assert labels == {0}
    finding = checks.randomised(Wavering(), batch)
    assert not finding.ok
    assert "between two labels when asked again" in finding.text


def test_a_model_with_one_label_for_everything_has_no_boundary_to_look_at() -> None:
    batch = images(24)
    constant = Changed(lambda linear, x: torch.tensor([[1.0, 0.0]]).expand(len(x), 2))
    assert len(probes.near_boundary(constant, batch)) == 0
    assert checks.randomised(constant, batch).ok


def test_points_between_two_labels_lie_on_the_boundary() -> None:
    model, batch = Linear(), images(24)
    points = probes.near_boundary(model, batch, steps=16)
    assert len(points) == 24
    assert float(model.margins(points, dual=2).max()) < 1e-3


def test_a_model_that_shows_labels_only_gets_the_checks_of_labels() -> None:
    findings = found(Decisions(), access="decision")
    assert set(findings) == {"randomised", "rounding"}
    assert all(finding.ok for finding in findings.values())


def test_one_hot_labels_may_be_of_another_width_in_each_batch() -> None:
    batch = images(24)
    order = Linear()(batch).argmax(1).argsort()
    assert len(Decisions()(batch[order[:2]])[0]) < len(Decisions()(batch)[0])
    assert checks.randomised(Decisions(), batch[order]).ok


def test_a_model_that_offers_less_than_the_evaluation_needs_fails() -> None:
    findings = found(Decisions(), access="gradient")
    assert not findings["masked_gradients"].ok
    assert "one-hot labels" in findings["probabilities"].text
    assert not findings["probabilities"].ok


def test_a_model_without_gradients_gets_the_checks_of_scores() -> None:
    findings = found(Changed(lambda linear, x: linear(x.detach())), access="score")
    assert set(findings) == {"randomised", "rounding", "probabilities"}


def test_plain_attacks_fool_what_their_access_allows_and_never_a_clean_error() -> None:
    model, batch = Linear(), images(24)
    labels = model(batch).argmax(1)
    labels[3] = (labels[3] + 1) % 3
    exact = model.margins(batch, dual=1)
    examination = examine(model, batch, labels, epsilon=RADIUS, norm="linf", access="gradient")
    assert set(examination.fooled) == {"decision", "score", "gradient"}
    for hit in examination.fooled.values():
        assert not hit[3]
        assert not hit[exact > RADIUS * 1.001].any()
    assert int(examination.fooled["gradient"].sum()) >= int(examination.fooled["score"].sum())
    assert examination.fooled["gradient"][(exact < 0.9 * RADIUS) & (torch.arange(24) != 3)].all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_plain_descent_reaches_the_closed_form_distance(norm: Any) -> None:
    model, batch = Linear(), images(24)
    exact = model.margins(batch, dual=1 if norm == "linf" else 2)
    radius = float(exact.median())
    hit = probes.descend(model, batch, model(batch).argmax(1), norm=norm, epsilon=radius, steps=20)
    assert hit[exact < 0.95 * radius].all()
    assert not hit[exact > 1.001 * radius].any()


def test_the_same_seed_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.random.get_rng_state()
    assert found(Linear(), seed=3) == found(Linear(), seed=3)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l0"}, "checks are made in l2 or linf, got l0"),
        ({"epsilon": 0.0}, "a radius above 0"),
        ({"epsilon": math.nan}, "a radius above 0"),
        ({"batch": images(0)}, "got 0 images"),
    ],
)
def test_what_cannot_be_examined_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        found(Linear(), **options)


def test_a_model_that_is_always_wrong_is_not_attacked() -> None:
    model, batch = Linear(), images(24)
    labels = (model(batch).argmax(1) + 1) % 3
    findings = examine(model, batch, labels, epsilon=RADIUS, norm="linf").findings
    assert "unbounded" not in {finding.name for finding in findings}
    assert all(finding.ok for finding in findings)


def test_a_finding_survives_json() -> None:
    for finding in found(Linear()).values():
        assert Finding(**finding.to_json()) == finding
