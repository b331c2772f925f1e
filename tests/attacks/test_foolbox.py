from __future__ import annotations

from typing import Any

import foolbox
import pytest
import torch
from linear import Linear, images

import attacks
from attacks import UsageError, perturb
from bench.plugins import load_attack


def labels() -> torch.Tensor:
    return Linear()(images()).argmax(1)


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
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3)).eval()
    model = attacks.foolbox.import_model(foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu"))
    with torch.no_grad():
        truth = model(images()).argmax(1)
    result = perturb(attacks.create("gaussian_noise"), model, images(), truth, budget=200)
    assert result.success.any()


@pytest.mark.parametrize("name", ["NewtonFoolAttack", "GenAttack", "L1AdamPGD", "DatasetAttack"])
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


def test_no_gradient_is_left_on_a_modules_parameters() -> None:
    class Net(torch.nn.Module):
        bounds = (0.0, 1.0)

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(36, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x.flatten(1))
            return out

    net = Net()
    truth = net(images()).argmax(1)
    result = perturb(load_attack("foolbox:L2PGD"), net, images(), truth, epsilon=1.0)
    assert result.success.any()
    assert net.layer.weight.grad is None


def test_one_failed_image_does_not_abort_the_batch() -> None:
    class Stubborn(Linear):
        """Image 0 keeps its label whatever is asked around it: no start exists for it."""

        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            logits = super().__call__(asked)
            marked = asked[:, 0, 0, 0] == 1.0
            fixed = torch.zeros_like(logits)
            fixed[:, 0] = 1
            return torch.where(marked[:, None], fixed, logits)

    batch = images()
    batch[0, 0, 0, 0] = 1.0
    model = Stubborn()
    truth = model(batch).argmax(1)
    starts = 1 - batch
    starts[0, 0, 0, 0] = 1.0
    fooled = model(starts).argmax(1) != truth
    usable = fooled.clone()
    usable[0] = True
    rows = usable.nonzero().flatten()
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


def test_with_decision_access_foolbox_sees_labels_only() -> None:
    attack = load_attack("foolbox:SaltAndPepperNoiseAttack")
    assert attack.access == "decision"
    result = perturb(attack, Linear(), images(), labels(), budget=300)
    assert (result.gradients == 0).all()
    assert result.success.any()
