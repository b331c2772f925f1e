"""Sets of samples for models that are no classifiers: images, contexts and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class TaskSet:
    """One split, held in memory; every tensor has the samples first."""

    name: str
    split: str
    ids: tuple[str, ...]
    images: Tensor
    """float32 (N, C, H, W) in [0, 1], multiples of 1/255."""
    contexts: Tensor | None
    """float32 (N, c, h, w) in [0, 1]; None where the task has none."""
    targets: Mapping[str, Tensor]
    """(N, ...) by name, as the task's model wants them."""

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, first: int, last: int) -> TaskSet:
        """The samples first <= i < last."""
        keep = slice(first, last)
        return replace(
            self,
            ids=self.ids[keep],
            images=self.images[keep],
            contexts=None if self.contexts is None else self.contexts[keep],
            targets={name: value[keep] for name, value in self.targets.items()},
        )
