from __future__ import annotations

import pytest
import torch
from linear import Linear, images

import attacks
from attacks import UsageError, perturb


def test_the_standard_ensemble_leaves_what_a_linear_model_allows() -> None:
    model, batch = Linear(), images()
    exact = model.margins(batch, dual=1)
    radius = float(exact.median())
    attack = attacks.create("autoattack", steps=20, queries=50)
    assert attack.access == "gradient"
    result = perturb(attack, model, batch, model(batch).argmax(1), epsilon=radius)
    assert not result.success[exact > radius * 1.001].any()
    assert result.success[exact < radius * 0.999].all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_decision_ensemble_needs_labels_only(norm: str) -> None:
    model, batch = Linear(), images()
    attack = attacks.create("autoattack", version="decision", norm=norm)
    assert (attack.access, attack.norm) == ("decision", norm)
    result = perturb(attack, model, batch, model(batch).argmax(1), budget=600)
    assert result.success.all()
    assert (result.queries <= 600).all()


def test_the_parts_are_those_of_the_paper_in_its_order() -> None:
    standard = attacks.create("autoattack", norm="l2")
    names = [type(part).__name__ for part in standard.attacks]  # type: ignore[attr-defined]
    assert names == ["APGD", "APGD", "FAB", "Square"]
    first, second = standard.attacks[:2]  # type: ignore[attr-defined]
    assert (first.loss, second.loss, second.targets, first.steps) == ("ce", "dlr_targeted", 9, 100)
    sparse = attacks.create("autoattack", norm="l1")
    assert [type(p).__name__ for p in sparse.attacks] == ["APGD", "APGD", "FAB"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"version": "decision", "norm": "l1"}, "version='decision', norm='l1'"),
        ({"version": "best"}, "version='best'"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attacks.create("autoattack", **wrong)


def test_an_image_that_one_part_broke_costs_the_others_nothing() -> None:
    model, batch = Linear(), images()
    exact = model.margins(batch, dual=1)
    radius = float(exact.max()) * 1.5
    result = perturb(
        attacks.create("autoattack"), model, batch, model(batch).argmax(1), epsilon=radius
    )
    assert result.success.all()
    assert (result.queries < 20).all()
    assert torch.equal(result.gradients <= result.queries, torch.ones(12, dtype=torch.bool))
