"""A task under the distortions of `bench.distortions`: on the scene, the reference, or both.

Distortions that move pixels would have to move masks and positions as well. Rotation by quarter
turns does not know the targets of a task, and an eidolon has no one map that a mask could follow;
both are left out, with the reason. So are those that leave grey images as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from .attacking import Changed, Surface
from .facing import judged

if TYPE_CHECKING:
    from models.tasks import TaskModel

    from ..datasets.task_sets import TaskSet
    from ..distortions import Distortion, Level

MOVES_PIXELS = ("rotation", "eidolon")


def left_out(distortion: Distortion, samples: TaskSet) -> str | None:
    """Why a distortion is not applied to these samples; None where it is."""
    if distortion.name.split(":")[0].split("-")[0] in MOVES_PIXELS:
        return "it moves pixels, and the targets would have to move with them"
    if distortion.needs_colour and samples.images.shape[1] == 1:
        return "the images are grey"
    return None


def distorted(
    model: TaskModel,
    samples: TaskSet,
    distortions: Sequence[Distortion],
    *,
    surface: Surface,
    seed: int,
) -> Iterator[tuple[Distortion, Level, Changed]]:
    """Each distortion that can be applied, at each of its levels."""
    for distortion in distortions:
        if left_out(distortion, samples) is not None:
            continue
        for level in distortion.levels:
            images, contexts = samples.images, samples.contexts
            if surface != "reference":
                images = _applied(distortion, level, images, samples.ids, seed)
            if surface != "scene" and contexts is not None:
                contexts = _applied(distortion, level, contexts, samples.ids, seed + 1)
            yield (
                distortion,
                level,
                Changed(images, contexts, *judged(model, samples, images, contexts)),
            )


def _applied(
    distortion: Distortion, level: Level, images: Tensor, ids: Sequence[str], seed: int
) -> Tensor:
    from ..distortions import seeds

    ready = distortion.prepared(images) if distortion.needs_references else distortion
    return ready(images, level.value, seeds(ids, seed=seed))
