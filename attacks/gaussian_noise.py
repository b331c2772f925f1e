"""Additive Gaussian noise with a line search over its size (arXiv 1808.01976)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import Access, Norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from .criteria import Criterion
    from .line_search import Candidate
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
        from .line_search import nearest_over

        return nearest_over(
            model,
            images,
            self._families(model, images, random),
            growth_steps=self.growth_steps,
            bisection_steps=self.bisection_steps,
        )

    def _families(self, model: Oracle, images: Tensor, random: ImageRandom) -> Iterator[Candidate]:
        """Gaussian noise of one direction after the other, scaled."""
        import torch

        lower, upper = model.bounds
        everyone = torch.arange(len(images))
        for _ in range(self.directions):
            noise = random.normal(everyone, images.shape[1:]) * (upper - lower)

            def noisy(rows: Tensor, scales: Tensor, noise: Tensor = noise) -> Tensor:
                return (images[rows] + noise[rows] * scales.view(-1, 1, 1, 1)).clamp(lower, upper)

            yield noisy


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
