"""Starting points for decision-based attacks: adversarial images, as near as a bisection gets them.

A start that isn't found is a fact about one image, never an error for the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """Untargeted starts: noise blended in, more of it with each try, then bisection.

    In the first half of the tries a growing share of fresh noise is blended into the image, up to
    pure noise, so that an image which is easy to break starts near; in the second half pure noise
    is asked. Three kinds take turns, because a model may give its favourite label to all noise of
    one kind: uniform noise, coarse blotches (uniform noise of a quarter of the resolution,
    enlarged, of random strength), and black and white pixels of a random density.

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
        noise = _noise(k % 3, rows, images.shape[1:], random) * (upper - lower) + lower
        candidates = torch.lerp(images[rows], noise, min(1.0, 2 * (k + 1) / tries))
        hit = oracle.is_adversarial(candidates, rows)
        starts[rows[hit]] = candidates[hit]
        found[rows[hit]] = True
    for row in (~found).nonzero().flatten().tolist():
        oracle.note(row, f"no starting point: the model kept its label under {tries} noise images")
    rows = found.nonzero().flatten()
    starts[rows] = bisect(oracle, images[rows], starts[rows], rows, steps=bisection_steps)
    return starts, found


def _noise(kind: int, rows: Tensor, shape: Sequence[int], random: ImageRandom) -> Tensor:
    """Noise in [0, 1], (len(rows), *shape): 0 uniform, 1 blotches, 2 black and white."""
    if kind == 0:
        return random.uniform(rows, shape)
    if kind == 1:
        channels, height, width = shape
        coarse = random.uniform(rows, (channels, (height + 3) // 4, (width + 3) // 4))
        strength = 0.3 + 0.7 * random.uniform(rows, (1, 1, 1))
        return strength * torch.nn.functional.interpolate(coarse, size=(height, width))
    density = random.uniform(rows, (1, 1, 1))
    return (random.uniform(rows, shape) < density).float()
