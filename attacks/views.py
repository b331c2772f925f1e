"""A part of a batch behind the same meter: what an ensemble gives to each of its attacks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import BudgetExhausted
from .oracle import Oracle, Verdict
from .types import Bounds


class View(Oracle):
    """Some rows of an oracle, numbered from 0. Everything is asked of, and counted by, the whole.

    Args:
        whole: the oracle.
        rows: (n,) int64, different rows of it.
        budget: further queries that each of these images may cost through this view, where that
            is less than what the whole has left: one number, or one for each row (n,) int64.
    """

    def __init__(self, whole: Oracle, rows: Tensor, *, budget: int | Tensor | None = None) -> None:
        self._whole = whole
        self._rows = rows
        self.criterion = whole.criterion.take(rows)
        self.norm = whole.norm
        self.access = whole.access
        self.quantised = whole.quantised
        self.pool = whole.pool
        self.budget = whole.budget
        self._limit = None if budget is None else whole.queries[rows] + budget

    @property
    def bounds(self) -> Bounds:
        return self._whole.bounds

    @property
    def queries(self) -> Tensor:
        return self._whole.queries[self._rows]

    @property
    def gradients(self) -> Tensor:
        return self._whole.gradients[self._rows]

    @property
    def best(self) -> Tensor:
        return self._whole.best[self._rows]

    @property
    def best_distance(self) -> Tensor:
        return self._whole.best_distance[self._rows]

    def remaining(self) -> Tensor:
        left = self._whole.remaining()[self._rows]
        return left if self._limit is None else torch.minimum(left, self._limit - self.queries)

    def scores(self, images: Tensor, rows: Tensor) -> Tensor:
        return self._asking(self._whole.scores, images, rows)

    def labels(self, images: Tensor, rows: Tensor) -> Tensor:
        return self._asking(self._whole.labels, images, rows)

    def logits(self, images: Tensor, rows: Tensor) -> Tensor:
        return self._asking(self._whole.logits, images, rows)

    def record(self, row: int, image: Tensor) -> Verdict:
        return self._whole.record(int(self._rows[row]), image)

    def note(self, row: int, text: str) -> None:
        self._whole.note(int(self._rows[row]), text)

    def _asking(
        self, ask: Callable[[Tensor, Tensor], Tensor], images: Tensor, rows: Tensor
    ) -> Tensor:
        if self._limit is not None:
            counts = torch.bincount(rows, minlength=len(self._rows))
            over = (counts > 0) & (self.queries + counts > self._limit)
            if bool(over.any()):
                raise BudgetExhausted(over.nonzero().flatten().tolist())
        return ask(images, self._rows[rows])
