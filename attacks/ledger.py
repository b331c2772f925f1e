"""The ledger of a match: every question that was asked, in its order, with the answer.

It holds no images: the row, the number of the question, the model's label, and the distance of what
was asked. That is enough to find the verdicts of a match again (`replay`), and its curves.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Entries(NamedTuple):
    """Q questions in the order in which they were asked.

    Attributes:
        rows: (Q,) int32, the image that each is about.
        numbers: (Q,) int32, how many of that image's queries had been spent with it.
        labels: (Q,) int32, the model's answers.
        distances: (Q,) float32 from the clean image, in the norm that counts.
    """

    rows: NDArray[np.int32]
    numbers: NDArray[np.int32]
    labels: NDArray[np.int32]
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class Replayed:
    """What the ledger says of one image.

    Attributes:
        queries: how many were asked.
        trace: (queries, distance) of each adversarial that was nearer than all before it.
    """

    queries: int
    trace: tuple[tuple[int, float], ...]

    @property
    def distance(self) -> float:
        """Of the nearest adversarial asked; infinite where there is none."""
        return self.trace[-1][1] if self.trace else float("inf")


class Ledger:
    """Takes down questions. `at` gives a part of it that counts its rows otherwise."""

    def __init__(self) -> None:
        self._parts: list[Entries] = []
        self._places: Tensor | None = None

    def at(self, places: Tensor | Sequence[int]) -> Ledger:
        """The same ledger for a batch: its row i is this one's row places[i]."""
        made = Ledger()
        made._parts = self._parts
        inner = torch.as_tensor(places, dtype=torch.int64)
        made._places = inner if self._places is None else self._places[inner]
        return made

    def add(self, rows: Tensor, numbers: Tensor, labels: Tensor, distances: Tensor) -> None:
        """Take down n questions: rows, numbers and labels (n,) int64, distances (n,) float32."""
        places = rows if self._places is None else self._places[rows]
        self._parts.append(
            Entries(
                places.numpy().astype(np.int32),
                numbers.numpy().astype(np.int32),
                labels.numpy().astype(np.int32),
                distances.detach().numpy().astype(np.float32),
            )
        )

    def entries(self) -> Entries:
        """All questions so far."""
        nothing = np.empty(0, np.int32)
        parts = [Entries(nothing, nothing, nothing, np.empty(0, np.float32)), *self._parts]
        return Entries(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.distances for part in parts]),
        )


def dumps(entries: Entries) -> bytes:
    """The entries as a compressed .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **entries._asdict())
    return buffer.getvalue()


def loads(data: bytes) -> Entries:
    """The inverse of `dumps`. Raises ValueError for anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = Entries(*(arrays[name] for name in Entries._fields))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"not a ledger: {error}") from error
    if len({part.shape for part in found}) != 1 or found.rows.ndim != 1:
        raise ValueError("not a ledger: its columns differ in length")
    return found


def replay(
    entries: Entries, labels: Sequence[int], targets: Sequence[int] | None = None
) -> list[Replayed]:
    """The verdicts of a match again, for each of N images, from what was asked alone.

    Args:
        entries: every question of the match.
        labels: (N,) true labels.
        targets: (N,) wanted labels of a targeted match.

    Raises:
        ValueError: a question about an image that there is not, or one whose number is not that of
            the next question about its image: something is missing, or stands there twice.
    """
    asked = [0] * len(labels)
    traces: list[list[tuple[int, float]]] = [[] for _ in labels]
    for row, number, label, far in zip(*(part.tolist() for part in entries), strict=True):
        if not 0 <= row < len(labels):
            raise ValueError(f"a question is about image {row} of {len(labels)}")
        asked[row] += 1
        if number != asked[row]:
            raise ValueError(f"question {asked[row]} about image {row} has the number {number}")
        adversarial = label != labels[row] if targets is None else label == targets[row]
        trace = traces[row]
        if adversarial and (not trace or far < trace[-1][1]):
            trace.append((number, far))
    return [Replayed(n, tuple(trace)) for n, trace in zip(asked, traces, strict=True)]
