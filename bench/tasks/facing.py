"""A task's model in front of samples: how well it does, and how an uninformed one would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UserError

if TYPE_CHECKING:
    from models.tasks import TaskModel, Tensors

    from ..datasets.task_sets import TaskSet

BATCH = 20


@dataclass(frozen=True, eq=False)
class Measured:
    """Qualities (N,) of the answers, which were broken (N,), the data set's figure and chance."""

    qualities: Tensor
    broken: Tensor
    figure: float
    chance: float


def judged(
    model: TaskModel, samples: TaskSet, images: Tensor, contexts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Quality and success (N,) of the answers to changed images and contexts."""
    qualities, broken = [], []
    for first in range(0, len(samples), BATCH):
        rows = slice(first, first + BATCH)
        answers = model.answer(images[rows], None if contexts is None else contexts[rows])
        targets = samples.rows(first, first + BATCH).targets
        qualities.append(model.quality(answers, targets))
        broken.append(model.success(answers, targets))
    return torch.cat(qualities), torch.cat(broken)


def measure(model: TaskModel, samples: TaskSet) -> Measured:
    """The model on clean samples, and the chance level on the same ones.

    Raises `UserError` for fewer than two samples, on which chance can't be measured.
    """
    if len(samples) < 2:
        raise UserError(f"got {len(samples)} samples; chance is measured on 2 or more")
    qualities, broken = judged(model, samples, samples.images, samples.contexts)
    blind: Tensors = model.uninformed(samples.images, samples.contexts)
    return Measured(
        qualities=qualities,
        broken=broken,
        figure=model.aggregate(qualities),
        chance=model.aggregate(model.quality(blind, samples.targets)),
    )
