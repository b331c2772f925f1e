"""Invertible networks: exact inverses, true volumes, codes that make images again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

import models
from models import fi_revnet48, irevnet
from models.errors import UsageError
from models.irevnet import architectures
from models.irevnet.bijections import (
    ActNorm,
    AdditiveCoupling,
    Affine,
    Bijection,
    Chain,
    Flatten,
    Pick,
    Reverse,
    Shuffle,
    Spectrum,
    Split,
    Squeeze,
    Swap,
)
from models.irevnet.classifier import InvertibleClassifier
from models.irevnet.couplings import bottleneck, convolutions, layers
from models.irevnet.network import Code, InvertibleNetwork
from models.weights import sha256_of


def randomised(network: nn.Module, seed: int = 0) -> None:
    """Every number random: couplings that begin as zero would hide every fault."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
                layer.weight.uniform_(0.5, 1.5, generator=generator)


def dwarf_imagenet() -> InvertibleNetwork:
    return architectures.imagenet(blocks=(1, 2, 1, 1), narrow=16)


NETWORKS: dict[str, Callable[[], InvertibleNetwork]] = {
    "small": architectures.small,
    "published": architectures.published,
    "imagenet": dwarf_imagenet,
    "flat": architectures.flat,
    "dense": lambda: architectures.dense(500),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_encoded_is_decoded_exactly_with_random_weights(name: str) -> None:
    network = NETWORKS[name]()
    randomised(network)
    network.eval().requires_grad_(False)
    images = torch.rand(2, *network.image_shape, generator=torch.Generator().manual_seed(1))
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        inputs = network.to(dtype).pad(images.to(dtype))
        code, _ = network.encode_padded(inputs)
        moved = torch.cat(code, 1) - inputs.flatten(1)
        assert float(moved.abs().mean()) > 0.05  # it is not the identity that was inverted
        assert float((network.decode_padded(code) - inputs).abs().max()) < limit
        assert float((network.decode(code) - images).abs().max()) < max(limit, 1e-7)


@pytest.mark.parametrize("training", ["ce", "ce-mle", "ice-mle"])
def test_what_was_encoded_is_decoded_exactly_with_trained_weights(training: str) -> None:
    from bench import dataset

    images = dataset("mnist5k").take(50).images
    model = models.create("irevnet", training=training)
    assert isinstance(model, InvertibleClassifier)
    assert float((model.decode(*model.encode(images)) - images).abs().max()) < 1e-5
    network = model.network.double()
    again = network.decode(network.encode(images.double()))
    assert float((again - images.double()).abs().max()) < 1e-12


SMALL: dict[str, tuple[Callable[[], Bijection], tuple[int, ...]]] = {
    "affine": (Affine, (1, 4, 4)),
    "squeeze": (Squeeze, (2, 4, 2)),
    "flatten": (lambda: Flatten((2, 3, 1)), (2, 3, 1)),
    "reverse": (Reverse, (4, 2, 2)),
    "swap": (Swap, (4, 2, 2)),
    "shuffle": (lambda: Shuffle(6, seed=1), (6,)),
    "actnorm": (lambda: ActNorm(4), (4, 2, 2)),
    "actnorm of vectors": (lambda: ActNorm(6), (6,)),
    "coupling": (lambda: AdditiveCoupling(convolutions(2, 8, 2)), (4, 2, 2)),
    "coupling of vectors": (lambda: AdditiveCoupling(layers(3, 8, 3)), (6,)),
    "i-RevNet's block that halves": (
        lambda: Chain([Squeeze(), AdditiveCoupling(bottleneck(4, 8, before=1, first=True))]),
        (2, 4, 4),
    ),
    "split": (lambda: Split(4, Pick((2, 3, 3), 2, (1, 1))), (4, 3, 3)),
    "spectrum": (lambda: Spectrum(2, 3, 4), (2, 3, 4)),
    "pick": (lambda: Pick((3, 2, 2), 2, (1, 0)), (3, 2, 2)),
    "dense": (lambda: architectures.dense(6).body, (6,)),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_bijection_has_an_inverse_and_the_volume_of_its_jacobian(name: str) -> None:
    make, shape = SMALL[name]
    bijection = make()
    randomised(bijection)
    bijection.eval().requires_grad_(False).double()
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y, volume = bijection(x)
    assert float((bijection.inverse(y) - x).abs().max()) < 1e-12

    def flat(vector: Tensor) -> Tensor:
        turned: Tensor = bijection(vector.view(1, *shape))[0]
        return turned.flatten()

    for image, claimed in zip(x, volume, strict=True):
        jacobian = torch.autograd.functional.jacobian(flat, image.flatten())
        assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(claimed), abs=1e-9)


@torch.no_grad()
def test_the_first_batch_in_training_sets_actnorm_to_mean_0_and_variance_1() -> None:
    generator = torch.Generator().manual_seed(0)
    norm, x = ActNorm(3), torch.randn(64, 3, 5, 5, generator=generator) * 2 + 1
    assert torch.equal(norm.eval()(x)[0], x)
    y, _ = norm.train()(x)
    assert float(y.mean((0, 2, 3)).abs().max()) < 1e-5
    assert float((y.std((0, 2, 3)) - 1).abs().max()) < 1e-3
    again, _ = norm(2 * x)
    assert float(again.std()) > 1.5


@torch.no_grad()
def test_actnorms_scale_has_a_limit() -> None:
    norm = ActNorm(2, limit=2.0).train()
    y, _ = norm(torch.full((4, 2), 3.0))  # no variance at all
    assert torch.isfinite(y).all()
    with torch.no_grad():
        norm.scale.fill_(100.0)
    assert float(norm(torch.ones(1, 2))[1]) <= 4.0 + 1e-6


def test_squeezing_puts_neighbours_into_channels_in_the_published_order() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y, _ = Squeeze()(x)
    assert y[0, :, 0, 0].tolist() == [0, 1, 4, 5]  # channel 2 dy + dx


def test_the_spectrum_begins_with_the_channels_means() -> None:
    x = torch.randn(2, 5, 7, 7, generator=torch.Generator().manual_seed(0))
    y, _ = Spectrum(5, 7, 7)(x)
    assert torch.allclose(y[:, :5], 7 * x.mean((2, 3)), atol=1e-5)
    assert torch.allclose(y.square().sum(1), x.square().flatten(1).sum(1), rtol=1e-4)


def test_the_spectrum_is_scipys_dct() -> None:
    fft = pytest.importorskip("scipy.fft", reason="scipy is not installed")
    x = torch.randn(1, 2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y, _ = Spectrum(2, 6, 4)(x)
    wanted = fft.dctn(x[0].numpy(), axes=(1, 2), norm="ortho")
    assert abs(y.view(24, 2).T.reshape(2, 6, 4).numpy() - wanted).max() < 1e-12


def test_the_published_network_has_the_public_codes_shape() -> None:
    network = architectures.published()
    assert network.dimensions == 3072
    steps = [m for m in network.modules() if isinstance(m, AdditiveCoupling)]
    assert len(steps) == 48
    inputs = network.pad(torch.rand(1, 1, 28, 28))
    assert inputs.shape == (1, 3, 32, 32)
    assert float(inputs[:, :2].abs().max()) == 0.0
    assert torch.equal(network.crop(inputs), inputs[:, 2:, 2:-2, 2:-2])


def test_logits_of_the_published_network_are_at_its_place_of_the_last_tensor() -> None:
    pick = Pick((48, 4, 4), 10, (2, 2))
    x = torch.randn(2, 48, 4, 4)
    assert torch.equal(pick(x)[0][:, :10], x[:, :10, 2, 2])


def test_the_imagenet_network_has_i_revnets_numbers_of_channels() -> None:
    network = architectures.imagenet()
    couplings = [m for m in network.modules() if isinstance(m, AdditiveCoupling)]
    assert len(couplings) == 6 + 16 + 72 + 6
    last = [list(c.net.modules())[-1] for c in couplings]
    assert [c.out_channels for c in last if isinstance(c, nn.Conv2d)] == (
        6 * [24] + 16 * [96] + 72 * [384] + 6 * [1536]
    )
    assert network.dimensions == 3 * 224 * 224


def test_likelihood_is_the_normal_density_of_the_code_times_the_volume() -> None:
    network = architectures.dense(4, steps=1, width=4)
    randomised(network)
    network.eval().double()
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    code, volume = network.encode_padded(x)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(torch.cat(code, 1)).sum(1)
    assert torch.allclose(network.log_likelihood(code, volume), normal + volume)


def test_logits_are_scaled_coordinates_of_the_code() -> None:
    model = irevnet.create(tiny=True)
    randomised(model.network)
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    semantic, nuisance = model.encode(images)
    assert semantic.shape == (5, 10)
    assert nuisance.shape == (5, 774)
    assert torch.equal(model(images), model.logits_of(semantic))
    other = model.decode(semantic, nuisance.roll(1, 0))
    assert float((model(other) - model(images)).abs().max()) < 1e-4
    assert float((other - images).abs().max()) > 0.1
    assert torch.isfinite(model.log_likelihood(images)).all()


def test_images_get_a_gradient_and_weights_do_not_change() -> None:
    model = irevnet.create(tiny=True, seed=3)
    images = torch.rand(2, 1, 28, 28).requires_grad_()
    model(images).logsumexp(1).sum().backward()
    assert images.grad is not None
    assert not any(p.requires_grad for p in model.network.parameters())
    assert not model.network.training


def test_bad_input_is_refused_with_what_was_wanted() -> None:
    model = irevnet.create(tiny=True)
    with pytest.raises(UsageError, match=r"wanted \(N, 1, 28, 28\)"):
        model(torch.rand(2, 3, 28, 28))
    with pytest.raises(UsageError, match=r"float32"):
        model.encode(torch.rand(2, 1, 28, 28).double())
    with pytest.raises(UsageError, match=r"wanted \(N, 10\) and \(N, 774\)"):
        model.decode(torch.rand(2, 10), torch.rand(2, 784))


def test_the_ice_network_is_irevnet_with_that_training() -> None:
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        models.create("irevnet_ice")(images), models.create("irevnet", training="ice-mle")(images)
    )


def test_missing_weights_say_how_to_train_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiltyard train fi_revnet48 --dataset mnist"):
        models.create("fi_revnet48")
    model = fi_revnet48.create(tiny=True)
    assert model.encode(torch.rand(1, 1, 28, 28))[1].shape == (1, 3062)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save(model.network.state_dict()))
    path.with_suffix(".json").write_text(f'{{"sha256": "{sha256_of(path)}"}}')
    with pytest.raises(UsageError, match="weights of another network"):
        irevnet.create(weights=str(path))
    again = fi_revnet48.create(weights=str(path), tiny=True)
    images = torch.rand(1, 1, 28, 28)
    assert torch.equal(again(images), model(images))


def test_codes_are_pairs() -> None:
    code = Code(torch.zeros(1, 2), torch.ones(1, 3))
    assert code.semantic.shape == (1, 2)
    assert code.nuisance.shape == (1, 3)
    assert math.prod(architectures.dense(6).image_shape) == 6
