"""What a data set is: ids, pixels, labels and class names, always in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class Batch(NamedTuple):
    """A few consecutive images of a data set."""

    ids: list[str]
    """N stable ids."""
    images: Tensor
    """float32 (N,C,H,W) in [0,1]."""
    targets: Tensor
    """int64 (N,)."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a labelled image collection, held in memory as bytes.

    `pixels` is the truth (uint8, as images are stored and sent); `images` is the same in
    torch's layout. Equality is by identity: compare `fingerprint()` to compare contents.
    """

    name: str
    """The name it is asked for by, with dashes, such as `tiny-imagenet-avc`."""
    split: str
    """`train` or `test`."""
    ids: tuple[str, ...]
    """N ids, unique over all splits, safe as file names."""
    pixels: NDArray[np.uint8]
    """uint8 (N,H,W,C)."""
    labels: NDArray[np.int64]
    """int64 (N,), indices into `class_names`."""
    class_names: tuple[str, ...]
    """K names that people can read."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.pixels.shape[:1] != (n,) or self.pixels.ndim != 4 or self.labels.shape != (n,):
            raise ValueError(
                f"data set {self.name}: {n} ids, pixels {self.pixels.shape} and labels "
                f"{self.labels.shape} do not belong together; wanted (N,H,W,C) and (N,)"
            )
        if self.pixels.dtype != np.uint8 or self.labels.dtype != np.int64:
            raise ValueError(
                f"data set {self.name}: pixels are {self.pixels.dtype} and labels "
                f"{self.labels.dtype}; wanted uint8 and int64"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images(self) -> Tensor:
        """All images as a new float32 tensor (N,C,H,W) in [0,1]."""
        return _images(self.pixels)

    @property
    def targets(self) -> Tensor:
        """All labels as a new int64 tensor (N,)."""
        import torch

        return torch.from_numpy(self.labels.copy())

    def take(self, n: int) -> Dataset:
        """The first `n` images (all of them when there are fewer)."""
        if n < 0:
            raise ValueError(f"take: got {n}, wanted a number of images >= 0")
        return replace(self, ids=self.ids[:n], pixels=self.pixels[:n], labels=self.labels[:n])

    def batches(self, size: int) -> Iterator[Batch]:
        """All images in order, `size` at a time; the last batch may be smaller."""
        import torch

        if size < 1:
            raise ValueError(f"batches: got a batch size of {size}, wanted >= 1")
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield Batch(
                list(self.ids[rows]),
                _images(self.pixels[rows]),
                torch.from_numpy(self.labels[rows].copy()),
            )

    def fingerprint(self) -> str:
        """sha256 (hex) of ids, labels and pixels in their order: equal means the same images."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(self.pixels).tobytes())
        return digest.hexdigest()


def _images(pixels: NDArray[np.uint8]) -> Tensor:
    import torch

    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return torch.from_numpy(planes).to(torch.float32).div_(255.0)


def interleaved(ids: Sequence[str], labels: NDArray[np.int64]) -> list[int]:
    """Indices that take one image of each class in turn, so that any first n are balanced.

    Within a class the order is that of sha256(id): arbitrary, but the same for ever and
    without any random number library. Classes that run out are skipped.
    """
    rank: dict[int, int] = {}
    turns: list[tuple[int, int, int]] = []
    for index in sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).digest()):
        label = int(labels[index])
        turns.append((rank.get(label, 0), label, index))
        rank[label] = rank.get(label, 0) + 1
    return [index for _, _, index in sorted(turns)]


def split_by_hash(
    ids: Sequence[str], labels: NDArray[np.int64], test_fraction: float
) -> tuple[list[int], list[int]]:
    """(train, test) indices of a fixed stratified split, for collections published without one.

    Of every class the `round(test_fraction * n)` images whose sha256(id) is smallest are test;
    both halves are interleaved by class. Nothing but the ids and the labels decides.
    """
    counts = np.bincount(labels)
    quota = [round(test_fraction * int(n)) for n in counts]
    seen = [0] * len(quota)
    train: list[int] = []
    test: list[int] = []
    for index in interleaved(ids, labels):
        label = int(labels[index])
        (test if seen[label] < quota[label] else train).append(index)
        seen[label] += 1
    # Classes of unequal size leave a train half that no longer begins with one of each.
    again = interleaved([ids[i] for i in train], labels[train])
    return [train[i] for i in again], test


def select(
    indices: Sequence[int],
    *,
    name: str,
    split: str,
    ids: Sequence[str],
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
) -> Dataset:
    """The `Dataset` of these rows, in this order."""
    rows = np.asarray(indices, dtype=np.int64)
    return Dataset(
        name=name,
        split=split,
        ids=tuple(ids[i] for i in indices),
        pixels=np.ascontiguousarray(pixels[rows]),
        labels=np.ascontiguousarray(labels[rows].astype(np.int64)),
        class_names=tuple(class_names),
    )
