"""1811.00401 on adversarial spheres: from the inner to the outer one, with the same logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.irevnet.architectures import dense
from models.irevnet.network import Code, InvertibleNetwork
from models.wrappers import seeded

from ..reports.blocks import Block, Heading, Paragraph, Pictures
from ..reports.components import Picture
from ..reports.images import data_uri
from ..score import wilson
from ..spheres import DIMENSIONS, RADII, sample
from ..training.invertible import Game
from ..training.recipes import InvertibleRecipe
from .types import Claim, Report

STEPS = 1500
RECIPE = InvertibleRecipe(
    training="ce-mle", epochs=1, batch_size=200, learning_rate=2e-3, likelihood=0.3, noise=0.005
)
"""Without any likelihood the nuisance has no scale, and metamers are hundreds long."""
TESTED, PAIRS, ALONG = 10_000, 500, 21
SIDE, REACH = 160, 1.6
"""Pixels of the picture of a plane, and the coordinate at its edge."""


@dataclass(frozen=True)
class Spheres:
    """What was found.

    Attributes:
        error: share of test points that the network gets wrong.
        reached: whether the way from the inner point to the metamer, with the inner point's logits
            and the outer one's nuisance, reaches the outer sphere, (PAIRS,).
        lengths: median length along the way from the inner point to the metamer, (ALONG,).
        logit_error: the largest difference of a logit along the way, over all pairs.
        planes: pictures uint8 (SIDE,SIDE,3) of the first pairs.
    """

    error: float
    reached: NDArray[np.bool_]
    lengths: NDArray[np.float64]
    logit_error: float
    planes: tuple[NDArray[np.uint8], ...]


def run(seed: int, report: Report, *, steps: int = STEPS) -> Spheres:
    """Train an invertible network on fresh points by cross-entropy, and walk in its fibres."""
    report(f"spheres: {steps} steps")
    generator = torch.Generator().manual_seed(seed)
    network = trained(seed, steps)
    points, labels = sample(TESTED, generator)
    with torch.no_grad():
        error = float((network(points).argmax(1) != labels).double().mean())
        inner, outer = (sample(2 * PAIRS, generator)[0][k::2] for k in (0, 1))
        ways = walk(network, inner, outer)  # (ALONG, PAIRS, D)
        logits = network(ways.flatten(0, 1)).unflatten(0, (ALONG, PAIRS))
        planes = tuple(_plane(network, inner[k], outer[k], ways[:, k]) for k in range(3))
    return Spheres(
        error=error,
        reached=(ways.norm(dim=2).amax(0) >= RADII[1]).numpy(),
        lengths=ways.norm(dim=2).median(1).values.double().numpy(),
        logit_error=float((logits - logits[0]).abs().max()),
        planes=planes,
    )


def trained(seed: int, steps: int) -> InvertibleNetwork:
    """By cross-entropy and likelihood on fresh points."""
    network = seeded(seed, lambda: dense(DIMENSIONS))
    game = Game(network, RECIPE, seed)
    for step in range(steps):
        game.step(*sample(RECIPE.batch_size, game.generator), step, steps)
    return network.eval().requires_grad_(False)


def walk(network: InvertibleNetwork, inner: Tensor, outer: Tensor) -> Tensor:
    """Points (ALONG, n, D) with the inner points' logits, the nuisance moving to the outer ones'.

    Args:
        network: bijective.
        inner, outer: points (n, D).
    """
    here, there = network.encode(inner), network.encode(outer)
    moved = [
        network.decode(Code(here.semantic, torch.lerp(here.nuisance, there.nuisance, share)))
        for share in np.linspace(0, 1, ALONG).tolist()
    ]
    return torch.stack(moved)


def _plane(
    network: InvertibleNetwork, inner: Tensor, outer: Tensor, way: Tensor
) -> NDArray[np.uint8]:
    """The plane through 0 and both points: decisions by shade, both spheres, the projected way."""
    across = inner / inner.norm()
    rest = outer - (outer @ across) * across
    down = rest / rest.norm()
    ticks = torch.linspace(-REACH, REACH, SIDE)
    grid = ticks[None, :, None] * across + ticks[:, None, None] * down
    decided = network(grid.flatten(0, 1)).argmax(1).view(SIDE, SIDE).numpy()
    picture = np.where(decided[..., None] == 1, [222, 233, 245], [252, 243, 226]).astype(np.uint8)
    radius = np.hypot(*np.meshgrid(ticks.numpy(), ticks.numpy()))
    for size in RADII:
        picture[np.abs(radius - size) < REACH / SIDE] = 120
    for place in way:
        column, row = (_pixel(float(place @ axis)) for axis in (across, down))
        picture[row : row + 3, column : column + 3] = (190, 30, 45)
    return picture


def _pixel(coordinate: float) -> int:
    return int(np.clip(round((coordinate + REACH) / (2 * REACH) * (SIDE - 1)) - 1, 0, SIDE - 3))


def claims(found: Spheres) -> list[Claim]:
    share, n = float(found.reached.mean()), len(found.reached)
    return [
        Claim(
            id="spheres",
            claim="A network that is right about the spheres has points of the other sphere with "
            "exactly the logits of a point of this one",
            published="a figure of the plane; no number",
            measured=share,
            interval=wilson(int(found.reached.sum()), n),
            holds=found.error <= 0.01 and share >= 0.5 and found.logit_error <= 1e-3,
            how=f"{n} pairs in {DIMENSIONS} dimensions: share of ways from a point of the inner "
            f"one, its logits kept, that reach length {RADII[1]:g}; the network errs on "
            f"{100 * found.error:.2f} % of {TESTED} points; largest logit error along the ways "
            f"{found.logit_error:.1g}",
        )
    ]


def blocks(found: Spheres) -> list[Block]:
    pictures = tuple(
        Picture(data_uri(plane), "decisions in the plane, and the way projected on it")
        for plane in found.planes
    )
    lengths = ", ".join(f"{length:.2f}" for length in found.lengths[::5])
    return [
        Heading("Adversarial spheres"),
        Paragraph(
            "The plane through the origin, a point of the inner sphere (to the right) and one of "
            "the outer. Shades: the network's decision. Red: from the inner point, the nuisance "
            "moves to the outer point's while the logits stay. The median length along the way "
            f"is {lengths}; the spheres' are {RADII[0]:g} and {RADII[1]:g}."
        ),
        Pictures(
            "Ways across the true boundary with the same logits",
            tuple(f"pair {k + 1}" for k in range(len(pictures))),
            (("plane", pictures),),
        ),
    ]
