"""APGD, FAB, Square and Carlini-Wagner against a linear model, where the answer is known."""

from __future__ import annotations

import pytest
import torch
from linear import Linear, images

import attacks
from attacks import Adversarials, Targeted, UsageError, perturb

DUAL = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}


def played(
    name: str, *, budget: int | None = None, epsilon: float | None = None, **more: object
) -> Adversarials:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    return perturb(
        attacks.create(name, **more), model, batch, labels, budget=budget, epsilon=epsilon
    )


def exact(norm: str) -> torch.Tensor:
    return Linear().margins(images(), dual=DUAL[norm])


class Flat(Linear):
    """It never moves: its gradients are zero and nothing fools it."""

    def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0, 0.0]]).expand(len(asked), 3) + 0 * asked.flatten(1)[:, :3]


@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr_targeted", "margin"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_fools_just_what_a_linear_model_allows(norm: str, loss: str) -> None:
    known = exact(norm)
    radius = float(known.median())
    result = played("apgd", norm=norm, loss=loss, epsilon=radius, targets=2, steps=50)
    assert not result.success[known > radius * 1.001].any()
    assert result.success[known < radius * 0.99].all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_apgd_without_a_radius_seeks_the_smallest(norm: str) -> None:
    ratio = played("apgd", norm=norm, steps=50).distance / exact(norm)
    assert (ratio > 1 - 1e-4).all()
    assert ratio.median() < 1.2


def test_apgd_walks_up_its_radii_and_each_image_leaves_at_its_own() -> None:
    known = exact("linf")
    ordered = known.sort().values
    radii = tuple(float(ordered[k : k + 2].mean()) for k in (2, 5, 9))  # between two images' own
    result = played("apgd", radii=radii, loss="dlr_targeted", targets=2, bisections=0, steps=30)
    counted = torch.tensor([[d <= r * (1 + 1e-5) for r in radii] for d in result.distance])
    assert torch.equal(counted, torch.stack([known <= r for r in radii], dim=1))
    first, last = known.argmin(), known.argmax()
    assert result.queries[first] < result.queries[last]


def test_an_image_that_is_fooled_costs_nothing_more() -> None:
    known = exact("linf")
    result = played("apgd", epsilon=float(known.median()), steps=100)
    assert (result.queries[result.success] < 20).all()
    assert (result.queries[~result.success] >= 100).all()
    assert (result.gradients <= result.queries).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("targets", [0, 2])
def test_fab_reaches_the_closed_form_distance(norm: str, targets: int) -> None:
    ratio = played("fab", norm=norm, targets=targets, steps=20).distance / exact(norm)
    assert (ratio > 1 - 1e-4).all()
    assert (ratio < 1.01).all()


def test_fab_is_done_within_its_radius() -> None:
    radius = float(exact("l2").max()) * 1.1
    early, whole = played("fab", norm="l2", epsilon=radius), played("fab", norm="l2")
    assert early.success.all()
    assert early.queries.max() < whole.queries.min()


def test_carlini_wagner_reaches_the_closed_form_distance() -> None:
    result = played("carlini_wagner", steps=150, search_steps=6, learning_rate=0.02)
    ratio = result.distance / exact("l2")
    assert result.success.all()
    assert (ratio > 1 - 1e-4).all()
    assert ratio.median() < 1.1


def test_carlini_wagner_with_a_confidence_wins_by_it() -> None:
    model, batch = Linear(), images()
    meek = played("carlini_wagner", steps=30, search_steps=3, learning_rate=0.03)
    bold = played("carlini_wagner", steps=30, search_steps=3, learning_rate=0.03, confidence=1.0)
    labels = model(batch).argmax(1)
    # The nearest adversarial asked counts; the search itself went on to the surer ones.
    assert meek.success.all()
    assert bold.success.all()
    assert torch.equal(model(bold.images).argmax(1) != labels, bold.success)


@pytest.mark.parametrize("name", ["apgd", "fab", "carlini_wagner", "square"])
def test_nothing_found_is_a_failure_and_the_image_stays_clean(name: str) -> None:
    batch = images(3)
    more = {"steps": 10} if name != "square" else {"queries": 30}
    if name == "carlini_wagner":
        more["search_steps"] = 2
    epsilon = 0.1 if name in ("apgd", "square") else None
    labels = torch.zeros(3, dtype=torch.int64)
    result = perturb(attacks.create(name, **more), Flat(), batch, labels, epsilon=epsilon)
    assert not result.success.any()
    assert torch.equal(result.images, batch)
    assert set(result.status) <= {"failed", "exhausted"}


@pytest.mark.parametrize("name", ["apgd", "fab", "carlini_wagner", "square"])
def test_targeted_ones_end_at_the_wanted_label(name: str) -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    criterion = Targeted(labels, (labels + 1) % 3)
    more: dict[str, object] = {"queries": 600} if name == "square" else {"steps": 60}
    epsilon = 0.3 if name in ("apgd", "square") else None
    result = perturb(attacks.create(name, **more), model, batch, criterion, epsilon=epsilon)
    assert result.success.all()
    assert torch.equal(model(result.images).argmax(1), criterion.targets)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_stays_within_its_radius_and_sees_scores_only(norm: str) -> None:
    attack = attacks.create("square", norm=norm, queries=500)
    assert attack.access == "score"
    known = exact(norm)
    radius = float(known.median()) * 2
    result = played("square", norm=norm, queries=500, epsilon=radius)
    assert result.gradients.sum() == 0
    assert result.success[known < radius / 2].all()
    assert not result.success[known > radius * 1.001].any()
    assert (result.queries <= 500).all()


def test_square_without_a_radius_seeks_a_small_one() -> None:
    ratio = played("square", queries=400).distance / exact("linf")
    assert (ratio > 1 - 1e-4).all()
    assert ratio.median() < 3


@pytest.mark.parametrize("name", ["apgd", "fab", "square"])
def test_a_budget_is_kept_to_the_query(name: str) -> None:
    result = played(name, budget=7)
    assert (result.queries <= 7).all()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("apgd", {"norm": "l0"}),
        ("apgd", {"loss": "hinge"}),
        ("apgd", {"steps": 0}),
        ("apgd", {"radii": (0.2, 0.1)}),
        ("fab", {"norm": "l0"}),
        ("fab", {"alpha_max": 2.0}),
        ("square", {"norm": "l1"}),
        ("square", {"p_init": 0.0}),
        ("carlini_wagner", {"steps": 0}),
        ("carlini_wagner", {"learning_rate": 0.0}),
    ],
)
def test_bad_parameters_are_refused(name: str, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        attacks.create(name, **wrong)
