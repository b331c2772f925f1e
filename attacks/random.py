"""Random numbers that belong to an image, so that its result does not depend on its neighbours.

Every image has a stream of its own, seeded by (seed, image id). The id may be that of a container's
sample just as well: a numpy attack that plays in a sandbox is given the same number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor


def image_seed(seed: int, image_id: str) -> int:
    """A 63-bit seed for one image: the start of BLAKE2b of "seed:image id"."""
    digest = hashlib.blake2b(f"{seed}:{image_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Draw(Protocol):
    def __call__(self, size: tuple[int, ...], /, *, generator: torch.Generator) -> Tensor: ...


class ImageRandom:
    """One random stream for each row of a batch.

    Args:
        seeds: one seed for each row, as made by `image_seed`.
        device: where the drawn tensors go. Numbers are always drawn on the CPU, so that a
            GPU run sees the same ones.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self._device = torch.device(device)
        self._streams = [torch.Generator().manual_seed(s) for s in self.seeds]

    @classmethod
    def of(cls, seed: int, ids: Iterable[str], device: torch.device | str = "cpu") -> ImageRandom:
        """Streams for the images with these ids."""
        return cls([image_seed(seed, image_id) for image_id in ids], device)

    def __len__(self) -> int:
        return len(self._streams)

    def normal(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, (len(rows), *shape) float32: row i from stream rows[i]."""
        return self._draw(rows, shape, torch.randn)

    def uniform(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1), (len(rows), *shape) float32."""
        return self._draw(rows, shape, torch.rand)

    def permutation(self, rows: Tensor, size: int) -> Tensor:
        """A permutation of range(size) for each row, (len(rows), size) int64."""
        drawn = [torch.randperm(size, generator=self._streams[r]) for r in rows.tolist()]
        empty = torch.empty(0, size, dtype=torch.int64)
        return (torch.stack(drawn) if drawn else empty).to(self._device)

    def _draw(self, rows: Tensor, shape: Sequence[int], draw: _Draw) -> Tensor:
        out = torch.empty(len(rows), *shape)
        for row, target in zip(rows.tolist(), out, strict=True):
            target.copy_(draw(tuple(shape), generator=self._streams[row]))
        return out.to(self._device)
