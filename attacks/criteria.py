"""What counts as adversarial: any wrong label, or one wanted label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from .errors import UsageError


@runtime_checkable
class Criterion(Protocol):
    """Decides from the label that the model gives; holds one entry for each image of the batch."""

    @property
    def labels(self) -> Tensor:
        """True labels (N,) int64."""
        ...

    @property
    def targets(self) -> Tensor | None:
        """Wanted labels (N,) int64, or None when any wrong label will do."""
        ...

    def holds(self, predicted: Tensor, rows: Tensor) -> Tensor:
        """Which predictions (n,) int64 are adversarial for the images in rows (n,): (n,) bool."""
        ...

    def take(self, rows: Tensor) -> Criterion:
        """The same question for the images in rows (n,) only."""
        ...


def _check(name: str, labels: Tensor) -> None:
    if labels.ndim != 1 or labels.is_floating_point():
        raise UsageError(
            f"{name} must be integers of shape (N,), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}; pass class indices, not one-hot vectors"
        )


@dataclass(frozen=True)
class Misclassification:
    """Adversarial when the model's label differs from the true one."""

    labels: Tensor

    def __post_init__(self) -> None:
        _check("labels", self.labels)

    @property
    def targets(self) -> None:
        return None

    def holds(self, predicted: Tensor, rows: Tensor) -> Tensor:
        return predicted != self.labels[rows]

    def take(self, rows: Tensor) -> Misclassification:
        return Misclassification(self.labels[rows])


@dataclass(frozen=True)
class Targeted:
    """Adversarial when the model gives the wanted label."""

    labels: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        _check("labels", self.labels)
        _check("targets", self.targets)
        if len(self.labels) != len(self.targets):
            raise UsageError(
                f"got {len(self.labels)} labels and {len(self.targets)} targets; "
                "give one target for each image"
            )

    def holds(self, predicted: Tensor, rows: Tensor) -> Tensor:
        return predicted == self.targets[rows]

    def take(self, rows: Tensor) -> Targeted:
        return Targeted(self.labels[rows], self.targets[rows])
