"""An invertible network as the zoo shows it: logits, codes, and the images behind codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..errors import UsageError
from ..wrappers import check_images
from .network import Code, InvertibleNetwork


@dataclass(frozen=True, eq=False)
class InvertibleClassifier:
    """A trained bijective network, in evaluation mode and frozen. Creating one freezes `network`.

    What it knows of an image is all there, in two parts: the semantic one, from which the logits
    are made, and the nuisance. Any two parts make an image again.
    """

    network: InvertibleNetwork

    def __post_init__(self) -> None:
        # No channels_last: torch 2.14's such convolutions corrupt memory with few channels.
        self.network.eval().requires_grad_(False)

    @property
    def bounds(self) -> tuple[float, float]:
        """Every value of an image lies in [0, 1]; of a decoded one it need not."""
        return (0.0, 1.0)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return cast("tuple[int, int, int]", tuple(self.network.image_shape))

    @property
    def classes(self) -> int:
        """K."""
        return self.network.classes

    def __call__(self, images: Tensor, /) -> Tensor:
        """Logits (N,K) of images (N,C,H,W) float32; `UsageError` for any other shape or dtype."""
        check_images(images, self.image_shape)
        logits: Tensor = self.network(images)
        return logits

    def encode(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Semantic part (N,K) and nuisance (N,D-K) of images (N,C,H,W) float32.

        D is C H W, or more where the network pads its images. Raises `UsageError` as a call.
        """
        check_images(images, self.image_shape)
        return self.network.encode(images)

    def decode(self, semantic: Tensor, nuisance: Tensor, /) -> Tensor:
        """The images (N,C,H,W) with these parts (N,K) and (N,D-K), as they are: not clipped.

        Where the network pads its images, they are cropped, and another image than theirs may be
        what was cut off: encode the result again to see.

        Raises:
            UsageError: other shapes.
        """
        wanted = (self.classes, self.network.dimensions - self.classes)
        n = len(semantic)
        if semantic.shape != (n, wanted[0]) or nuisance.shape != (n, wanted[1]):
            raise UsageError(
                f"got a semantic part of shape {tuple(semantic.shape)} and a nuisance of "
                f"{tuple(nuisance.shape)}; wanted (N, {wanted[0]}) and (N, {wanted[1]})"
            )
        return self.network.decode(Code(semantic, nuisance))

    def logits_of(self, semantic: Tensor) -> Tensor:
        """Logits (N,K) of semantic parts (N,K): each number scaled and shifted."""
        return self.network.logits(Code(semantic, torch.empty(len(semantic), 0)))

    def log_likelihood(self, images: Tensor) -> Tensor:
        """log p (N,) in nats of images (N,C,H,W); meaningful of networks trained with likelihood.

        The density is that of images with the training's noise, in images' units.
        """
        check_images(images, self.image_shape)
        return self.network.log_likelihood(*self.network.encode_padded(self.network.pad(images)))
