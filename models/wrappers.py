"""What an attack meets: a network frozen in evaluation mode, and a view of its decisions only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import UsageError

Bounds = tuple[float, float]

Network = TypeVar("Network", bound=nn.Module)


class Normalise(nn.Module):
    """(x - mean) / std for each channel, inside the model so that attacks see [0,1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier that cannot be changed by accident: evaluation mode, parameters frozen.

    Gradients still flow to the images. Creating one freezes `module` itself.
    """

    module: nn.Module
    """Images in [0,1] (N,C,H,W) -> logits (N,K), normalisation included."""
    image_shape: tuple[int, int, int]
    """(C,H,W) of one image."""
    classes: int
    """K."""

    def __post_init__(self) -> None:
        # channels_last weights made the small convolutions 1.1 to 1.8 times faster on a CPU.
        self.module.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def bounds(self) -> Bounds:
        """Every value of an image lies in [0, 1]."""
        return (0.0, 1.0)

    def __call__(self, images: Tensor, /) -> Tensor:
        """Logits (N,K) of images (N,C,H,W) float32; `UsageError` for any other shape or dtype."""
        check_images(images, self.image_shape)
        logits: Tensor = self.module(images)
        return logits


def check_images(images: Tensor, shape: tuple[int, int, int]) -> None:
    """`UsageError` unless images are (N, *shape) float32."""
    if images.ndim != 4 or images.shape[1:] != shape:
        raise UsageError(
            f"got images of shape {tuple(images.shape)}, wanted (N, {', '.join(map(str, shape))})"
        )
    if images.dtype != torch.float32:
        raise UsageError(
            f"got images of {images.dtype}, wanted torch.float32 in [0,1]; "
            "bytes become that by `images.float() / 255`"
        )


class _Model(Protocol):
    @property
    def bounds(self) -> Bounds: ...

    def __call__(self, images: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class DecisionOnly:
    """A model seen through its decisions: one-hot logits, and no gradient to follow."""

    model: _Model

    @property
    def bounds(self) -> Bounds:
        """Those of the model behind."""
        return self.model.bounds

    def __call__(self, images: Tensor, /) -> Tensor:
        """float32 (N,K): 1 for the class that is decided on, 0 for every other."""
        with torch.no_grad():
            logits = self.model(images)
            return F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(torch.float32)


def seeded(seed: int, build: Callable[[], Network]) -> Network:
    """What `build` returns when torch's generator starts from `seed`; the caller's is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()
