"""Starting points for decision-based attacks: adversarial images, as near as a bisection gets them.

A start that isn't found is a fact about one image, never an error for the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .criteria import Criterion
from .oracle import Oracle
from .random import ImageRandom
from .types import Attack, Pool
from .views import View


def find_starts(
    oracle: Oracle,
    images: Tensor,
    random: ImageRandom,
    *,
    start: Attack | None,
    tries: int,
    bisection_steps: int,
) -> tuple[Tensor, Tensor]:
    """Starts for a decision-based search, of whatever kind there is for its question.

    With `start`, what that attack finds. For the images that have none so: for a targeted question
    the nearest images of the wanted class in the oracle's pool, else noise.

    Args:
        oracle: the metered model for the same images.
        images: (N, C, H, W) clean images.
        random: their streams.
        start: an attack whose results are the starts, or None.
        tries: queries for each image at most before it is given up.
        bisection_steps: further queries for each image that has a start.

    Returns:
        starts (N, C, H, W), the clean image where there is none, and which of them are adversarial
        (N,) bool. Each failure is noted in the oracle and aborts nothing.
    """
    starts = images.clone()
    found = torch.zeros(len(images), dtype=torch.bool)
    if start is not None:
        _attacked_starts(oracle, images, starts, found, random, start)
    if oracle.criterion.targets is not None:
        _pool_starts(oracle, images, starts, found, tries)
    else:
        _noise_starts(oracle, images, starts, found, random, tries)
    rows = found.nonzero().flatten()
    starts[rows] = bisect(oracle, images[rows], starts[rows], rows, steps=bisection_steps)
    return starts, found


def _attacked_starts(
    oracle: Oracle,
    images: Tensor,
    starts: Tensor,
    found: Tensor,
    random: ImageRandom,
    start: Attack,
) -> None:
    """What another attack returns, asked once more: its word alone does not count."""
    view = View(oracle, torch.arange(len(images)))
    candidates = start.run(view, images, view.criterion, epsilon=None, random=random).detach()
    changed = (candidates != images).flatten(1).any(1)
    rows = (changed & (oracle.remaining() > 0)).nonzero().flatten()
    _ask(oracle, starts, found, candidates[rows], rows)


def _ask(oracle: Oracle, starts: Tensor, found: Tensor, candidates: Tensor, rows: Tensor) -> None:
    """Ask candidates (n, C, H, W) of rows (n,); those that are adversarial become starts."""
    hit = oracle.is_adversarial(candidates, rows)
    starts[rows[hit]] = candidates[hit]
    found[rows[hit]] = True


def ask_nearest(
    oracle: Oracle, starts: Tensor, found: Tensor, pool: Tensor, distances: Tensor, *, tries: int
) -> Tensor:
    """Ask the images of a pool, the nearest first, until one is adversarial.

    Args:
        oracle: the metered model.
        starts: (N, C, H, W), and found: (N,) bool, which of them there are; changed in place.
        pool: (M, C, H, W).
        distances: (N, M), infinite for a pool image that an image may not take.
        tries: images asked for each at most.

    Returns:
        (N,) how many pool images each could have been asked.
    """
    tries = min(tries, distances.shape[1])
    nearest = distances.sort(dim=1, stable=True)
    values, indices = nearest.values[:, :tries], nearest.indices[:, :tries]
    for k in range(tries):
        wanted = ~found & values[:, k].isfinite() & (oracle.remaining() > 0)
        rows = wanted.nonzero().flatten()
        if len(rows) == 0:
            break
        _ask(oracle, starts, found, pool[indices[rows, k]], rows)
    return values.isfinite().sum(1)


def nearest_of_pool(
    pool: Pool, images: Tensor, criterion: Criterion, count: int
) -> tuple[Tensor, Tensor]:
    """Pool images that may well be adversarial: of the wanted class, or of any other than the true.

    Args:
        pool: where they are from.
        images: (N, C, H, W) clean images.
        criterion: the question about them.
        count: K, how many for each image at most.

    Returns:
        (N, K) rows of the pool, the nearest in L2 first, and (N, K) bool, which of them there are.
        K is smaller where the pool is. No query is spent.
    """
    distances = _distances(pool, images, criterion)
    nearest = distances.sort(dim=1, stable=True)
    return nearest.indices[:, :count], nearest.values[:, :count].isfinite()


def _distances(pool: Pool, images: Tensor, criterion: Criterion) -> Tensor:
    """L2 distances (N, M) to a pool's images, infinite for those of a class that is not taken.

    Taken are those of the wanted class, or of any other than the true one. No query is spent.
    """
    if criterion.targets is not None:
        taken = pool.labels.unsqueeze(0) == criterion.targets.unsqueeze(1)
    else:
        taken = pool.labels.unsqueeze(0) != criterion.labels.unsqueeze(1)
    return torch.cdist(images.flatten(1), pool.images.flatten(1)).where(taken, torch.inf)


def _pool_starts(oracle: Oracle, images: Tensor, starts: Tensor, found: Tensor, tries: int) -> None:
    """The pool's images of each wanted class, nearest first (L2), until one is adversarial."""
    pool, targets = oracle.pool, oracle.criterion.targets
    missing = (~found).nonzero().flatten().tolist()
    if pool is None or targets is None:
        for row in missing:
            oracle.note(row, "no starting point: a targeted search starts from a pool of images")
        return
    distances = _distances(pool, images, oracle.criterion)
    asked = ask_nearest(oracle, starts, found, pool.images, distances, tries=tries)
    for row in (~found).nonzero().flatten().tolist():
        oracle.note(
            row,
            f"no starting point: none of {int(asked[row])} images of class {int(targets[row])} "
            "is taken",
        )


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


def _noise_starts(
    oracle: Oracle,
    images: Tensor,
    starts: Tensor,
    found: Tensor,
    random: ImageRandom,
    tries: int,
) -> None:
    """Noise blended in, more of it with each try.

    In the first half of the tries a growing share of fresh noise is blended into the image, up to
    pure noise, so that an image which is easy to break starts near; in the second half pure noise
    is asked. Three kinds take turns, because a model may give its favourite label to all noise of
    one kind: uniform noise, coarse blotches (uniform noise of a quarter of the resolution,
    enlarged, of random strength), and black and white pixels of a random density.
    """
    lower, upper = oracle.bounds
    for k in range(tries):
        rows = (~found & (oracle.remaining() > 0)).nonzero().flatten()
        if len(rows) == 0:
            break
        noise = _noise(k % 3, rows, images.shape[1:], random) * (upper - lower) + lower
        candidates = torch.lerp(images[rows], noise, min(1.0, 2 * (k + 1) / tries))
        _ask(oracle, starts, found, candidates, rows)
    for row in (~found).nonzero().flatten().tolist():
        oracle.note(row, f"no starting point: the model kept its label under {tries} noise images")


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
