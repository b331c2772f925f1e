"""The contract that every attack keeps, native or Foolbox's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from linear import Imagining, Linear, images

import attacks
from attacks import BudgetExhausted, Misclassification, Oracle, UsageError, perturb
from attacks.random import ImageRandom
from bench.plugins import load_attack, plugins

NATIVE = [p.name for p in plugins("attacks") if not p.name.endswith(":NAME")]
BUILT: dict[str, Callable[[], attacks.Attack]] = {
    "autoattack": lambda: attacks.create("autoattack", version="decision", norm="l2"),
    "binary_projection": lambda: attacks.create(
        "binary_projection", attack=attacks.create("hop_skip_jump")
    ),
    "gradient_estimate": lambda: attacks.create(
        "gradient_estimate", attack=attacks.create("apgd", steps=4), samples=5
    ),
    "latent_descent": lambda: attacks.create("latent_descent", generator=Imagining()),
    "transfer": lambda: attacks.create(
        "transfer", surrogates=(Linear(seed=3),), attack=attacks.create("apgd", norm="l2")
    ),
    "worst_case": lambda: attacks.create(
        "worst_case", attacks=tuple(map(attacks.create, ("gaussian_noise", "hop_skip_jump")))
    ),
}
"""Attacks that need an object, such as another attack or a model, to be made."""

THROUGH_FOOLBOX = [
    "foolbox:L2DeepFoolAttack",
    "foolbox:LinfFastGradientAttack",
    "foolbox:L2PGD:steps=5",
    "foolbox:HopSkipJumpAttack:steps=2,initial_gradient_eval_steps=10",
    "foolbox:PointwiseAttack",
]
SPECS = NATIVE + THROUGH_FOOLBOX
RADIUS = {"foolbox:LinfFastGradientAttack": 0.05, "foolbox:L2PGD:steps=5": 0.5}


def made(spec: str) -> attacks.Attack:
    return BUILT[spec]() if spec in BUILT else load_attack(spec)


def play(
    spec: str, batch: torch.Tensor, ids: list[str], budget: int = 60, seed: int = 0
) -> attacks.Adversarials:
    model = Linear()
    return perturb(
        made(spec),
        model,
        batch,
        model(batch).argmax(1),
        epsilon=RADIUS.get(spec),
        budget=budget,
        ids=ids,
        seed=seed,
    )


IDS = [f"image-{i}" for i in range(12)]


@pytest.mark.parametrize("spec", SPECS)
def test_answers_are_images_within_bounds_and_the_budget_and_the_input_stays(spec: str) -> None:
    batch = images()
    before = batch.clone()
    result = play(spec, batch, IDS)
    assert torch.equal(batch, before)
    assert result.images.dtype == torch.float32
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert (result.queries <= 60).all()
    assert (result.queries > 0).all()
    wrong = Linear()(result.images).argmax(1) != Linear()(batch).argmax(1)
    assert torch.equal(wrong, result.success)


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_seed_gives_the_same_answer(spec: str) -> None:
    first, second = play(spec, images(), IDS, seed=5), play(spec, images(), IDS, seed=5)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.queries, second.queries)
    assert first.traces == second.traces


@pytest.mark.parametrize("spec", [*NATIVE, "foolbox:HopSkipJumpAttack:steps=1"])
def test_a_result_does_not_depend_on_the_other_images_of_the_batch(spec: str) -> None:
    batch = images()
    together = play(spec, batch, IDS)
    alone = [play(spec, batch[[i]], [IDS[i]]) for i in (0, 5, 11)]
    for i, single in zip((0, 5, 11), alone, strict=True):
        assert torch.allclose(together.images[i], single.images[0], atol=1e-6)
        assert together.queries[i] == single.queries[0]


@pytest.mark.parametrize("spec", NATIVE)
def test_an_attack_that_draws_asks_other_images_with_another_seed(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for method in ("_draw", "permutation"):
        original = getattr(ImageRandom, method)

        def watched(*given: object, original: Callable[..., object] = original) -> object:
            drawn.append(True)
            return original(*given)

        monkeypatch.setattr(ImageRandom, method, watched)
    first, second = play(spec, images(), IDS, seed=1), play(spec, images(), IDS, seed=2)
    assert bool(drawn) == (not torch.equal(first.images, second.images))


@pytest.mark.parametrize("spec", NATIVE)
def test_an_attack_needs_no_more_access_than_it_says_and_leaves_the_callers_random_state(
    spec: str,
) -> None:
    attack = made(spec)
    model, batch = Linear(), images()
    meter = Oracle(
        model,
        batch,
        Misclassification(model(batch).argmax(1)),
        norm=attack.norm,
        access=attack.access,  # the meter raises when more is asked
        budget=60,
    )
    state = torch.random.get_rng_state()
    with contextlib.suppress(BudgetExhausted):
        attack.run(
            meter, batch, meter.criterion, epsilon=RADIUS.get(spec), random=ImageRandom.of(0, IDS)
        )
    assert torch.equal(state, torch.random.get_rng_state())
    assert (meter.queries > 0).all()


def test_the_boundary_attack_reaches_the_closed_form_distance() -> None:
    model, batch = Linear(), images()
    result = perturb(
        attacks.create("boundary", steps=3000), model, batch, model(batch).argmax(1), budget=3000
    )
    exact = model.margins(batch, dual=2)
    assert result.success.all()
    assert (result.distance >= exact * (1 - 1e-4)).all()
    assert (result.distance / exact).median() < 1.05


def test_deepfool_through_the_bridge_reaches_the_closed_form_distance() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    for spec, dual in (("foolbox:L2DeepFoolAttack", 2.0), ("foolbox:LinfDeepFoolAttack", 1.0)):
        result = perturb(load_attack(spec), model, batch, labels)
        exact = model.margins(batch, dual=dual)
        assert (result.distance / exact).median() < 1.05
        assert (result.distance / exact).max() < 1.15  # Foolbox overshoots by 2 %, and a constant
        assert (result.distance / exact).min() > 1 - 1e-4


def test_pgd_through_the_bridge_fools_just_what_a_linear_model_allows() -> None:
    model, batch = Linear(), images()
    exact = model.margins(batch, dual=1)
    radius = float(exact.median())
    result = perturb(
        attacks.create("foolbox:LinfPGD", steps=100),
        model,
        batch,
        model(batch).argmax(1),
        epsilon=radius,
    )
    assert not result.success[exact > radius * 1.001].any()
    assert result.success[exact < radius * 0.8].all()


def test_salt_and_pepper_finds_the_one_pixel_that_decides() -> None:
    class OnePixel(Linear):
        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            bright = asked[:, 0, 2, 3] > 0.9
            return torch.stack([~bright, bright], dim=1).float()

    result = perturb(
        attacks.create("salt_and_pepper", orders=40),
        OnePixel(),
        images(),
        torch.zeros(12, dtype=torch.int64),
    )
    assert result.success.all()
    assert result.distance.median() <= 3


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("boundary", {"steps": -1}, "steps=-1"),
        ("gaussian_noise", {"directions": 0}, "directions=0"),
        ("salt_and_pepper", {"orders": 0}, "orders=0"),
        ("boundry", {}, "no attack is called 'boundry'"),
    ],
)
def test_bad_parameters_are_refused(name: str, parameters: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attacks.create(name, **parameters)
