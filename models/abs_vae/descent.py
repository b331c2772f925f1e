"""Minimising over the latents of many pairs of image and class at once: BFGS in a ball.

The published inference takes 49 steps of Adam. The problem has 8 unknowns, so that a full inverse
Hessian is 64 numbers: BFGS (Nocedal & Wright 2006, section 6.1) in a region whose size follows
success, projected onto the ball, needs about 9 evaluations for objectives that are lower. Each pair
stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Latents (p, L) of pairs (p,) int64, ascending -> values (p,), gradients (p, L), images (p, D)."""

FIRST_REACH = 1.5
"""How far the first step may go, in standard deviations of the prior."""

GROWTH, SHRINKAGE = 2.0, 0.4
"""The region after a step that lowered the value, and after one that did not, in lengths of it."""

ENOUGH = 1e-4
"""Share of the fall that the slope promises which a step must bring (Armijo)."""

CURVED = 1e-6
"""Smallest cosine between step and change of gradient that tells of positive curvature."""


class Minimum(NamedTuple):
    """Where the search for each of P pairs ended."""

    latents: Tensor
    """(P, L)."""
    values: Tensor
    """(P,)."""
    images: Tensor
    """(P, D), decoded there."""
    evaluations: Tensor
    """(P,) int64: how often the objective was asked, each time with its gradient."""


def project(latents: Tensor, radius: float) -> Tensor:
    """Onto the ball around 0, along the ray: (p, L)."""
    length: Tensor = torch.linalg.vector_norm(latents, dim=1, keepdim=True).clamp_min(1e-12)
    return latents * (radius / length).clamp_max(1.0)


def descend(
    objective: Objective,
    start: Tensor,
    inverse: Tensor,
    *,
    radius: float,
    tolerance: float,
    most: int,
    wanted: Callable[[Tensor], Tensor] | None = None,
) -> Minimum:
    """Lower every pair's value from its start (P, L) inside the ball of `radius`.

    Args:
        objective: see `Objective`.
        start: (P, L), in the ball.
        inverse: (P, L, L), a first guess at the inverse Hessians.
        radius: of the ball.
        tolerance: a pair stops when its quadratic model promises less than this.
        most: evaluations of a pair at most.
        wanted: from the first values (P,) to which pairs (P,) bool are worth a descent; without it
            all are.
    """
    every = torch.arange(len(start))
    values, gradients, images = objective(start, every)
    latents, inverse = start.clone(), inverse.clone()
    reach = torch.full_like(values, FIRST_REACH)
    evaluations = torch.ones_like(every)
    active = every if wanted is None else every[wanted(values)]
    for _ in range(most - 1):
        here, slope, metric = latents[active], gradients[active], inverse[active]
        held = _held(here, slope, radius)
        slope = torch.where(held, _along_the_ball(slope, here), slope)
        step = -torch.einsum("pij,pj->pi", metric, slope)
        step = torch.where(held, _along_the_ball(step, here), step)
        going = -(step * slope).sum(1) / 2 > tolerance
        active = active[going]
        if len(active) == 0:
            break
        here, slope, step = here[going], slope[going], step[going]
        length = torch.linalg.vector_norm(step, dim=1)
        step = step * (reach[active] / length).clamp_max(1.0).unsqueeze(1)
        there = project(here + step, radius)
        step = there - here
        value, gradient, image = objective(there, active)
        evaluations[active] += 1
        inverse[active] = _updated(metric[going], step, gradient - gradients[active])
        lower = value <= values[active] + ENOUGH * (slope * step).sum(1)
        length = torch.linalg.vector_norm(step, dim=1)
        reach[active] = torch.where(
            lower, torch.maximum(reach[active], GROWTH * length), SHRINKAGE * length
        )
        better = active[lower]
        latents[better], values[better] = there[lower], value[lower]
        gradients[better], images[better] = gradient[lower], image[lower]
    return Minimum(latents, values, images, evaluations)


def _held(latents: Tensor, slope: Tensor, radius: float) -> Tensor:
    """Where the ball keeps the descent in: (p, 1) bool."""
    square = latents.square().sum(1, keepdim=True)
    outwards = (slope * latents).sum(1, keepdim=True) <= 0
    return (square >= (radius * (1 - 1e-5)) ** 2) & outwards


def _along_the_ball(vectors: Tensor, latents: Tensor) -> Tensor:
    """Vectors (p, L) without their radial part."""
    square = latents.square().sum(1, keepdim=True).clamp_min(1e-12)
    return vectors - (vectors * latents).sum(1, keepdim=True) / square * latents


def _updated(inverse: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """BFGS: the inverse Hessians (p, L, L) after a step that changed the gradients by change."""
    product = (step * change).sum(1)
    scale = torch.linalg.vector_norm(step, dim=1) * torch.linalg.vector_norm(change, dim=1)
    rho = torch.where(product > CURVED * scale, 1 / product, 0.0).view(-1, 1, 1)
    moved = torch.einsum("pij,pj->pi", inverse, change)
    both = step.unsqueeze(2) * moved.unsqueeze(1)
    spread = (change * moved).sum(1).view(-1, 1, 1)
    outer = step.unsqueeze(2) * step.unsqueeze(1)
    return inverse - rho * (both + both.transpose(1, 2)) + (rho * rho * spread + rho) * outer
