"""Cheap attacks that tell what an evaluation can be trusted with; see `attacks.checks`.

They are plain on purpose, and most ask the model directly and count nothing: what they find is a
reason for doubt, never a result. Each returns which images (N,) bool it fooled within the radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import square
from .distances import project
from .losses import margin
from .oracle import CHUNK
from .perturbation import perturb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .types import Access, Model, Norm


@dataclass(frozen=True)
class Plain:
    """Which of n images each of them fooled.

    Attributes:
        noise, search: by noise, and by the random search; no search without scores.
        straight: gradient descent from the images themselves, at a quarter of the radius, at half
            of it and at the whole; empty without gradients.
        descent: the last one, and where it does not fool, once more from a random start.
    """

    noise: Tensor
    search: Tensor | None
    straight: tuple[tuple[float, Tensor], ...]
    descent: Tensor | None

    def by_access(self, rows: Tensor, count: int) -> dict[Access, Tensor]:
        """Which of `count` images (count,) bool were fooled, for images that stand in rows (n,)."""
        hits: dict[Access, Tensor | None] = {
            "decision": self.noise,
            "score": self.search,
            "gradient": self.descent,
        }
        fooled: dict[Access, Tensor] = {}
        for access, hit in hits.items():
            if hit is not None:
                fooled[access] = torch.zeros(count, dtype=torch.bool)
                fooled[access][rows] = hit
        return fooled


def play(
    model: Model,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    *,
    offered: Access,
    access: Access,
    seed: int,
    steps: int,
    queries: int,
) -> Plain:
    """All that the model's access allows, on images that it gets right.

    Args:
        offered: the most that the model lets an attack see.
        access: what is evaluated; unless it is scores, the search runs only on images that descent
            did not fool, and counts the others as found.
        seed: of noise, random starts and the search.
        steps: of a descent.
        queries: of the search, and a tenth of them of noise.
    """
    ball: dict[str, Any] = {"norm": norm, "epsilon": epsilon}
    by_noise = noise(model, images, labels, **ball, draws=max(1, queries // 10), seed=seed)
    if offered == "decision":
        return Plain(by_noise, None, (), None)
    if offered == "score":
        searched = random_search(model, images, labels, **ball, queries=queries, seed=seed)
        return Plain(by_noise, searched, (), None)
    straight = tuple(
        (radius, descend(model, images, labels, norm=norm, epsilon=radius, steps=steps))
        for radius in (epsilon / 4, epsilon / 2, epsilon)
    )
    descent = straight[-1][1].clone()
    rows = (~descent).nonzero().flatten()
    descent[rows] = descend(model, images[rows], labels[rows], **ball, steps=steps, seed=seed)
    searched = torch.zeros_like(descent) if access == "score" else descent.clone()
    rows = (~searched).nonzero().flatten()
    searched[rows] = random_search(
        model, images[rows], labels[rows], **ball, queries=queries, seed=seed
    )
    return Plain(by_noise, searched, straight, descent)


def answers(model: Model, images: Tensor) -> Tensor:
    """Logits (N, K) of images (N, C, H, W), without a gradient."""
    with torch.no_grad():
        return joined([model(part) for part in images.split(CHUNK)])


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Logits (n, K) of several batches as one; one-hot labels may be of different width."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, width - part.shape[1])) for part in parts])


def slope(
    model: Model, images: Tensor, values: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits (N, K), and the gradient (N, C, H, W) of values(logits) (N,) by the images.

    It is 0 where the model passes none on; NaN stays, so that it can be counted.
    """
    asked = images.detach().clone().requires_grad_()
    logits = model(asked)
    if not logits.requires_grad:
        return logits, torch.zeros_like(images)
    try:
        (found,) = torch.autograd.grad(values(logits).sum(), asked, allow_unused=True)
    except (RuntimeError, NotImplementedError):  # an operation without a backward pass
        found = None
    return logits.detach(), torch.zeros_like(images) if found is None else found


