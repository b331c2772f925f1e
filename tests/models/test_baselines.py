"""The CNNs that ABS is compared with: the published shapes, and what binarising does."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import models
from models import binary_cnn, madry_cnn, transfer_cnn, vanilla_cnn
from models.elu_network import Binarise, elu_network
from models.errors import UsageError

NETWORKS = (vanilla_cnn, binary_cnn, transfer_cnn, madry_cnn)


def name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (vanilla_cnn, 249_228),
        (binary_cnn, 249_228),
        (transfer_cnn, 52_010),
        (madry_cnn, 3_274_634),
    ],
)
def test_the_number_of_parameters_is_the_published_one(module: ModuleType, wanted: int) -> None:
    assert sum(p.numel() for p in module.build().parameters()) == wanted


@pytest.mark.parametrize("module", NETWORKS, ids=name)
def test_images_become_ten_logits_and_get_a_gradient(module: ModuleType) -> None:
    model = models.create(name(module), tiny=True, seed=1)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)

    logits = model(images)
    logits.logsumexp(dim=1).sum().backward()

    assert logits.shape == (3, module.CLASSES)
    assert (model.image_shape, model.bounds) == (module.IMAGE_SHAPE, (0.0, 1.0))
    assert images.grad is not None
    assert all(float(g.abs().max()) > 0 for g in images.grad)


@pytest.mark.parametrize("module", NETWORKS, ids=name)
def test_the_dwarf_is_small_and_the_seed_decides_it(module: ModuleType) -> None:
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    first, again, other = (module.create(tiny=True, seed=s) for s in (3, 3, 4))

    assert sum(p.numel() for p in first.module.parameters()) < 10_000
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))


@pytest.mark.parametrize("module", NETWORKS, ids=name)
def test_weights_that_are_not_there_name_the_command_that_makes_them(module: ModuleType) -> None:
    with pytest.raises(UsageError, match=f"tiltyard train {name(module)} --dataset digits"):
        module.create(dataset="digits")


def test_the_maps_have_the_published_sides() -> None:
    network, sides = elu_network((20, 70, 256)), []
    values: Tensor = torch.zeros(1, 1, 28, 28)
    for layer in network:
        values = layer(values)
        if isinstance(layer, nn.Conv2d):
            sides.append((values.shape[1], values.shape[2]))

    assert sides == [(20, 24), (70, 11), (256, 5), (10, 1)]


def test_the_binary_network_sees_zeros_and_ones_only() -> None:
    model = binary_cnn.create(tiny=True)
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = 0.5

    assert torch.equal(model(images), model((images >= 0.5).float()))
    assert torch.equal(model(images), model(0.3 + 0.4 * (images >= 0.5).float()))
    assert not torch.equal(model(images), model(1 - images))


def test_the_gradient_passes_the_threshold_as_if_it_were_not_there() -> None:
    images = torch.tensor([0.0, 0.4999, 0.5, 0.9], requires_grad=True)
    seen = Binarise()(images)
    (seen * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()

    assert seen.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert images.grad is not None
    assert images.grad.tolist() == [1.0, 2.0, 3.0, 4.0]
