"""Autoencoders with random weights that decode to images worth explaining."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from models import abs as zoo
from models.abs_vae.bank import Bank, make
from models.abs_vae.classifier import AnalysisBySynthesis
from models.abs_vae.decoder import Decoders
from models.abs_vae.network import LATENTS, VAE, Autoencoders
from models.wrappers import seeded

CLASSES = 3
SAMPLES = 200


@pytest.fixture(autouse=True, scope="module")
def _a_cache_folder_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILTYARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def randomised(vae: VAE, generator: torch.Generator) -> None:
    """Statistics of batch norm that are not 0 and 1, and contrast in the images."""
    with torch.no_grad():
        for layer in vae.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                for tensor, low, high in (
                    (layer.running_mean, -0.2, 0.2),
                    (layer.running_var, 0.02, 0.1),
                    (layer.weight, 0.5, 1.5),
                    (layer.bias, -0.3, 0.3),
                ):
                    tensor.uniform_(low, high, generator=generator)
        last = vae.decoder.get_submodule("conv_3")
        assert isinstance(last, nn.ConvTranspose2d)
        last.weight.mul_(4.0)


@pytest.fixture(scope="session")
def autoencoders() -> Autoencoders:
    """Dwarfs of three classes, in evaluation mode."""
    network = seeded(0, lambda: Autoencoders(CLASSES, narrow=8))
    generator = torch.Generator().manual_seed(1)
    for vae in network:
        randomised(vae, generator)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def decoders(autoencoders: Autoencoders) -> Decoders:
    return Decoders.of(list(autoencoders))


@pytest.fixture(scope="session")
def bank(decoders: Decoders) -> Bank:
    return make(decoders, SAMPLES)


@pytest.fixture(scope="session")
def model(autoencoders: Autoencoders) -> AnalysisBySynthesis:
    """ABS of the dwarfs."""
    return assembled(autoencoders)


@pytest.fixture(scope="session")
def binary(autoencoders: Autoencoders) -> AnalysisBySynthesis:
    """Binary ABS of the dwarfs."""
    return assembled(autoencoders, binary=True)


def assembled(network: Autoencoders, *, binary: bool = False) -> AnalysisBySynthesis:
    calibration: dict[str, object] = {"scale": 440.0, "class_scales": [1.0, 0.98, 1.03]}
    return zoo.assemble(network, calibration, binary=binary, inference="full", samples=SAMPLES)


@pytest.fixture(scope="session")
def labels() -> Tensor:
    """(12,) int64."""
    return torch.arange(12) % CLASSES


@pytest.fixture(scope="session")
def images(autoencoders: Autoencoders, labels: Tensor) -> Tensor:
    """(12, 1, 28, 28): decoded by the class of the label, with a little noise."""
    generator = torch.Generator().manual_seed(2)
    vaes = list(autoencoders)
    decoded = [
        vaes[label].decode(torch.randn(1, LATENTS, generator=generator))
        for label in labels.tolist()
    ]
    clean = torch.cat(decoded)
    return (clean + 0.1 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
