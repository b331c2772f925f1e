from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import foolbox
import numpy as np
import pytest
import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import Pool, Targeted, UsageError, perturb
from attacks.foolbox import MENDED, REFUSED, UNTARGETED
from bench.plugins import load_attack


def labels() -> torch.Tensor:
    return Linear()(images()).argmax(1)


def pool(n: int = 40) -> Pool:
    others = images(n, seed=7)
    return Pool(others, Linear()(others).argmax(1))


class Net(torch.nn.Module):
    """The linear model as a module, with parameters that a gradient could be left on."""

    bounds = (0.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(36, 3)
        weights = Linear().weights
        self.layer.weight.data.copy_(weights)
        self.layer.bias.data.copy_(-0.5 * weights.sum(1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1))
        return out


class Wide(Linear):
    """The same classifier for images in [-3, 5]."""

    bounds = (-3.0, 5.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        assert asked.min() >= -3
        assert asked.max() <= 5
        return super().__call__((asked + 3) / 8)


def test_one_of_our_attacks_runs_in_a_foolbox_script() -> None:
    model = Linear()
    exported = attacks.foolbox.export(attacks.create("boundary"), budget=300)
    foolbox_model = attacks.foolbox.export_model(model)
    assert foolbox.accuracy(foolbox_model, images(), labels()) == 1.0
    _, clipped, success = exported(foolbox_model, images(), labels(), epsilons=[1e-3, 5.0])
    assert success[0].float().mean() == 0
    assert success[1].float().mean() == 1
    norms = (clipped[1] - images()).flatten(1).norm(dim=1)
    assert (norms >= model.margins(images(), dual=2) * (1 - 1e-4)).all()


def test_one_of_our_models_is_attacked_by_plain_foolbox() -> None:
    foolbox_model = attacks.foolbox.export_model(Linear())
    attack = foolbox.attacks.L2DeepFoolAttack()
    _, found, success = attack(foolbox_model, images(), labels(), epsilons=None)
    assert success.all()
    exact = Linear().margins(images(), dual=2)
    assert ((found - images()).flatten(1).norm(dim=1) / exact).max() < 1.05


def test_a_foolbox_model_is_attacked_by_ours() -> None:
    theirs = foolbox.PyTorchModel(Net().eval(), bounds=(0, 1), device="cpu")
    model = attacks.foolbox.import_model(theirs)
    with torch.no_grad():
        truth = model(images()).argmax(1)
    result = perturb(attacks.create("gaussian_noise"), model, images(), truth, budget=200)
    assert result.success.any()


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_broken_in_foolbox_is_refused_with_its_cause_and_another_way(name: str) -> None:
    with pytest.raises(UsageError, match=r"is refused: .*use "):
        attacks.create(f"foolbox:{name}")


def test_a_misspelt_foolbox_attack_names_the_near_one() -> None:
    with pytest.raises(UsageError, match="did you mean .*L2DeepFoolAttack"):
        attacks.create("foolbox:L2DeepFool")


def test_an_unknown_parameter_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no parameter 'stepz'; it has: .*steps"):
        attacks.create("foolbox:LinfPGD", stepz=3)


def test_an_attack_that_needs_a_radius_says_so() -> None:
    with pytest.raises(UsageError, match="needs one; give --epsilon"):
        perturb(load_attack("foolbox:LinfPGD"), Linear(), images(), labels())


class Stubborn(Linear):
    """An image whose first pixel is white keeps its label whatever is asked around it."""

    def __call__(self, asked: Tensor, /) -> Tensor:
        marked = (asked[:, 0, 0, 0] == 1.0)[:, None]
        return torch.where(marked, torch.eye(3)[[0] * len(asked)], super().__call__(asked))


def test_an_image_that_foolbox_raises_for_does_not_abort_the_batch() -> None:
    batch = images()
    batch[0, 0, 0, 0] = 1.0
    model = Stubborn()
    truth = model(batch).argmax(1)
    rows = (model(1 - batch).argmax(1) != truth).nonzero().flatten()
    rows = torch.cat([torch.tensor([0]), rows[rows > 0]])
    assert len(rows) > 3
    base = foolbox.attacks.L2CarliniWagnerAttack

    class Raises(base):  # type: ignore[misc, valid-type]
        def run(self, model: Any, inputs: Any, criterion: Any, **options: Any) -> Any:
            if bool((inputs.raw[:, 0, 0, 0] == 1.0).any()):
                raise ValueError("1.0 of 12 starting_points are not adversarial")
            return 1 - inputs

    result = perturb(attacks.foolbox.wrap(Raises()), model, batch[rows], truth[rows])
    assert result.status[0] == "failed"
    assert "Foolbox raised ValueError" in str(result.reasons[0])
    assert result.success[1:].all()


@pytest.mark.parametrize("name", ["BoundaryAttack", "HopSkipJumpAttack"])
def test_an_image_without_a_starting_point_costs_the_others_nothing(name: str) -> None:
    asked: list[int] = []

    class Hopeless(Linear):
        def __call__(self, batch: Tensor, /) -> Tensor:
            asked.append(len(batch))
            near = (batch.flatten(1) - images()[0].flatten()).abs().amax(1) < 1e-6
            return torch.where(near[:, None], torch.eye(3)[[0] * len(batch)], torch.eye(3)[1])

    batch = images()
    model = Hopeless()
    truth = model(batch).argmax(1)  # 0 for the first image, 1 for the others, whatever is asked
    attack = attacks.create(f"foolbox:{name}", **SMALL[name])
    result = perturb(attack, model, batch, truth)
    assert result.success.tolist() == [True] + [False] * 11
    assert (result.queries[1:] == 25).all()
    assert all("no starting point" in str(reason) for reason in result.reasons[1:])


def test_with_decision_access_foolbox_sees_labels_only() -> None:
    attack = load_attack("foolbox:SaltAndPepperNoiseAttack")
    assert attack.access == "decision"
    result = perturb(attack, Linear(), images(), labels(), budget=300)
    assert (result.gradients == 0).all()
    assert result.success.any()


SMALL: dict[str, dict[str, Any]] = {
    "BoundaryAttack": {"steps": 20},
    "DDNAttack": {"steps": 10},
    "EADAttack": {"binary_search_steps": 6, "steps": 30},
    "GaussianBlurAttack": {"steps": 5},
    "HopSkipJumpAttack": {"steps": 1, "initial_gradient_eval_steps": 10},
    "L0FMNAttack": {"steps": 25},
    "L1FMNAttack": {"steps": 25},
    "L2CarliniWagnerAttack": {"binary_search_steps": 3, "steps": 20},
    "L2FMNAttack": {"steps": 25},
    "LInfFMNAttack": {"steps": 25},
    "LinearSearchBlendedUniformNoiseAttack": {"steps": 20},
    "LinearSearchContrastReductionAttack": {"steps": 20},
    "PointwiseAttack": {
        "init_attack": foolbox.attacks.SaltAndPepperNoiseAttack(steps=50),
        "l2_binary_search": False,
    },
    "SaltAndPepperNoiseAttack": {"steps": 50},
    "VirtualAdversarialAttack": {"steps": 3},
}
"""Fewer steps where Foolbox's defaults are many; others keep theirs."""

RADIUS: dict[attacks.Norm, float] = {"linf": 0.1, "l2": 0.6, "l1": 3.0}

ASKED = {
    "BinarySearchContrastReductionAttack": (15, 0),
    "DDNAttack": (10, 10),
    "InversionAttack": (0, 0),
    "L2FastGradientAttack": (1, 1),
    "L2FMNAttack": (25, 25),
    "LinfPGD": (40, 40),
    "SaltAndPepperNoiseAttack": (51, 0),
    "VirtualAdversarialAttack": (4, 3),
}
"""Queries and gradients of each image: a whole batch is asked until its last image is done."""

CLASSES = [
    name
    for name in attacks.foolbox.names()
    if getattr(foolbox.attacks, name).__name__ == name
    and "BrendelBethge" not in name  # compiles for half a minute; tested below without compiling
    and name != "BinarizationRefinementAttack"  # for models with a threshold; tested below
]
WEAK = {"L2ContrastReductionAttack", "InversionAttack", "GaussianBlurAttack", "SpatialAttack"}
"""Attacks that need not fool a linear model: they move pixels in one fixed way."""


def with_settings(name: str) -> attacks.Attack:
    return attacks.create(f"foolbox:{name}", **SMALL.get(name, {}))


@pytest.mark.parametrize("name", [*CLASSES, "LinfPGD"])
def test_every_wrapped_attack_conforms(name: str) -> None:
    attack = with_settings(name)
    net, batch = Net(), images(4)
    epsilon = RADIUS[attack.norm] if attack.fixed_epsilon else None  # type: ignore[attr-defined]
    drawn, theirs = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    results = [
        perturb(attack, net, batch, labels()[:4], epsilon=epsilon, pool=pool()) for _ in range(2)
    ]
    result = results[0]
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert np.array_equal(theirs, np.random.get_state()[1])  # type: ignore[index]
    assert torch.equal(result.images, results[1].images)  # of the same seed
    assert [p.grad for p in net.parameters()] == [None, None]
    assert all(p.requires_grad for p in net.parameters())
    assert torch.equal(net(result.images).argmax(1) != labels()[:4], result.success)
    moved = attacks.distance(attack.norm, batch, result.images)
    assert torch.equal(moved[result.success], result.distance[result.success])
    if epsilon is not None:
        assert (moved <= epsilon * (1 + 1e-5)).all()
    if name not in WEAK and "Additive" not in name:
        assert result.success.any()
    if name in ASKED:
        assert result.queries.tolist() == [ASKED[name][0]] * 4
        assert result.gradients.tolist() == [ASKED[name][1]] * 4
    assert not any(reason and "Foolbox raised" in reason for reason in result.reasons)


def test_whatever_foolbox_exports_is_offered_or_refused_and_the_lists_name_nothing_else() -> None:
    exported = {
        value.__name__
        for value in vars(foolbox.attacks).values()
        if inspect.isclass(value) and issubclass(value, foolbox.attacks.Attack)
    } - {"Attack"}
    offered = {getattr(foolbox.attacks, name).__name__ for name in attacks.foolbox.names()}
    assert offered | set(REFUSED) == exported
    assert not offered & set(REFUSED)
    assert set(MENDED) <= offered
    assert {name for name, *_ in SMALL.items()} | WEAK <= exported


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_foolboxs_adam_basic_iterative_attacks_are_the_plain_ones(norm: str) -> None:
    model = attacks.foolbox.export_model(Linear())
    goal = foolbox.criteria.Misclassification(labels())
    adam, plain = (
        getattr(foolbox.attacks, f"{norm}{kind}BasicIterativeAttack")() for kind in ("Adam", "")
    )
    first = adam.run(model, images(), goal, epsilon=1.0)
    assert torch.equal(first, plain.run(model, images(), goal, epsilon=1.0))


def test_a_broken_foolbox_object_is_refused_as_its_name_is() -> None:
    with pytest.raises(UsageError, match="NewtonFoolAttack is refused: it returns NaN"):
        attacks.foolbox.wrap(foolbox.attacks.NewtonFoolAttack())


def test_a_repeated_attack_has_no_run_and_says_so() -> None:
    with pytest.raises(UsageError, match="Repeated, which has no run.*give the attack itself"):
        attacks.foolbox.wrap(foolbox.attacks.L2PGD().repeat(2))


def test_what_foolbox_refuses_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="quantile needs to be between 0 and 1"):
        attacks.create("foolbox:SparseL1DescentAttack", quantile=2)
    with pytest.raises(UsageError, match="missing 1 required positional argument: 'steps'"):
        attacks.create("foolbox:VirtualAdversarialAttack")
    with pytest.raises(UsageError, match="L2PGD works in l2, got norm=linf"):
        attacks.create("foolbox:L2PGD", norm="linf")


def test_an_attack_without_a_distance_of_its_own_takes_any() -> None:
    made = attacks.create("foolbox:PointwiseAttack", norm="l0", l2_binary_search=False)
    assert made.norm == "l0"


@pytest.mark.parametrize("name", ["PointwiseAttack", "SpatialAttack", "SaltAndPepperNoiseAttack"])
def test_the_seed_decides_what_foolbox_draws_from_numpy_and_torch(name: str) -> None:
    parameters = {"grid_search": False, "random_steps": 30} if name == "SpatialAttack" else {}
    attack = attacks.create(f"foolbox:{name}", **parameters, **SMALL.get(name, {}))

    def play(seed: int) -> Tensor:
        np.random.seed(seed + 100)
        return perturb(attack, Linear(), images(), labels(), seed=seed).images

    assert torch.equal(play(1), play(1))
    np.random.seed(3)
    assert not torch.equal(play(1), play(2))


def test_the_dataset_attack_takes_the_nearest_image_of_another_class() -> None:
    attack = attacks.create("foolbox:DatasetAttack")
    result = perturb(attack, Linear(), images(), labels(), pool=pool())
    others = pool()
    apart = torch.cdist(images().flatten(1), others.images.flatten(1))
    apart[others.labels.unsqueeze(0) == labels().unsqueeze(1)] = torch.inf
    assert torch.allclose(result.distance, apart.amin(1), rtol=1e-4)
    assert (result.queries == 1).all()


def test_the_dataset_attack_goes_on_past_images_that_the_model_gets_wrong() -> None:
    others = pool()
    wrong = Pool(others.images, (others.labels + 1) % 3)  # as if they were of other classes
    attack = attacks.create("foolbox:DatasetAttack")
    result = perturb(attack, Linear(), images(), labels(), pool=wrong)
    assert result.success.all()
    assert (result.queries >= 1).all()
    assert result.queries.max() > 1


def test_the_dataset_attack_can_be_targeted_and_keeps_to_a_radius() -> None:
    attack = attacks.create("foolbox:DatasetAttack")
    wanted = (labels() + 1) % 3
    result = perturb(attack, Linear(), images(), Targeted(labels(), wanted), pool=pool())
    assert result.success.all()
    assert torch.equal(Linear()(result.images).argmax(1), wanted)
    near = perturb(attack, Linear(), images(), labels(), pool=pool(), epsilon=0.01)
    assert not near.success.any()
    assert (near.queries == 0).all()
    assert set(near.reasons) == {"none of the 0 images of the pool that may be taken fools"}


def test_the_dataset_attack_without_a_pool_says_what_to_give() -> None:
    with pytest.raises(UsageError, match=r"was given none; give perturb\(..., pool="):
        perturb(attacks.create("foolbox:DatasetAttack"), Linear(), images(), labels())


@pytest.mark.parametrize("name", ["L2CarliniWagnerAttack", "EADAttack"])
def test_the_black_image_that_foolbox_returns_for_nothing_is_a_failure(name: str) -> None:
    model, batch = Linear(), images()
    black = model(torch.zeros_like(batch)).argmax(1) != labels()
    assert black.any()  # it would count as adversarial
    raw = getattr(foolbox.attacks, name)(binary_search_steps=1, steps=1)
    _, found, success = raw(attacks.foolbox.export_model(model), batch, labels(), epsilons=None)
    assert not found.any()
    assert torch.equal(success, black)
    attack = attacks.create(f"foolbox:{name}", binary_search_steps=1, steps=1)
    result = perturb(attack, model, batch, labels())
    assert set(result.status) == {"failed"}
    assert torch.equal(result.images, batch)
    assert set(result.reasons) == {"Foolbox returned the black image: it found nothing"}


def test_what_leaves_the_bounds_is_clipped_before_it_is_asked() -> None:
    batch = images()
    batch[:, 0, :3] = 0.0  # ead extrapolates beyond them
    model = Linear()
    truth = model(batch).argmax(1)
    attack = attacks.create("foolbox:EADAttack", binary_search_steps=6, steps=50)
    result = perturb(attack, model, batch, truth)
    assert result.success.float().mean() > 0.9


def test_hop_skip_jump_works_within_bounds_that_are_not_0_and_1() -> None:
    model, batch = Wide(), images(4) * 8 - 3
    truth = model(batch).argmax(1)
    attack = attacks.create("foolbox:HopSkipJumpAttack", steps=2, initial_gradient_eval_steps=20)
    result = perturb(attack, model, batch, truth, budget=3000)
    plain = perturb(attack, Linear(), images(4), labels()[:4], budget=3000)
    assert result.success.all()
    assert torch.allclose(result.distance, plain.distance * 8, rtol=0.05)


def test_targeted_sparse_l1_descent_moves_pixels_that_lie_at_a_bound() -> None:
    """Every pixel is black: raising some is the only way to the wanted class."""
    model, batch = Linear(), torch.zeros(1, 1, 6, 6)
    label = model(batch).argmax(1)
    for wanted in ((label + 1) % 3, (label + 2) % 3):
        goal = Targeted(label, wanted)
        theirs = foolbox.attacks.SparseL1DescentAttack(steps=20)
        found = theirs.run(
            attacks.foolbox.export_model(model),
            batch,
            foolbox.criteria.TargetedMisclassification(wanted),
            epsilon=12.0,
        )
        assert not found.any()  # Foolbox's mask keeps only the steps that would leave the bounds
        attack = attacks.create("foolbox:SparseL1DescentAttack", steps=20)
        assert perturb(attack, model, batch, goal, epsilon=12.0).success.all()
    untargeted = perturb(attack, model, batch, label, epsilon=12.0)
    assert untargeted.success.all()


def test_noise_that_leaves_the_linf_radius_does_not_count() -> None:
    model = Linear()
    torch.manual_seed(0)
    theirs = foolbox.attacks.LinfAdditiveUniformNoiseAttack().run(
        attacks.foolbox.export_model(model),
        images(),
        foolbox.criteria.Misclassification(labels()),
        epsilon=0.2,
    )
    assert (theirs - images()).abs().max() > 0.2 * 1.01
    attack = attacks.create("foolbox:LinfRepeatedAdditiveUniformNoiseAttack", repeats=20)
    result = perturb(attack, model, images(), labels(), epsilon=0.2)
    assert result.success.any()
    assert (result.images - images()).abs().max() <= 0.2 * (1 + 1e-5)


def test_fmn_in_l0_takes_a_radius() -> None:
    with pytest.raises(NotImplementedError, match="reducing L0 norms"):
        foolbox.attacks.L0FMNAttack(steps=20)(
            attacks.foolbox.export_model(Linear()), images(), labels(), epsilons=1
        )
    attack = attacks.create("foolbox:L0FMNAttack", steps=50)
    result = perturb(attack, Linear(), images(), labels(), epsilon=2)
    assert result.success.any()
    assert (result.distance[result.success] <= 2).all()


@pytest.mark.parametrize(
    "name", ["L2DeepFoolAttack", "LinfDeepFoolAttack", "VirtualAdversarialAttack"]
)
def test_an_attack_without_a_targeted_form_says_what_to_use(name: str) -> None:
    goal = Targeted(labels(), (labels() + 1) % 3)
    with pytest.raises(UsageError, match=f"foolbox:{name} can't be targeted: .*; use foolbox:"):
        perturb(with_settings(name), Linear(), images(), goal, epsilon=1.0)
    assert any(
        kind in UNTARGETED for kind in {k.__name__ for k in getattr(foolbox.attacks, name).__mro__}
    )


@pytest.mark.parametrize("name", ["BoundaryAttack", "HopSkipJumpAttack", "PointwiseAttack"])
def test_a_targeted_decision_attack_starts_from_the_pool(name: str) -> None:
    parameters = {k: v for k, v in SMALL[name].items() if k != "init_attack"}
    attack = attacks.create(f"foolbox:{name}", **parameters)
    wanted = (labels() + 1) % 3
    goal = Targeted(labels(), wanted)
    result = perturb(attack, Linear(), images(), goal, pool=pool(), budget=500)
    assert result.success.all()
    assert torch.equal(Linear()(result.images).argmax(1), wanted)
    without = perturb(attack, Linear(), images(), goal, budget=500)
    assert not without.success.any()
    assert set(without.reasons) == {
        "no starting point: a targeted search starts from a pool of images"
    }


def test_binarization_refinement_starts_from_salt_and_pepper_and_ends_at_the_threshold() -> None:
    class Thresholded(Linear):
        def __call__(self, asked: Tensor, /) -> Tensor:
            return super().__call__((asked >= 0.5).float())

    model, batch = Thresholded(), images()
    attack = attacks.create("foolbox:BinarizationRefinementAttack")
    assert attack.access == "decision"
    result = perturb(attack, model, batch, model(batch).argmax(1))
    assert result.success.all()
    changed = result.images[result.images != batch]
    assert torch.allclose(changed, torch.tensor(0.5), atol=1e-6)


def test_binarization_refinement_of_another_model_says_that_the_threshold_is_wrong() -> None:
    attack = attacks.create("foolbox:BinarizationRefinementAttack", threshold=0.999)
    result = perturb(attack, Linear(), images(), labels())
    said = [reason for reason in result.reasons if reason]
    assert said
    assert all("threshold does not match what is done by the model" in reason for reason in said)


@pytest.fixture(scope="module")
def without_numba() -> ModuleType:
    """Foolbox's Brendel-Bethge module as it is where numba is not installed: plain Python."""
    found = importlib.util.find_spec("foolbox.attacks.brendel_bethge")
    assert found is not None
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location("foolbox.attacks.plain", found.origin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)
        patch.setitem(sys.modules, "numba.experimental", None)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def linf_brendel_bethge(without_numba: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the attack; its solver is interpreted, which is fast enough for 36 pixels."""
    monkeypatch.setattr(without_numba, "NUMBA_IMPORT_ERROR", None)
    monkeypatch.setattr(without_numba, "numba", SimpleNamespace(__version__="1"), raising=False)
    return without_numba.LinfinityBrendelBethgeAttack


def play_brendel_bethge(made: Any, rows: Sequence[int], **options: Any) -> attacks.Adversarials:
    attack = attacks.foolbox.wrap(made(steps=15, lr=0.05))
    batch = images()[list(rows)]
    truth = options.pop("criterion", labels()[list(rows)])
    ids = [f"image-{i}" for i in rows]
    return perturb(attack, Linear(), batch, truth, ids=ids, **options)


def test_brendel_bethge_reaches_the_closed_form_distance_from_a_start_that_costs_little(
    linf_brendel_bethge: Any,
) -> None:
    result = play_brendel_bethge(linf_brendel_bethge, range(4))
    exact = Linear().margins(images()[:4], dual=1)
    assert result.success.all()
    assert (result.distance / exact).min() > 1 - 1e-4
    assert (result.distance / exact).max() < 1.1
    assert (result.queries <= 25 + 1 + 10 + 15).all()  # start, check, bisection, steps
    assert (result.gradients == 15).all()


def test_brendel_bethge_gives_an_image_the_same_in_any_batch(linf_brendel_bethge: Any) -> None:
    together = play_brendel_bethge(linf_brendel_bethge, range(4))
    alone = play_brendel_bethge(linf_brendel_bethge, [2])
    assert torch.allclose(together.images[2], alone.images[0], atol=1e-4)


def test_brendel_bethge_is_targeted_from_the_pool(linf_brendel_bethge: Any) -> None:
    wanted = (labels()[:3] + 1) % 3
    goal = Targeted(labels()[:3], wanted)
    result = play_brendel_bethge(linf_brendel_bethge, range(3), criterion=goal, pool=pool())
    assert result.success.all()
    assert torch.equal(Linear()(result.images).argmax(1), wanted)


def test_a_start_of_ones_own_goes_before(linf_brendel_bethge: Any) -> None:
    own = foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(steps=100)
    attack = attacks.foolbox.wrap(linf_brendel_bethge(init_attack=own, steps=3))
    result = perturb(attack, Linear(), images()[:3], labels()[:3])
    assert result.success.all()
    assert (result.queries > 25 + 1 + 10 + 3).any()


def test_without_numba_brendel_bethge_says_what_to_install(
    without_numba: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        foolbox.attacks, "LinfinityBrendelBethgeAttack", without_numba.LinfinityBrendelBethgeAttack
    )
    with pytest.raises(UsageError, match=r"it needs numba: pip install 'tiltyard\[bb\]'"):
        attacks.create("foolbox:LinfinityBrendelBethgeAttack")
