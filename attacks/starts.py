"""Starting points for decision-based attacks: adversarial images, as near as a bisection gets them.

A start that isn't found is a fact about one image, never an error for the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .oracle import Oracle
from .random import ImageRandom


def bisect(
    oracle: Oracle,
    clean: Tensor,
    adversarial: Tensor,
    rows: Tensor,
    *,
    steps: int,
) -> Tensor:
    """Walk from adversarial images (n, C, H, W) towards the clean ones, halving the way each time.

    Args:
        oracle: the metered model; an image whose budget is spent stays where it is.
        clean, adversarial: (n, C, H, W), paired.
        rows: (n,) rows of the oracle's batch that the images belong to.
        steps: queries for each image at most.

    Returns:
        (n, C, H, W): on the adversarial side of the boundary, at most 2**-steps of the way off it.
    """
    low = torch.zeros(len(rows))  # share of the way from clean that is known not adversarial
    high = torch.ones(len(rows))
    for _ in range(steps):
        active = (oracle.remaining()[rows] > 0).nonzero().flatten()
        if len(active) == 0:
            break
        middle = (low[active] + high[active]) / 2
        candidates = torch.lerp(clean[active], adversarial[active], middle.view(-1, 1, 1, 1))
        hit = oracle.is_adversarial(candidates, rows[active])
        high[active] = torch.where(hit, middle, high[active])
        low[active] = torch.where(hit, low[active], middle)
    return torch.lerp(clean, adversarial, high.view(-1, 1, 1, 1))


def noise_starts(
    oracle: Oracle,
    images: Tensor,
    random: ImageRandom,
    *,
    tries: int,
    bisection_steps: int,
) -> tuple[Tensor, Tensor]:
    """Untargeted starts: uniform noise blended in, more of it with each try, then bisection.

    Try k of K blends the share (k + 1) / K of fresh noise into the image, so that an image which is
    easy to break starts near and a hard one ends at pure noise.

    Args:
        oracle: the metered model for the same images.
        images: (N, C, H, W) clean images.
        random: their streams.
        tries: queries for each image at most before it is given up.
        bisection_steps: further queries for each image that has a start.

    Returns:
        starts (N, C, H, W) and which of them are adversarial (N,) bool. Each failure is noted in
        the oracle.
    """
    lower, upper = oracle.bounds
    starts = images.clone()
    found = torch.zeros(len(images), dtype=torch.bool)
    for k in range(tries):
        rows = (~found & (oracle.remaining() > 0)).nonzero().flatten()
        if len(rows) == 0:
            break
        noise = random.uniform(rows, images.shape[1:]) * (upper - lower) + lower
        candidates = torch.lerp(images[rows], noise, (k + 1) / tries)
        hit = oracle.is_adversarial(candidates, rows)
        starts[rows[hit]] = candidates[hit]
        found[rows[hit]] = True
    for row in (~found).nonzero().flatten().tolist():
        oracle.note(row, f"no starting point: the model kept its label under {tries} noise images")
    rows = found.nonzero().flatten()
    starts[rows] = bisect(oracle, images[rows], starts[rows], rows, steps=bisection_steps)
    return starts, found
