"""An adversary against a task: gradient ascent on its loss, noise of the same size, bisection.

The ascent is PGD (arXiv 1706.06083) with restarts; of all steps the one that leaves each sample
the worst quality is kept, so that a surrogate loss that parts from the measure can't hide an
attack. L2 radii are given for 3072 values (a CIFAR image) and grow with the square root of size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..errors import UserError
from .facing import BATCH, judged

if TYPE_CHECKING:
    from models.tasks import TaskModel

    from ..datasets.task_sets import TaskSet

TaskNorm = Literal["linf", "l2"]
Surface = Literal["scene", "reference", "both"]
SURFACES: tuple[Surface, ...] = ("scene", "reference", "both")
RADII: dict[TaskNorm, tuple[float, ...]] = {
    "linf": (1 / 255, 2 / 255, 4 / 255, 8 / 255),
    "l2": (0.25, 0.5, 1.0, 2.0),
}
REFERENCE_VALUES = 3072


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """How hard an adversary tries.

    Attributes:
        steps: of each restart, of which each asks for one gradient.
        restarts: the first from the sample itself, the others from a random point in the ball.
        relative_step: the size of a step, as a fraction of the radius.
        bisections: of the radius, for the smallest that breaks a sample.
    """

    steps: int = 10
    restarts: int = 2
    relative_step: float = 0.25
    bisections: int = 5


@dataclass(frozen=True, eq=False)
class Changed:
    """Samples as an adversary leaves them, with what that did to the answers.

    Attributes:
        images, contexts: within the bounds and the radius.
        qualities, broken: (N,) of the answers to them.
    """

    images: Tensor
    contexts: Tensor | None
    qualities: Tensor
    broken: Tensor


def radius_in_pixels(norm: TaskNorm, epsilon: float, values: int) -> float:
    """The radius for an image of so many values: Linf as it is, L2 scaled by size."""
    return epsilon if norm == "linf" else epsilon * (values / REFERENCE_VALUES) ** 0.5


def attacked(
    model: TaskModel,
    samples: TaskSet,
    *,
    norm: TaskNorm,
    epsilon: Tensor,
    surface: Surface,
    ascent: Ascent,
    seed: int,
) -> Changed:
    """The worst that PGD finds within `epsilon` (N,) of each sample.

    With surface "both" each of scene and reference may be changed by its own radius. Raises
    `UserError` for an attack on a reference that the task doesn't have.
    """
    _check(samples, surface)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for first in range(0, len(samples), BATCH):
        part = samples.rows(first, first + BATCH)
        parts.append(
            _ascend(model, part, norm, epsilon[first : first + BATCH], surface, ascent, generator)
        )
    return Changed(
        images=torch.cat([part.images for part in parts]),
        contexts=_joined([part.contexts for part in parts]),
        qualities=torch.cat([part.qualities for part in parts]),
        broken=torch.cat([part.broken for part in parts]),
    )


def noisy(
    model: TaskModel,
    samples: TaskSet,
    *,
    norm: TaskNorm,
    epsilon: float,
    surface: Surface,
    seed: int,
) -> Changed:
    """The control: every value moved by the same amount, up or down at random."""
    _check(samples, surface)
    generator = torch.Generator().manual_seed(seed)
    images, contexts = samples.images, samples.contexts
    radius = torch.full((len(samples),), epsilon)
    if surface != "reference":
        images = _signs(images, norm, radius, generator, model.bounds)
    if surface != "scene" and contexts is not None:
        contexts = _signs(contexts, norm, radius, generator, model.bounds)
    return Changed(images, contexts, *judged(model, samples, images, contexts))


def smallest(
    model: TaskModel,
    samples: TaskSet,
    *,
    norm: TaskNorm,
    surface: Surface,
    largest: float,
    ascent: Ascent,
    seed: int,
) -> Tensor:
    """(N,) the smallest radius at which each sample was broken: 0 where it is on clean ones.

    By bisection between 0 and `largest`; infinite where `largest` doesn't do. An upper bound, as
    every attack gives one.
    """
    _, broken = judged(model, samples, samples.images, samples.contexts)
    low = torch.zeros(len(samples))
    high = torch.full((len(samples),), torch.inf)
    middle = torch.full((len(samples),), largest)
    for number in range(ascent.bisections + 1):
        found = attacked(
            model,
            samples,
            norm=norm,
            epsilon=middle,
            surface=surface,
            ascent=ascent,
            seed=seed + number,
        )
        high = torch.where(found.broken, torch.minimum(high, middle), high)
        low = torch.where(found.broken, low, middle)
        middle = (low + high.clamp(max=largest)) / 2
    return torch.where(broken, 0.0, high)


def _check(samples: TaskSet, surface: Surface) -> None:
    if surface != "scene" and samples.contexts is None:
        raise UserError(
            f"{samples.name} has no references, so surface {surface!r} is none of its; "
            "wanted 'scene'"
        )


def _ascend(
    model: TaskModel,
    part: TaskSet,
    norm: TaskNorm,
    epsilon: Tensor,
    surface: Surface,
    ascent: Ascent,
    generator: torch.Generator,
) -> Changed:
    best = Changed(part.images, part.contexts, *judged(model, part, part.images, part.contexts))
    for restart in range(ascent.restarts):
        images, contexts = part.images, part.contexts
        if restart:
            start = epsilon * torch.rand(len(part), generator=generator)
            if surface != "reference":
                images = _signs(images, norm, start, generator, model.bounds)
            if surface != "scene" and contexts is not None:
                contexts = _signs(contexts, norm, start, generator, model.bounds)
        for _ in range(ascent.steps):
            images, contexts = images.detach(), contexts if contexts is None else contexts.detach()
            free = []
            if surface != "reference":
                images = images.requires_grad_()
                free.append(images)
            if surface != "scene" and contexts is not None:
                contexts = contexts.requires_grad_()
                free.append(contexts)
            with torch.enable_grad():
                loss = model.attack_loss(images, contexts, part.targets).sum()
            slopes = iter(torch.autograd.grad(loss, free))
            length = ascent.relative_step * epsilon
            if surface != "reference":
                images = _moved(images, part.images, next(slopes), norm, epsilon, length, model)
            if contexts is not None and part.contexts is not None and surface != "scene":
                contexts = _moved(
                    contexts, part.contexts, next(slopes), norm, epsilon, length, model
                )
            found = Changed(images, contexts, *judged(model, part, images, contexts))
            best = _worse(best, found, higher_is_better=model.higher_is_better)
    return best


def _worse(one: Changed, other: Changed, *, higher_is_better: bool) -> Changed:
    """Of each sample the one with the worse quality."""
    gain = other.qualities - one.qualities
    worse = (gain < 0 if higher_is_better else gain > 0) & (other.broken | ~one.broken)
    take = worse.view(-1, 1, 1, 1)
    contexts = one.contexts
    if one.contexts is not None and other.contexts is not None:
        contexts = torch.where(take, other.contexts, one.contexts).detach()
    return Changed(
        torch.where(take, other.images, one.images).detach(),
        contexts,
        torch.where(worse, other.qualities, one.qualities),
        torch.where(worse, other.broken, one.broken),
    )


def _moved(
    images: Tensor,
    origins: Tensor,
    slopes: Tensor,
    norm: TaskNorm,
    epsilon: Tensor,
    length: Tensor,
    model: TaskModel,
) -> Tensor:
    """A step of `length` (N,) uphill, back into the ball of `epsilon` (N,) and the bounds."""
    from attacks.distances import project

    scale = radius_in_pixels(norm, 1.0, images[0].numel())
    if norm == "linf":
        directions = slopes.sign()
    else:
        directions = slopes / slopes.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)
    stepped = images.detach() + directions * (scale * length).view(-1, 1, 1, 1)
    return project(norm, stepped, origins, scale * epsilon).clamp(*model.bounds)


def _signs(
    images: Tensor,
    norm: TaskNorm,
    radius: Tensor,
    generator: torch.Generator,
    bounds: tuple[float, float],
) -> Tensor:
    """Images moved by random signs, of length `radius` (N,) before they are cut to the bounds."""
    values = images[0].numel()
    signs = 2.0 * torch.randint(0, 2, images.shape, generator=generator) - 1
    step = radius_in_pixels(norm, 1.0, values) * radius
    if norm == "l2":
        step = step / values**0.5
    return (images + signs * step.view(-1, 1, 1, 1)).clamp(*bounds)


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