def near_boundary(model: Model, images: Tensor, *, steps: int = 8) -> Tensor:
    """Points (n, C, H, W) between two labels, by halving the way to an image of another label.

    That is one of the images (N, C, H, W), or else the image itself inverted; where no label
    differs, there is no point.
    """
    labels = answers(model, images).argmax(1)
    lower, upper = model.bounds
    differs = labels.unsqueeze(1) != labels
    others = torch.where(
        differs.any(1).view(-1, 1, 1, 1), images[differs.int().argmax(1)], lower + upper - images
    )
    rows = (answers(model, others).argmax(1) != labels).nonzero().flatten()
    near, far = images[rows], others[rows]
    for _ in range(steps if len(rows) else 0):
        middle = (near + far) / 2
        same = (answers(model, middle).argmax(1) == labels[rows]).view(-1, 1, 1, 1)
        near, far = torch.where(same, middle, near), torch.where(same, far, middle)
    return (near + far) / 2


def descend(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    epsilon: float,
    steps: int,
    seed: int | None = None,
) -> Tensor:
    """Projected gradient descent on the margin; a fooled image leaves.

    One step has the length of the radius, several have 2.5 of it together (arXiv 1706.06083).

    Args:
        norm: l2 or linf, of the radius and of the steps.
        seed: of a random start; from the images themselves when not given.
    """
    lower, upper = model.bounds
    length = epsilon if steps == 1 else 2.5 * epsilon / steps
    current = images if seed is None else _moved(model, images, norm, epsilon, seed)
    current = current.clone()
    fooled = torch.zeros(len(images), dtype=torch.bool)
    for step in range(steps + 1):
        rows = (~fooled).nonzero().flatten()
        if len(rows) == 0:
            break
        if step == steps:
            fooled[rows] = answers(model, current[rows]).argmax(1) != labels[rows]
            break
        logits, gradient = slope(model, current[rows], partial(_margin_of, labels[rows]))
        fooled[rows] = logits.argmax(1) != labels[rows]
        moved = current[rows] - length * _steepest(norm, gradient)
        current[rows] = project(norm, moved, images[rows], epsilon).clamp(lower, upper)
    return fooled


def noise(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    epsilon: float,
    draws: int,
    seed: int,
) -> Tensor:
    """Random images at the radius: uniform in Linf, of Gaussian direction in L2."""
    fooled = torch.zeros(len(images), dtype=torch.bool)
    for draw in range(draws):
        rows = (~fooled).nonzero().flatten()
        if len(rows) == 0:
            break
        moved = _moved(model, images[rows], norm, epsilon, seed + draw)
        fooled[rows] = answers(model, moved).argmax(1) != labels[rows]
    return fooled


def random_search(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    epsilon: float,
    queries: int,
    seed: int,
) -> Tensor:
    """A short run of the Square attack, which sees scores only."""
    attack = square.create(norm="linf" if norm == "linf" else "l2", queries=queries)
    return perturb(
        attack, model, images, labels, epsilon=epsilon, budget=queries, seed=seed
    ).success


def _margin_of(labels: Tensor, logits: Tensor) -> Tensor:
    return margin(logits, labels)


def _moved(model: Model, images: Tensor, norm: Norm, epsilon: float, seed: int) -> Tensor:
    """Images with noise of the size of the radius."""
    random = torch.Generator().manual_seed(seed)
    lower, upper = model.bounds
    if norm == "linf":
        change = torch.rand(images.shape, generator=random) * 2 - 1
    else:
        change = torch.randn(images.shape, generator=random)
        change /= torch.linalg.vector_norm(change.flatten(1), dim=1).view(-1, 1, 1, 1)
    return (images + change * epsilon).clamp(lower, upper)


def _steepest(norm: Norm, gradient: Tensor) -> Tensor:
    """The direction of unit length, in the norm, that raises fastest; 0 where there is none."""
    known = gradient.nan_to_num(0.0, 0.0, 0.0)
    if norm == "linf":
        return known.sign()
    length = torch.linalg.vector_norm(known.flatten(1), dim=1).view(-1, 1, 1, 1)
    direction: Tensor = known / length.clamp_min(1e-30)
    return direction
