"""Projections within the box of pixel values: onto a hyperplane, onto an L1 ball, onto the lattice.

Points, normals and changes are flat: (n, D).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .distances import distance
from .oracle import LEVELS, Oracle, quantise
from .random import ImageRandom
from .types import Bounds, Norm

SLACK = 5e-6
"""Relative slack of a radius, for float32 arithmetic; half of what `perturb` allows."""


def onto_hyperplane(
    norm: Norm, points: Tensor, normals: Tensor, values: Tensor, bounds: Bounds
) -> Tensor:
    """The smallest change that brings a linear function to 0 within the box.

    The projection of FAB (arXiv 1907.02044). Where the box does not reach the hyperplane, the
    change goes as far towards it as the box allows. Solved without sorting for L2 and Linf:
    coordinates that hit the box are fixed, the rest is solved again, until no other one hits it.

    Args:
        norm: "linf", "l2" or "l1": what is smallest.
        points: (n, D) within the bounds.
        normals: (n, D), the function's gradient.
        values: (n,), the function at the points.

    Returns:
        (n, D) float32, to add to the points; 0 where the normal is 0.
    """
    scale = normals.abs().amax(1).clamp_min(torch.finfo(normals.dtype).tiny)
    weights = (normals / scale.unsqueeze(1)).abs()
    needed = (values / scale).abs()
    upwards = (normals > 0) ^ (values > 0).unsqueeze(1)
    rooms = torch.where(upwards, bounds[1] - points, points - bounds[0])
    rooms = torch.where(weights > 0, rooms, 0.0)
    if norm == "linf":
        size = torch.minimum(_level(weights, rooms, needed), rooms)
    elif norm == "l2":
        steep = weights.clamp_min(torch.finfo(weights.dtype).tiny)
        level = _level(weights**2, rooms / steep, needed)  # of the change over the weight
        size = torch.where(weights > 0, level * weights, 0.0).minimum(rooms)
    else:
        order = weights.argsort(dim=1, descending=True, stable=True)
        sorted_weights, sorted_rooms = weights.gather(1, order), rooms.gather(1, order)
        gains = (sorted_weights * sorted_rooms).double()  # summed over the whole image
        missing = (needed.unsqueeze(1) - (gains.cumsum(1) - gains)).float()
        steep = sorted_weights.clamp_min(torch.finfo(weights.dtype).tiny)
        taken = torch.minimum((missing / steep).clamp_min(0.0), sorted_rooms)
        size = torch.empty_like(taken).scatter_(1, order, taken)
    return torch.where(upwards, size, -size)


def _level(weights: Tensor, rooms: Tensor, needed: Tensor) -> Tensor:
    """The level (n, 1) with sum(weights * min(level, rooms)) = needed; infinite if none reaches.

    The left side is concave in the level, so solving for the free coordinates only ever raises it.
    """
    level = needed / weights.sum(1)
    while True:
        full = rooms < level.unsqueeze(1)
        filled = torch.where(full, weights * rooms, 0.0).sum(1)
        free = torch.where(full, 0.0, weights).sum(1)
        solved = torch.where(free > 0, (needed - filled) / free, torch.inf)
        solved = torch.maximum(solved, level).nan_to_num(nan=torch.inf, posinf=torch.inf)
        if torch.equal(solved, level):
            return level.unsqueeze(1)
        level = solved


def onto_l1_ball(points: Tensor, origins: Tensor, radius: Tensor, bounds: Bounds) -> Tensor:
    """The nearest points (in L2) in the L1 balls around origins and in the box at once.

    The projection of arXiv 2103.01208: each change is shrunk by one threshold and cut off at the
    box; the threshold is found among the breakpoints of a piecewise linear function.

    Args:
        points, origins: (n, D), origins within the bounds.
        radius: (n,).

    Returns:
        (n, D).
    """
    # In float64: the lengths are sums over the whole image.
    change = (points - origins).double()
    size = change.abs()
    room = torch.where(change > 0, bounds[1] - origins, origins - bounds[0])
    # The length at a threshold t, sum(min(max(size - t, 0), room)), falls with slope -1 for each
    # coordinate between size - room (where it leaves the box's wall) and size (where it is 0).
    breaks = torch.cat([(size - room).clamp_min(0.0), size], dim=1)
    turns = torch.cat([-torch.ones_like(size), torch.ones_like(size)], dim=1)
    breaks, order = breaks.sort(dim=1)
    slopes = turns.gather(1, order).cumsum(1)  # after each break
    start = torch.minimum(size, room).sum(1, keepdim=True)
    falls = slopes[:, :-1] * breaks.diff(dim=1)
    lengths = torch.cat([start, start + falls.cumsum(1)], dim=1)  # at each break
    excess = lengths - radius.unsqueeze(1)
    last = (excess > 0).sum(1, keepdim=True).sub(1).clamp_min(0)  # the last break still too long
    slope = -slopes.gather(1, last).clamp_max(-1.0)
    threshold = breaks.gather(1, last) + excess.gather(1, last) / slope
    threshold = torch.where(start > radius.unsqueeze(1), threshold, 0.0)
    shrunk = torch.minimum((size - threshold).clamp_min(0.0), room)
    return origins + (change.sign() * shrunk).float()


def sendable(model: Oracle, images: Tensor, origins: Tensor, norm: Norm, radius: Tensor) -> Tensor:
    """Images (n, C, H, W) as the meter will see them, still within radius (n,) of the origins.

    Unchanged where any value can be sent. On a quantised track they are rounded to 8 bits, and
    cut towards the origin instead where rounding would leave the ball.
    """
    if not model.quantised:
        return images
    step = (model.bounds[1] - model.bounds[0]) / LEVELS
    rounded = quantise(images, model.bounds)
    inside = distance(norm, origins, rounded) <= radius * (1 + SLACK)
    # A change of a whole number of steps may have come out a little short of it in float32.
    steps = (images - origins) / step
    cut = origins + (steps + SLACK * steps.sign()).trunc() * step
    return torch.where(inside.view(-1, 1, 1, 1), rounded, quantise(cut, model.bounds))


def on_sphere(
    norm: Norm, rows: Tensor, shape: Sequence[int], radius: Tensor, random: ImageRandom
) -> Tensor:
    """A random change of length radius (n,) for each of rows (n,): (n, *shape).

    Uniform numbers in Linf, normal ones in the other norms, scaled.
    """
    if norm == "linf":
        noise = 2 * random.uniform(rows, shape) - 1
    else:
        noise = random.normal(rows, shape)
    length = distance(norm, torch.zeros_like(noise), noise).clamp_min(1e-12)
    return noise * (radius / length).view(-1, 1, 1, 1)


def as_sent(model: Oracle, images: Tensor) -> Tensor:
    """Images as the meter will see them: rounded to 8 bits on a quantised track."""
    return quantise(images, model.bounds) if model.quantised else images
