"""Random numbers by counting: the same for an image in any batch, on any device.

A number is a hash of the image's seed, a stream and a place (SplitMix64: Steele, Lea, Flood 2014,
"Fast splittable pseudorandom number generators"), in torch's 64-bit integers, which wrap around.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

AT_ONCE = 1 << 17
"""Numbers hashed together: as many as stay in a processor's cache."""


def _signed(value: int) -> int:
    """The same 64 bits as a signed number, as torch has them."""
    return value - (1 << 64) if value >= 1 << 63 else value


_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def seeds(ids: Sequence[str], *, seed: int = 0) -> Tensor:
    """Seeds int64 (N,) of images by their ids; another `seed` gives others."""
    digests = (hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8] for name in ids)
    return torch.tensor([int.from_bytes(d, "little", signed=True) for d in digests])


def uniform(of: Tensor, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0,1), multiples of 2^-24: float32 (N, *shape) for seeds (N,).

    Two come from each hash, from its lower and its upper half.
    """
    count = math.prod(shape)
    drawn = torch.empty(len(of), count, device=of.device)
    for rows, hashed in _hashes(of, stream, (count + 1) // 2):
        halves = hashed.view(torch.int32)[:, :count]
        drawn[rows] = ((halves >> 8) & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)
    return drawn.view(len(of), *shape)


def normal_pairs(of: Tensor, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, two by two: complex64 (N, *shape) for seeds (N,).

    Real and imaginary part both have variance 1 (Box and Muller 1958).
    """
    drawn = torch.empty(len(of), math.prod(shape), dtype=torch.complex64, device=of.device)
    for rows, hashed in _hashes(of, stream, math.prod(shape)):
        radius = (1.0 - _upper(hashed)).log_().mul_(-2).sqrt_()  # 1 - u is never 0
        angle = ((hashed >> 16) & 0xFFFFFF).to(torch.float32).mul_(2 * math.pi / (1 << 24))
        drawn[rows] = torch.polar(radius, angle)
    return drawn.view(len(of), *shape)


def _upper(hashed: Tensor) -> Tensor:
    return ((hashed >> 40) & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def _hashes(of: Tensor, stream: str, count: int) -> Iterator[tuple[slice, Tensor]]:
    """int64 (n, count) for a few seeds at a time, with the rows that they are for."""
    places = torch.arange(1, count + 1, device=of.device) * _STEP
    own = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little", signed=True)
    starts = _mixed(of ^ own)
    together = max(1, AT_ONCE // max(count, 1))
    for first in range(0, len(of), together):
        rows = slice(first, first + together)
        yield rows, _mixed(starts[rows, None] + places)


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser; `&` clears what an arithmetic shift drags in."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _FIRST
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _SECOND
    return x ^ ((x >> 31) & ((1 << 33) - 1))
