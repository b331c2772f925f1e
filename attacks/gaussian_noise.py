"""Additive Gaussian noise with a line search over its size (arXiv 1808.01976)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import Access, Norm

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Several noise directions an image; the size of each grows until adversarial, then bisection.

    Attributes:
        norm: the distance to make small.
        directions: noise images tried for each image.
        growth_steps: sizes tried while growing; the largest has a standard deviation of the whole
            range of the bounds.
        bisection_steps: halvings after that.
    """

    norm: Norm = "l2"
    directions: int = 10
    growth_steps: int = 7
    bisection_steps: int = 8

    @property
    def access(self) -> Access:
        return "decision"

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`. The search is the same with an epsilon."""
        import torch

        from .line_search import grow_and_bisect

        lower, upper = model.bounds
        best = images.clone()
        best_distance = torch.full((len(images),), torch.inf)
        everyone = torch.arange(len(images))
        for _ in range(self.directions):
            noise = random.normal(everyone, images.shape[1:]) * (upper - lower)

            def noisy(rows: Tensor, scales: Tensor, noise: Tensor = noise) -> Tensor:
                return (images[rows] + noise[rows] * scales.view(-1, 1, 1, 1)).clamp(lower, upper)

            grow_and_bisect(
                model,
                images,
                best,
                best_distance,
                noisy,
                growth_steps=self.growth_steps,
                bisection_steps=self.bisection_steps,
            )
        return best


def create(
    *,
    norm: Norm = "l2",
    directions: int = 10,
    growth_steps: int = 7,
    bisection_steps: int = 8,
) -> GaussianNoise:
    """Make the attack; see `GaussianNoise` for the parameters."""
    if min(directions, growth_steps) < 1 or bisection_steps < 0:
        raise UsageError(
            f"got directions={directions}, growth_steps={growth_steps}, "
            f"bisection_steps={bisection_steps}; wanted at least 1, 1 and 0"
        )
    return GaussianNoise(
        norm=norm,
        directions=directions,
        growth_steps=growth_steps,
        bisection_steps=bisection_steps,
    )
