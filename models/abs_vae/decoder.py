"""The decoders of several classes as one, for inference: frozen, derivatives written by hand.

A decoder is an 8 -> 512 linear map, two transposed convolutions with stride 2, and a last one with
a single output map, which is a product with a 16x16 matrix and an overlap-add. In evaluation mode
batch norm is affine and goes into the weights. Classes are groups of one convolution. Images travel
with channels last. Biases are added apart: inside torch's transposed convolution on a CPU they
double its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import IMAGE_SHAPE, VAE, Stack

SIDE = IMAGE_SHAPE[1]
PIXELS = SIDE * SIDE
_LAST = torch.channels_last


class Trace(NamedTuple):
    """What the way back needs of the way there: the outputs of every layer."""

    first: Tensor
    """(m, G*32, 4, 4)."""
    second: Tensor
    """(m, G*16, 11, 11)."""
    third: Tensor
    """(m, G*16, 25, 25)."""
    images: Tensor
    """(m, G, 784) in (0, 1)."""


class Decoders:
    """G classes: latents (m, G, 8) -> images (m, G, 784) in (0, 1), and gradients the way back."""

    def __init__(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor], *, side: int, kernel: int
    ) -> None:
        self._weights, self._biases = tuple(weights), tuple(biases)
        self.groups, self.side, self.kernel = len(weights[0]), side, kernel
        self.first = weights[0]
        self.first_bias = biases[0].unsqueeze(1)
        self.second, self.third, self.last = (
            weight.flatten(0, 1).permute(0, 3, 1, 2) for weight in weights[1:]
        )
        self.second_bias, self.third_bias = (bias.view(1, -1, 1, 1) for bias in biases[1:3])
        self.spread = weights[3].flatten(2).transpose(1, 2).contiguous()
        self.last_bias = biases[3].view(1, -1, 1)

    @classmethod
    def of(cls, vaes: Sequence[VAE]) -> Decoders:
        """All the decoders of some VAEs, in their order; later changes of those don't matter."""
        with torch.no_grad():
            layers = [[_folded(vae.decoder, place) for place in range(4)] for vae in vaes]
            weights = [torch.stack([layer[k][0] for layer in layers]) for k in range(4)]
            biases = [torch.stack([layer[k][1] for layer in layers]) for k in range(4)]
            side = weights[0].shape[3]
            first = weights[0].permute(0, 1, 3, 4, 2).flatten(2)
            weights = [first, *(weight.permute(0, 1, 3, 4, 2) for weight in weights[1:])]
            biases[0] = biases[0].repeat(1, side * side)
            return cls(
                [weight.contiguous() for weight in weights],
                biases,
                side=side,
                kernel=weights[3].shape[2],
            )

    def take(self, classes: Sequence[int]) -> Decoders:
        """Those of some classes, in that order."""
        rows = list(classes)
        return Decoders(
            [weight[rows] for weight in self._weights],
            [bias[rows] for bias in self._biases],
            side=self.side,
            kernel=self.kernel,
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """All numbers that decide what is decoded, in a fixed order."""
        return (*self._weights, *self._biases)

    def decode(self, latents: Tensor) -> Trace:
        """Images of latents (m, G, 8), with all that `pull_back` needs."""
        m, g = latents.shape[:2]
        first = torch.baddbmm(self.first_bias, latents.transpose(0, 1), self.first)
        first = first.view(g, m, self.side, self.side, -1).permute(1, 0, 4, 2, 3)
        first = _elu_(first.flatten(1, 2).contiguous(memory_format=_LAST))
        second = F.conv_transpose2d(first, self.second, stride=2, groups=g)
        second = _elu_(second.add_(self.second_bias))
        third = F.conv_transpose2d(second, self.third, stride=2, groups=g)
        third = _elu_(third.add_(self.third_bias))
        spread = torch.matmul(self.spread, third.flatten(2).unflatten(1, (g, -1)))
        images = F.fold(spread.flatten(0, 1), (SIDE, SIDE), self.kernel).view(m, g, PIXELS)
        return Trace(first, second, third, images.add_(self.last_bias).sigmoid_())

    def pull_back(self, trace: Trace, change: Tensor) -> Tensor:
        """Gradients (m, G, 8) by the latents of what has gradients change (m, G, 784) by images."""
        m, g = change.shape[:2]
        back = change * trace.images * (1 - trace.images)
        third = F.conv2d(back.view(m, g, SIDE, SIDE), self.last, groups=g)
        second = F.conv2d(_through_elu(third, trace.third), self.third, stride=2, groups=g)
        first = F.conv2d(_through_elu(second, trace.second), self.second, stride=2, groups=g)
        first = _through_elu(first, trace.first)
        flat = first.unflatten(1, (g, -1)).permute(1, 0, 3, 4, 2).reshape(g, m, -1)
        return torch.bmm(flat, self.first.transpose(1, 2)).transpose(0, 1)


def _elu_(values: Tensor) -> Tensor:
    """ELU in place, by the plain exponential: half the time of expm1, exact to 6e-8."""
    return torch.maximum(values, values.clamp_max(0.0).exp_().sub_(1.0), out=values)


def _through_elu(change: Tensor, out: Tensor) -> Tensor:
    """change, in place, times ELU's slope told from its output: 1 where positive, else 1 + out."""
    return change.addcmul_(change, out.clamp_max(0.0))


def _folded(stack: Stack, place: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of a transposed convolution and the batch norm behind it, if any."""
    layer = stack.get_submodule(f"conv_{place}")
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer.bias is not None
    if place == stack.last:
        return layer.weight, layer.bias
    norm = stack.get_submodule(f"bn_{place}")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return layer.weight * scale.view(1, -1, 1, 1), (
        layer.bias - norm.running_mean
    ) * scale + norm.bias
