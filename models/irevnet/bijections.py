"""Bijective modules: each knows its inverse and the logarithm of its volume change.

A tensor goes in and one with as many numbers comes out; `Chain` puts several behind each other.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bijection(nn.Module, ABC):
    """A bijective map of tensors (N, ...), image by image."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (N, ...) and log|det dy/dx| (N,), in nats."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """The x with `forward(x)` = y; exact but for rounding in evaluation mode."""


class Chain(Bijection):
    """One bijection behind the other."""

    def __init__(self, parts: Iterable[Bijection]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = _zeros(x)
        for part in self.parts:
            x, volume = part(x)
            total = total + volume
        return x, total

    def inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            assert isinstance(part, Bijection)
            y = part.inverse(y)
        return y


class Squeeze(Bijection):
    """Space to channels: (N,C,H,W) -> (N,C f^2,H/f,W/f), channel c f^2 + f dy + dx."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, self.factor), _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        return F.pixel_shuffle(y, self.factor)


class Reverse(Bijection):
    """Channels (or numbers of a vector) in reversed order."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flip(1), _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        return y.flip(1)


class Swap(Bijection):
    """The second half of the channels before the first."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.roll(x.shape[1] // 2, 1), _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        return y.roll(-(y.shape[1] // 2), 1)


class Shuffle(Bijection):
    """The numbers of a vector (N,D) in a fixed random order, which is kept with the weights."""

    order: Tensor

    def __init__(self, dimensions: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("order", torch.randperm(dimensions, generator=generator))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, self.order], _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        return y[:, self.order.argsort()]


class Affine(Bijection):
    """2 x - 1: from [0, 1] to [-1, 1]."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x - 1, _zeros(x) + x[0].numel() * math.log(2)

    def inverse(self, y: Tensor) -> Tensor:
        return (y + 1) / 2


class ActNorm(Bijection):
    """(x + shift) exp(scale) for each channel (Kingma and Dhariwal 2018, arXiv 1807.03039).

    The first batch that it sees in training mode sets both so that its output has mean 0 and
    variance 1 in each channel. `limit` bounds |scale|, smoothly.
    """

    known: Tensor

    def __init__(self, channels: int, limit: float = 2.0) -> None:
        super().__init__()
        self.limit = limit
        self.shift = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and not bool(self.known):
            self._begin(x.detach())
        shift, scale = self._shaped(x)
        return (x + shift) * scale.exp(), _zeros(x) + scale.sum() * math.prod(x.shape[2:])

    def inverse(self, y: Tensor) -> Tensor:
        shift, scale = self._shaped(y)
        return y * (-scale).exp() - shift

    def _shaped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *(1 for _ in x.shape[2:]))
        bounded = self.limit * torch.tanh(self.scale / self.limit)
        return self.shift.view(shape), bounded.view(shape)

    @torch.no_grad()
    def _begin(self, x: Tensor) -> None:
        dims = [0, *range(2, x.ndim)]
        deviation = x.std(dims, correction=0).clamp_min(1e-6)
        wanted = (-deviation.log() / self.limit).clamp(-0.95, 0.95)
        self.shift.copy_(-x.mean(dims))
        self.scale.copy_(self.limit * torch.atanh(wanted))
        self.known.fill_(True)


class AdditiveCoupling(Bijection):
    """(a, b) -> (a + net(b), b), the halves of the channels (Dinh et al. 2014, arXiv 1410.8516).

    It is the first half that changes, so that a network's last coupling still bears on the numbers
    that are read in front. `net` keeps the shape of a half, and is never inverted.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, 1)
        return torch.cat([first + self.net(second), second], 1), _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        first, second = y.chunk(2, 1)
        return torch.cat([first - self.net(second), second], 1)


class Split(Bijection):
    """Half of the channels go on, the other half is done: (N,C,H,W) -> (N,CHW).

    `inner` takes the first half to a vector, and stands in front. The second half follows as what
    it differs from the mean that is expected of it given the first, in standard deviations, so that
    a standard normal prior of the whole vector is the conditional prior of arXiv 1807.03039.
    """

    def __init__(self, channels: int, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner
        self.expected = nn.Conv2d(channels // 2, channels, 3, padding=1)
        nn.init.zeros_(self.expected.weight)
        nn.init.zeros_(self.expected.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, 1)
        mean, scale = self._expected(first)
        inner, volume = self.inner(first)
        rest = (second - mean) * (-scale).exp()
        return torch.cat([inner, rest.flatten(1)], 1), volume - scale.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        half = y.shape[1] // 2
        first = self.inner.inverse(y[:, :half])
        mean, scale = self._expected(first)
        second = y[:, half:].view_as(mean) * scale.exp() + mean
        return torch.cat([first, second], 1)

    def _expected(self, first: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self.expected(first).chunk(2, 1)
        return mean, 2 * torch.tanh(scale / 2)


class Flatten(Bijection):
    """(N,*shape) -> (N,D)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        return y.view(-1, *self.shape)


class Spectrum(Bijection):
    """Orthonormal two-dimensional DCT-II of each channel: (N,C,H,W) -> (N,CHW).

    The DC coefficients of all channels come first. They are the channels' sums over sqrt(HW), so
    that reading them is average pooling that loses nothing (arXiv 1811.00401, section 2.1).
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, height, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        down, across = self._bases(x)
        waves = (down @ x @ across.T).flatten(2)  # (N,C,HW), DC in front
        return waves.transpose(1, 2).flatten(1), _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        channels, height, width = self.shape
        down, across = self._bases(y)
        waves = y.view(-1, height * width, channels).transpose(1, 2)
        return down.T @ waves.reshape(-1, channels, height, width) @ across

    def _bases(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(_dct(n, x.dtype, x.device) for n in self.shape[1:])  # type: ignore[return-value]


class Pick(Bijection):
    """(N,C,H,W) -> (N,CHW), the first `count` channels at one place in front of the rest."""

    def __init__(self, shape: tuple[int, int, int], count: int, place: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        _, height, width = shape
        first = [channel * height * width + place[0] * width + place[1] for channel in range(count)]
        rest = sorted(set(range(math.prod(shape))) - set(first))
        self.register_buffer("order", torch.tensor(first + rest), persistent=False)

    order: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1)[:, self.order], _zeros(x)

    def inverse(self, y: Tensor) -> Tensor:
        x = torch.empty_like(y)
        x[:, self.order] = y
        return x.view(-1, *self.shape)


def _zeros(x: Tensor) -> Tensor:
    return x.new_zeros(len(x))


@lru_cache(maxsize=32)
def _dct(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II of a length: (frequencies, places), rounded from float64."""
    places = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    basis = torch.cos(torch.arange(size, dtype=torch.float64)[:, None] * places)
    basis *= math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis.to(dtype=dtype, device=device)
