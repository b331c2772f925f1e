"""A bijective network as a classifier: output coordinates are logits, the rest is nuisance."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .bijections import Bijection


class Code(NamedTuple):
    """What the network makes of images: every number of them, in two parts."""

    semantic: Tensor
    """(N, K): what the logits are made of."""
    nuisance: Tensor
    """(N, D - K): all the rest."""


class InvertibleNetwork(nn.Module):
    """Images (N,C,H,W) in [0,1] <-> codes (N,D); logits are the first K numbers of a code.

    A batch norm stands between the two, as in the authors' public code: in evaluation mode a fixed
    scale and shift of each, which change nothing about what they tell. In training it keeps a
    network from lowering the cross-entropy by larger numbers alone.
    """

    def __init__(
        self,
        body: Bijection,
        *,
        classes: int,
        image_shape: tuple[int, ...],
        padded_shape: tuple[int, ...] | None = None,
    ) -> None:
        """
        Args:
            body: the bijection, from images to vectors (N, D).
            classes: K.
            image_shape: of one image.
            padded_shape: what `body` takes where that is larger (injective padding): zeros are
                added around the image and in front of its channels.
        """
        super().__init__()
        self.body = body
        self.classes = classes
        self.image_shape = image_shape
        self.padded_shape = image_shape if padded_shape is None else padded_shape
        self.readout = nn.BatchNorm1d(classes)

    @property
    def dimensions(self) -> int:
        """D."""
        return math.prod(self.padded_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.logits(self.encode(images))

    def encode(self, images: Tensor) -> Code:
        """The code of images (N, C, H, W)."""
        return self.encode_padded(self.pad(images))[0]

    def decode(self, code: Code) -> Tensor:
        """The images (N, C, H, W) with this code: not clipped; where padding was added, cropped."""
        return self.crop(self.decode_padded(code))

    def logits(self, code: Code) -> Tensor:
        """(N, K)."""
        logits: Tensor = self.readout(code.semantic)
        return logits

    def encode_padded(self, inputs: Tensor) -> tuple[Code, Tensor]:
        """Code of padded images, and log|det| (N,) in nats."""
        z, volume = self.body(inputs)
        return Code(z[:, : self.classes], z[:, self.classes :]), volume

    def decode_padded(self, code: Code) -> Tensor:
        """The padded images with this code, exactly."""
        return self.body.inverse(torch.cat(code, 1))

    def pad(self, images: Tensor) -> Tensor:
        """Zeros around, and in front of the channels."""
        if self.padded_shape == self.image_shape:
            return images
        channels, height, width = (
            big - small for big, small in zip(self.padded_shape, self.image_shape, strict=True)
        )
        around = (width // 2, width - width // 2, height // 2, height - height // 2)
        return F.pad(images, (*around, channels, 0))

    def crop(self, padded: Tensor) -> Tensor:
        """The image in the middle of a padded one."""
        if self.padded_shape == self.image_shape:
            return padded
        channels, height, width = self.image_shape
        top = (self.padded_shape[1] - height) // 2
        left = (self.padded_shape[2] - width) // 2
        return padded[:, -channels:, top : top + height, left : left + width]

    def log_likelihood(self, code: Code, volume: Tensor) -> Tensor:
        """log p (N,) in nats of what was encoded, under a standard normal prior of all numbers."""
        z = torch.cat(code, 1)
        return volume - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
