"""The samples of the prior that inference starts from, looked up by one product for all classes.

8,000 latents, the same for every class, are decoded once. Of the images only coordinates along the
96 directions that hold most of their variance are kept: (x - r)^2 = x^2 + r^2 - 2 x r needs r^2,
which is kept exactly, and x r, whose rest outside of these directions is small. That is 31 MB
instead of 251 MB, and an eighth of the product.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ..weights import sha256_of_tensors, user_folder, write_whole
from .decoder import Decoders
from .network import LATENTS

SAMPLES = 8000
DISMISSED = 0.1
"""Of the latents drawn, the share of lowest density that is not used."""

SEED = 1234
DIRECTIONS = 96
METRICS = 64
"""Samples of each class whose curvature is averaged."""

FORMAT = 1
"""Of a bank on disk; a change makes older ones absent."""

CHUNK = 50
"""Images decoded at a time: what fits a processor's cache."""


@dataclass(frozen=True, eq=False)
class Bank:
    """S latents decoded by C classes."""

    latents: Tensor
    """(S, 8)."""
    directions: Tensor
    """(784, K), orthonormal."""
    coordinates: Tensor
    """(C, S, K): of the decoded images."""
    energies: Tensor
    """(C, S): their squared L2 norms."""
    metrics: Tensor
    """(C, 8, 8): the mean of 2 J^T J over samples, J the decoder's Jacobian."""

    def nearest(self, images: Tensor, prior: float) -> Tensor:
        """Samples (N, C) of lowest |x - r|^2 + prior/2 |z|^2 for images (N, 784) and each class."""
        classes, samples = self.energies.shape
        costs = self.energies + prior / 2 * self.latents.square().sum(1)
        flat = self.coordinates.flatten(0, 1).t()
        found = [
            torch.addmm(costs.flatten(), part @ self.directions, flat, alpha=-2.0)
            .view(-1, classes, samples)
            .argmin(2)
            for part in images.split(CHUNK)
        ]
        return torch.cat(found)

    def inverse_hessians(self, prior: float) -> Tensor:
        """(C, 8, 8): of the objective, on the average."""
        # A little more than the prior keeps what is flat without it invertible.
        diagonal = torch.eye(LATENTS) * max(prior, 0.1)
        inverse: Tensor = torch.linalg.inv(self.metrics + diagonal)
        return inverse

    @property
    def megabytes(self) -> float:
        """Memory that it takes."""
        kept = (self.latents, self.directions, self.coordinates, self.energies, self.metrics)
        return sum(tensor.numel() * tensor.element_size() for tensor in kept) / 1e6


def draw(samples: int, seed: int = SEED) -> Tensor:
    """(samples, 8): of a tenth more standard normal draws those of highest density."""
    drawn = torch.randn(
        int(samples / (1 - DISMISSED)), LATENTS, generator=torch.Generator().manual_seed(seed)
    )
    return drawn[drawn.square().sum(1).argsort(stable=True)[:samples]]


def bank_of(decoders: Decoders, samples: int = SAMPLES) -> Bank:
    """Made now, or read from the user's cache folder where it was made before."""
    place = _place(decoders, samples)
    try:
        return Bank(**load_file(place))
    except Exception:  # absent, torn, unreadable, another format: it is made again
        made = make(decoders, samples)
    with suppress(OSError):  # a cache that cannot be written costs time only
        write_whole(place, save({k: v.contiguous() for k, v in vars(made).items()}))
    return made


def make(decoders: Decoders, samples: int = SAMPLES) -> Bank:
    """Decode every sample by every class (about 25 CPU seconds for 8,000 and ten classes)."""
    latents = draw(samples)
    single = [decoders.take([c]) for c in range(decoders.groups)]
    measured = latents[:: max(samples // METRICS, 1)]
    with torch.no_grad():
        images = torch.stack([decoded(decoder, latents) for decoder in single])
        second = torch.einsum("csd,cse->de", images, images)
        directions = torch.linalg.eigh(second.double()).eigenvectors[:, -DIRECTIONS:]
        directions = directions.flip(1).float().contiguous()
        return Bank(
            latents=latents,
            directions=directions,
            coordinates=images @ directions,
            energies=images.square().sum(2),
            metrics=torch.stack([_metric(decoder, measured) for decoder in single]),
        )


def decoded(decoder: Decoders, latents: Tensor) -> Tensor:
    """Images (n, 784) of latents (n, 8) by a single class."""
    parts = [decoder.decode(part.unsqueeze(1)).images[:, 0] for part in latents.split(CHUNK)]
    return torch.cat(parts)


def _metric(decoder: Decoders, latents: Tensor, width: float = 0.02) -> Tensor:
    """The mean of 2 J^T J (8, 8), by central differences."""
    columns = [
        (decoded(decoder, latents + move) - decoded(decoder, latents - move)) / (2 * width)
        for move in torch.eye(LATENTS) * width
    ]
    jacobian = torch.stack(columns, dim=2)
    return 2 * (jacobian.transpose(1, 2) @ jacobian).mean(0)


def _place(decoders: Decoders, samples: int) -> Path:
    digest = sha256_of_tensors(decoders.tensors())
    return user_folder().parent / "banks" / f"abs-{FORMAT}-{samples}-{digest[:32]}.safetensors"
