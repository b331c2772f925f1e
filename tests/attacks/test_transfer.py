from __future__ import annotations

import typing
from typing import Any

import pytest
import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import ImageRandom, Misclassification, Oracle, Pool, Targeted, UsageError, perturb
from attacks.transfer import create

EXACT = 1.03
"""DeepFool oversteps by 2 %, the line search goes back over most of it."""


def labels() -> Tensor:
    return Linear()(images()).argmax(1)


class Shifted(Linear):
    """The same classifier for images in [-3, 5]."""

    bounds = (-3.0, 5.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        assert asked.min() >= -3
        assert asked.max() <= 5
        return super().__call__((asked + 3) / 8)


def deepfool() -> attacks.Attack:
    return attacks.create("foolbox:L2DeepFoolAttack")


@pytest.mark.parametrize("surrogate", [Linear(), Shifted()], ids=["the same", "other bounds"])
@pytest.mark.parametrize(("inner", "dual"), [("L2DeepFoolAttack", 2.0), ("LinfDeepFoolAttack", 1)])
def test_a_surrogate_equal_to_the_victim_gives_nearly_the_closed_form_distance(
    surrogate: Linear, inner: str, dual: float
) -> None:
    attack = create(surrogates=(surrogate,), attack=attacks.create(f"foolbox:{inner}"))
    result = perturb(attack, Linear(), images(), labels())
    exact = Linear().margins(images(), dual=dual)
    assert result.success.all()
    assert (result.distance / exact).min() > 1 - 1e-4
    assert (result.distance / exact).max() < EXACT
    assert (result.queries <= 10 + 10).all()


def test_on_a_victim_with_other_bounds_the_distance_is_in_its_units() -> None:
    victim = Shifted()
    batch = images() * 8 - 3
    attack = create(surrogates=(Linear(),), attack=deepfool())
    result = perturb(attack, victim, batch, victim(batch).argmax(1))
    exact = Linear().margins(images(), dual=2) * 8
    assert result.success.all()
    assert (result.distance / exact).max() < EXACT


def test_the_victim_shows_labels_only_and_the_surrogate_is_not_counted() -> None:
    surrogate, victim, batch = Linear(), Linear(), images()
    attack = create(surrogates=(surrogate,), attack=deepfool())
    assert attack.access == "decision"
    meter = Oracle(
        victim, batch, Misclassification(labels()), norm="l2", access="decision", budget=9
    )
    attack.run(
        meter, batch, meter.criterion, epsilon=None, random=ImageRandom.of(0, "abcdefghijkl")
    )
    assert surrogate.asked > 0
    assert victim.asked == meter.queries.sum()
    assert (meter.queries <= 9).all()
    assert (meter.gradients == 0).all()


def test_a_wrong_surrogate_gives_verified_results_all_the_same() -> None:
    other = Linear(seed=9)
    attack = create(surrogates=(other,), attack=deepfool())
    model = Linear()
    result = perturb(attack, model, images(), labels())
    assert int(result.success.sum()) > 0
    assert torch.equal(model(result.images).argmax(1) != labels(), result.success)
    exact = model.margins(images(), dual=2)
    assert (result.distance >= exact * (1 - 1e-4)).all()


def test_the_best_of_several_surrogates_counts() -> None:
    others = tuple(Linear(seed=k) for k in (3, 4, 0))
    together = perturb(create(surrogates=others, attack=deepfool()), Linear(), images(), labels())
    alone = [
        perturb(create(surrogates=(one,), attack=deepfool()), Linear(), images(), labels())
        for one in others
    ]
    nearest = torch.stack([one.distance for one in alone]).amin(0)
    assert together.success.all()
    assert (together.distance <= nearest * 1.01).all()


def test_a_direction_that_is_little_better_than_the_best_is_not_missed() -> None:
    """Sizes double: the largest one asked lies just under the best distance so far."""
    rough = attacks.create("foolbox:L2FMNAttack", steps=5)
    attack = create(surrogates=(Linear(seed=2), Linear()), attack=rough)
    result = perturb(attack, Linear(), images(), labels())
    second = perturb(create(surrogates=(Linear(),), attack=rough), Linear(), images(), labels())
    assert (result.distance <= second.distance * 1.01).all()


class Constant(Linear):
    """Nothing fools it."""

    def __call__(self, asked: Tensor, /) -> Tensor:
        return torch.eye(3)[torch.zeros(len(asked), dtype=torch.int64)]


def test_a_victim_that_is_not_fooled_up_to_the_bounds_is_noted() -> None:
    batch = images()
    result = perturb(
        create(surrogates=(Linear(),), attack=deepfool()),
        Constant(),
        batch,
        torch.zeros(12, dtype=torch.int64),
    )
    assert not result.success.any()
    right = Linear()(batch).argmax(1) == 0
    assert (result.queries[right] == 10).all()
    assert {result.reasons[i] for i in right.nonzero().flatten().tolist()} == {
        "no direction from a surrogate fools the victim"
    }


def test_an_image_that_the_surrogate_gets_wrong_already_gives_a_minimiser_no_direction() -> None:
    batch = images()
    other = Linear(seed=9)
    wrong = other(batch).argmax(1) != labels()
    assert wrong.any()
    result = perturb(create(surrogates=(other,), attack=deepfool()), Linear(), batch, labels())
    rows = wrong.nonzero().flatten().tolist()
    assert {result.reasons[i] for i in rows} == {"the attack on the surrogates gave no direction"}
    assert (result.queries[wrong] == 0).all()
    within = attacks.create("foolbox:L2FastGradientAttack")
    again = perturb(create(surrogates=(other,), attack=within), Linear(), batch, labels())
    assert (again.queries > 0).all()


def test_an_inner_attack_that_needs_a_radius_is_given_a_few() -> None:
    inner = attacks.create("foolbox:LinfFastGradientAttack")
    attack = create(surrogates=(Linear(),), attack=inner)
    result = perturb(attack, Linear(), images(), labels())
    exact = Linear().margins(images(), dual=1)
    assert result.success.all()
    assert (result.distance >= exact * (1 - 1e-4)).all()
    assert (result.distance / exact).median() < 1.3
    assert (result.queries <= 4 * 20).all()
    one = create(surrogates=(Linear(),), attack=inner, radii=(0.1,))
    assert (perturb(one, Linear(), images(), labels()).queries <= 20).all()


def test_with_an_epsilon_nothing_farther_is_asked_and_all_of_it_is_used() -> None:
    exact = Linear().margins(images(), dual=2)
    radius = float(exact.median()) * 1.05
    asked: list[Tensor] = []

    class Watched(Linear):
        def __call__(self, batch: Tensor, /) -> Tensor:
            asked.append((batch.unsqueeze(1) - images()).flatten(2).norm(dim=2).amin(1))
            return super().__call__(batch)

    attack = create(surrogates=(Linear(),), attack=deepfool())
    result = perturb(attack, Watched(), images(), labels(), epsilon=radius)
    assert torch.cat(asked).max() <= radius * (1 + 1e-4)
    assert result.success[exact < radius * 0.97].all()
    assert not result.success[exact > radius * 1.001].any()


def test_it_is_targeted_where_the_inner_attack_is() -> None:
    wanted = (labels() + 1) % 3
    inner = attacks.create("foolbox:L2FMNAttack", steps=50)
    attack = create(surrogates=(Linear(),), attack=inner)
    result = perturb(attack, Linear(), images(), Targeted(labels(), wanted))
    assert result.success.all()
    assert torch.equal(Linear()(result.images).argmax(1), wanted)


def test_a_pool_reaches_the_inner_attack_in_the_surrogates_units() -> None:
    pool = Pool(images(30, seed=5), Linear()(images(30, seed=5)).argmax(1))
    inner = attacks.create("foolbox:DatasetAttack")
    attack = create(surrogates=(Shifted(),), attack=inner)
    result = perturb(attack, Linear(), images(), labels(), pool=pool)
    assert result.success.all()


def test_no_gradient_is_left_on_the_surrogates_parameters() -> None:
    class Net(torch.nn.Module):
        bounds = (0.0, 1.0)

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x.flatten(1))
            return out

    net = Net()
    perturb(create(surrogates=(net,), attack=deepfool()), Linear(), images(), labels())
    assert net.layer.weight.grad is None
    assert net.layer.weight.requires_grad


def test_the_command_line_can_read_its_annotations() -> None:
    hints = typing.get_type_hints(create)
    assert hints["attack"] is attacks.types.Attack
    assert typing.get_args(hints["surrogates"])[0] is attacks.types.Model


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"surrogates": ()}, "wanted one or more models"),
        ({"surrogates": Linear()}, r"such as surrogates=\(model,\)"),
        ({"surrogates": ("small_cnn",)}, "surrogate of type str; wanted a model"),
        ({"growth_steps": 0}, "growth_steps=0"),
        ({"bisection_steps": -1}, "bisection_steps=-1"),
        ({"radii": (0.2, 0.1)}, "ascending"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attacks.create(
            "transfer", **{"surrogates": (Linear(),), "attack": deepfool(), **parameters}
        )
