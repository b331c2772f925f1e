"""What a model that is no classifier offers to attacks, distortions and reports.

An image, and perhaps something that says what is asked about it (a reference patch, a neuron, a
target), gives a structured answer with a measure of its own. Eight members are all that playing,
distorting and reporting need; poses, neural responses and units fit as segmentation does. Answers
and targets are tensors by name, with the samples first, so that they can be cut and joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from .wrappers import Bounds

Tensors = Mapping[str, Tensor]
"""Tensors (N, ...) by name."""


class TaskModel(Protocol):
    """A model with a task. Normalisation lives inside; images are as on the disk."""

    @property
    def task(self) -> str:
        """In a word or two, such as "texture segmentation"."""
        ...

    @property
    def measure(self) -> str:
        """What quality is, such as "IoU"."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Of the quality; an error in pixels is better when it is lower."""
        ...

    @property
    def bounds(self) -> Bounds:
        """Of images and contexts."""
        ...

    def answer(self, images: Tensor, contexts: Tensor | None) -> Tensors:
        """Images (N, C, H, W) and contexts (N, c, h, w), or None where the task has none."""
        ...

    def attack_loss(self, images: Tensor, contexts: Tensor | None, targets: Tensors) -> Tensor:
        """(N,), differentiable in images and contexts, for an adversary to make large.

        It must go around every hard decision (threshold, argmax, suppression) of `answer`.
        """
        ...

    def quality(self, answers: Tensors, targets: Tensors) -> Tensor:
        """(N,) float32 in the measure's units, of the hard decisions."""
        ...

    def success(self, answers: Tensors, targets: Tensors) -> Tensor:
        """(N,) bool: whether an adversary has what it wants."""
        ...

    def aggregate(self, qualities: Tensor) -> float:
        """One figure for a data set, from the qualities (N,) of its samples."""
        ...

    def uninformed(self, images: Tensor, contexts: Tensor | None) -> Tensors:
        """Answers of a model that doesn't know what is asked: the chance level is measured on them.

        At least two samples, all different.
        """
        ...
