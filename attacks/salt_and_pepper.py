"""Salt and pepper: the fewest random black and white pixels that fool (arXiv 1805.09190)."""

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
class SaltAndPepper:
    """Several random orders of the pixels; in each, a growing share of them turns black or white.

    All channels of a pixel change together. The share grows until adversarial, then bisection: the
    pixels of a smaller share are always among those of a larger one.

    Attributes:
        norm: the distance to make small.
        orders: random orders tried for each image.
        growth_steps: shares tried while growing; the largest is every pixel.
        bisection_steps: halvings after that.
    """

    norm: Norm = "l0"
    orders: int = 10
    growth_steps: int = 9
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
        """One random order after the other, with a share of its pixels changed."""
        import torch

        lower, upper = model.bounds
        everyone = torch.arange(len(images))
        plane = (1, *images.shape[2:])
        for _ in range(self.orders):
            order = random.uniform(everyone, plane)
            salt = random.uniform(everyone, plane) < 0.5
            flipped = torch.where(salt, torch.tensor(upper), torch.tensor(lower))

            def peppered(
                rows: Tensor, scales: Tensor, order: Tensor = order, flipped: Tensor = flipped
            ) -> Tensor:
                return torch.where(
                    order[rows] < scales.view(-1, 1, 1, 1), flipped[rows], images[rows]
                )

            yield peppered


def create(
    *,
    norm: Norm = "l0",
    orders: int = 10,
    growth_steps: int = 9,
    bisection_steps: int = 8,
) -> SaltAndPepper:
    """Make the attack; see `SaltAndPepper` for the parameters."""
    if min(orders, growth_steps) < 1 or bisection_steps < 0:
        raise UsageError(
            f"got orders={orders}, growth_steps={growth_steps}, "
            f"bisection_steps={bisection_steps}; wanted at least 1, 1 and 0"
        )
    return SaltAndPepper(
        norm=norm, orders=orders, growth_steps=growth_steps, bisection_steps=bisection_steps
    )
