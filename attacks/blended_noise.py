"""Blended noise: a growing share of uniform noise until the label changes (1707.04131)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import NORMS, Access, Norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from .criteria import Criterion
    from .line_search import Candidate
    from .oracle import Oracle
    from .random import ImageRandom


@dataclass(frozen=True, kw_only=True)
class BlendedNoise:
    """Several noise images an image; the share of each grows until adversarial, then bisection.

    A share s is the image (1 - s) * clean + s * noise, which never leaves the bounds; the whole
    share is noise alone, uniform within them. Targeted by chance: where the model calls some blend
    the wanted class.

    What differs from Foolbox's attack of this name: several directions are searched instead of the
    first whose noise is adversarial, and each with a few queries instead of a linear search.

    Attributes:
        norm: the distance to make small.
        directions: noise images tried for each image.
        growth_steps: shares tried while growing; each is twice the one before, the last is noise
            alone.
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
        """The image blended with one noise image after the other."""
        import torch

        lower, upper = model.bounds
        everyone = torch.arange(len(images))
        for _ in range(self.directions):
            noise = random.uniform(everyone, images.shape[1:]) * (upper - lower) + lower

            def blended(rows: Tensor, scales: Tensor, noise: Tensor = noise) -> Tensor:
                share = scales.view(-1, 1, 1, 1)
                return torch.lerp(images[rows], noise[rows], share).clamp(lower, upper)

            yield blended


def create(
    *,
    norm: Norm = "l2",
    directions: int = 10,
    growth_steps: int = 7,
    bisection_steps: int = 8,
) -> BlendedNoise:
    """Make the attack; see `BlendedNoise` for the parameters."""
    if norm not in NORMS:
        raise UsageError(f"got norm={norm!r}; wanted one of {', '.join(NORMS)}")
    if min(directions, growth_steps) < 1 or bisection_steps < 0:
        raise UsageError(
            f"got directions={directions}, growth_steps={growth_steps}, "
            f"bisection_steps={bisection_steps}; wanted at least 1, 1 and 0"
        )
    return BlendedNoise(
        norm=norm,
        directions=directions,
        growth_steps=growth_steps,
        bisection_steps=bisection_steps,
    )
