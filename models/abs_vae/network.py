"""The ten variational autoencoders of ABS in the published shape (Schott et al. 2018, 1805.09190).

Layer sizes are those of the authors' public code and weights: 85,361 numbers a class, of which the
decoder has 23,745. (The paper's text gives the last decoder kernel as 3; the weights have 4.)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_SHAPE = (1, 28, 28)
CLASSES = 10
LATENTS = 8

Layers = tuple[tuple[int, int, int], ...]

ENCODER: Layers = ((5, 1, 32), (4, 2, 32), (3, 2, 64), (5, 1, 2 * LATENTS))
DECODER: Layers = ((4, 1, 32), (5, 2, 16), (5, 2, 16), (4, 1, 1))
"""Kernel, stride and output maps of each layer: 28, 24, 11, 5, 1 pixels a side, and back by 1, 4,
11, 25, 28. Batch norm and ELU follow all but the last."""


class Stack(nn.Module):
    """Four convolutions, or transposed ones, with batch norm and ELU after the first three."""

    def __init__(
        self,
        layers: Layers,
        maps: int,
        kind: type[nn.Conv2d] | type[nn.ConvTranspose2d],
    ) -> None:
        super().__init__()
        last = len(layers) - 1
        for place, (kernel, stride, out) in enumerate(layers):
            self.add_module(f"conv_{place}", kind(maps, out, kernel, stride=stride))
            if place < last:
                self.add_module(f"bn_{place}", nn.BatchNorm2d(out))
            maps = out
        self.last = last

    def forward(self, values: Tensor) -> Tensor:
        """(N, maps, H, W) -> the last layer's linear output."""
        for place in range(self.last):
            values = self._convolved(place, values)
            values = F.elu(self.get_submodule(f"bn_{place}")(values))
        return self._convolved(self.last, values)

    def _convolved(self, place: int, values: Tensor) -> Tensor:
        layer = self.get_submodule(f"conv_{place}")
        if isinstance(layer, nn.ConvTranspose2d):
            assert layer.bias is not None
            # Inside torch's transposed convolution on a CPU the bias doubles its time.
            out = F.conv_transpose2d(values, layer.weight, stride=layer.stride)
            return out + layer.bias.view(1, -1, 1, 1)
        convolved: Tensor = layer(values)
        return convolved


class VAE(nn.Module):
    """One class: images (N,1,28,28) in [0,1] to a normal of 8 latents, and latents to images.

    `narrow` divides the widths of all layers between, for dwarfs.
    """

    def __init__(self, narrow: int = 1) -> None:
        super().__init__()
        self.encoder = Stack(_narrowed(ENCODER, narrow), IMAGE_SHAPE[0], nn.Conv2d)
        self.decoder = Stack(_narrowed(DECODER, narrow), LATENTS, nn.ConvTranspose2d)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, (N,8) each."""
        mean, log_variance = self.encoder(images).flatten(1).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Images (N,1,28,28) in (0,1) of latents (N,8)."""
        return torch.sigmoid(self.decoder(latents[:, :, None, None]))

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (N,1,28,28) from a sampled latent, mean and log-variance (N,8).

        `noise` (N,8) is standard normal.
        """
        mean, log_variance = self.encode(images)
        return self.decode(mean + noise * torch.exp(log_variance / 2)), mean, log_variance


class Autoencoders(nn.Module):
    """One `VAE` a class, each with weights of its own."""

    def __init__(self, classes: int = CLASSES, *, narrow: int = 1) -> None:
        super().__init__()
        self.vaes = nn.ModuleList(VAE(narrow) for _ in range(classes))

    def __iter__(self) -> Iterator[VAE]:
        for vae in self.vaes:
            assert isinstance(vae, VAE)
            yield vae


def _narrowed(layers: Layers, by: int) -> Layers:
    *between, (kernel, stride, out) = layers
    narrow = [(k, s, max(maps // by, 1)) for k, s, maps in between]
    return (*narrow, (kernel, stride, out))
