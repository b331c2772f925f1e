"""The boundary attack: a random walk along the decision boundary (Brendel et al. 2018, 1712.04248).

What differs from the paper, and why: each image has directions and step sizes of its own, so its
result does not depend on the batch; the start is a bisection rather than a blend, and steps adapt
every few queries rather than every few hundred, because budgets are 1,000 queries and not 25,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import Access, Attack, Norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

PROBE_EVERY = 5
"""Every fifth query of an image asks for the step along the sphere alone."""

WINDOW = 8
"""Outcomes that a success rate is taken over before a step size is changed."""

ADAPTATION = 1.5
"""Factor that a step size changes by (section 2.3 of the paper adapts likewise)."""


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Decision-based and untargeted or targeted by its start; minimises L2.

    Attributes:
        steps: queries of the walk for each image at most.
        start_tries: noise images asked for a start.
        bisection_steps: queries that bring a start to the boundary.
        spherical_step, source_step: first step sizes, relative to the distance.
        start: an attack that finds the starts, instead of noise (or of the pool, when targeted).
    """

    steps: int = 5000
    start_tries: int = 25
    bisection_steps: int = 10
    spherical_step: float = 0.1
    source_step: float = 0.1
    start: Attack | None = None

    @property
    def norm(self) -> Norm:
        return "l2"

    @property
    def access(self) -> Access:
        return "decision" if self.start is None else self.start.access

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`. With an epsilon an image is done once it is within it."""
        from .starts import find_starts

        best, found = find_starts(
            model,
            images,
            random,
            start=self.start,
            tries=self.start_tries,
            bisection_steps=self.bisection_steps,
        )

        def draw(rows: Tensor, _best: Tensor) -> Tensor:
            return random.normal(rows, images.shape[1:])

        walk(
            model,
            images,
            best,
            found,
            draw,
            steps=self.steps,
            spherical_step=self.spherical_step,
            source_step=self.source_step,
            epsilon=epsilon,
        )
        return best


def walk(
    model: Oracle,
    images: Tensor,
    best: Tensor,
    found: Tensor,
    draw: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    spherical_step: float,
    source_step: float,
    epsilon: float | None,
) -> None:
    """Walk along the boundary, nearer and nearer; improves best in place.

    Args:
        model: the metered model for the same N images.
        images: (N, C, H, W) clean.
        best: (N, C, H, W) starts on the adversarial side; found: (N,) bool, which there are.
        draw: maps rows (n,) and their images best[rows] to directions (n, C, H, W) of any length.
        steps: queries for each image at most.
        spherical_step, source_step: first step sizes, relative to the distance.
        epsilon: an image is done once it is within this L2 distance.
    """
    import torch

    lower, upper = model.bounds
    n = len(images)
    radius = torch.linalg.vector_norm((best - images).flatten(1), dim=1)
    spherical = torch.full((n,), spherical_step)
    source = torch.full((n,), source_step)
    probes, walks = _Rate(n), _Rate(n)
    done = ~found
    for step in range(steps):
        if epsilon is not None:
            done = done | (radius <= epsilon)
        rows = (~done & (model.remaining() > 0) & (source > 1e-7)).nonzero().flatten()
        if len(rows) == 0:
            break
        probe = step % PROBE_EVERY == 0
        noise = draw(rows, best[rows])
        forward = torch.zeros(len(rows)) if probe else source[rows]
        candidates = _propose(
            images[rows], best[rows], radius[rows], noise, spherical[rows], forward
        ).clamp(lower, upper)
        hit = model.is_adversarial(candidates, rows)
        reached = torch.linalg.vector_norm((candidates - images[rows]).flatten(1), dim=1)
        take = hit & (reached <= radius[rows] * (1 + 1e-4 if probe else 1))
        best[rows[take]] = candidates[take]
        radius[rows[take]] = reached[take]
        if probe:
            # On a boundary that is flat at this scale half of the probes are adversarial.
            probes.add(rows, hit)
            grow, shrink = probes.verdict(above=0.5, below=0.2)
            spherical[grow] *= ADAPTATION
            spherical[shrink] /= ADAPTATION
            source[grow] *= ADAPTATION
            source[shrink] /= ADAPTATION
        else:
            walks.add(rows, hit)
            grow, shrink = walks.verdict(above=0.25, below=0.1)
            source[grow] *= ADAPTATION
            source[shrink] /= ADAPTATION
        spherical.clamp_(max=1.0)
        source.clamp_(max=0.5)


def _propose(
    images: Tensor,
    best: Tensor,
    radius: Tensor,
    noise: Tensor,
    spherical: Tensor,
    forward: Tensor,
) -> Tensor:
    """A step along the sphere around the clean image, then one towards it (figure 2 of the paper).

    All of (n, C, H, W) or (n,). Returns (n, C, H, W), not clipped.
    """
    import torch

    n = len(images)
    to_source = (images - best).flatten(1)
    unit = to_source / radius.clamp_min(1e-12).unsqueeze(1)
    flat = noise.flatten(1)
    flat = flat - (flat * unit).sum(1, keepdim=True) * unit
    flat = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_min(1e-12)
    # best + spherical * radius * flat has distance radius * sqrt(1 + spherical**2): back to radius.
    offset: Tensor = (flat * spherical.unsqueeze(1) - unit) / (1 + spherical**2).sqrt().unsqueeze(1)
    offset = offset * (radius * (1 - forward)).unsqueeze(1)
    return images + offset.view(n, *images.shape[1:])


class _Rate:
    """Success rates over windows, one for each image."""

    def __init__(self, n: int) -> None:
        import torch

        self._asked = torch.zeros(n, dtype=torch.int64)
        self._hits = torch.zeros(n, dtype=torch.int64)

    def add(self, rows: Tensor, hit: Tensor) -> None:
        self._asked[rows] += 1
        self._hits[rows] += hit.long()

    def verdict(self, *, above: float, below: float) -> tuple[Tensor, Tensor]:
        """Rows whose full window lies above, and those below; their windows start afresh."""
        full = self._asked >= WINDOW
        rate = self._hits / self._asked.clamp_min(1)
        grow, shrink = full & (rate > above), full & (rate < below)
        self._asked[full] = 0
        self._hits[full] = 0
        return grow.nonzero().flatten(), shrink.nonzero().flatten()


def check_walk(
    steps: int,
    start_tries: int,
    bisection_steps: int,
    spherical_step: float,
    source_step: float,
) -> None:
    """Raise a UsageError unless a walk can be made with these; see `Boundary`."""
    if steps < 0 or start_tries < 1 or bisection_steps < 0:
        raise UsageError(
            f"got steps={steps}, start_tries={start_tries}, bisection_steps={bisection_steps}; "
            "wanted at least 0, 1 and 0"
        )
    if not (0 < spherical_step <= 1 and 0 < source_step <= 0.5):
        raise UsageError(
            f"got spherical_step={spherical_step}, source_step={source_step}; wanted values in "
            "(0, 1] and (0, 0.5], relative to the distance"
        )


def create(
    *,
    steps: int = 5000,
    start_tries: int = 25,
    bisection_steps: int = 10,
    spherical_step: float = 0.1,
    source_step: float = 0.1,
    start: Attack | None = None,
) -> Boundary:
    """Make the attack; see `Boundary` for the parameters."""
    check_walk(steps, start_tries, bisection_steps, spherical_step, source_step)
    return Boundary(
        steps=steps,
        start_tries=start_tries,
        bisection_steps=bisection_steps,
        spherical_step=spherical_step,
        source_step=source_step,
        start=start,
    )
