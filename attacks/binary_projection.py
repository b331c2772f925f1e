"""Binary projection: for models that binarise, move what crosses the threshold (1805.09190)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import Access, Attack, Norm

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

MARGIN = 1e-5
"""How far beyond the threshold a value is put, as a share of the bounds' range."""


@dataclass(frozen=True, kw_only=True)
class BinaryProjection:
    """Any attack, with what it finds projected to the nearest image of the same binary picture.

    A model that thresholds its input sees of each value only on which side it lies. A value that
    crossed is put just beyond the threshold, every other one back to its clean value: the same for
    the model, and nearer (the binary variants of arXiv 1805.09190, appendix).

    Attributes:
        attack: finds the adversarials.
        threshold: where the model cuts.
    """

    attack: Attack
    threshold: float = 0.5

    @property
    def norm(self) -> Norm:
        return self.attack.norm

    @property
    def access(self) -> Access:
        return self.attack.access

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`. One query an image is kept for its projection.

        The inner attack is given no epsilon, because the projection is what comes within it,
        except where it cannot do without one.

        Raises:
            UsageError: the threshold does not lie within the model's bounds.
        """
        import torch

        from .errors import BudgetExhausted
        from .views import View

        lower, upper = model.bounds
        if not lower < self.threshold < upper:
            raise UsageError(
                f"the threshold {self.threshold:g} lies outside the model's bounds "
                f"[{lower:g}, {upper:g}]"
            )
        everyone = torch.arange(len(images))
        kept = None if model.budget is None else (model.remaining() - 1).clamp_min(0)
        view = View(model, everyone, budget=kept)
        try:
            found = self.attack.run(
                view, images, view.criterion, epsilon=epsilon, random=random
            ).detach()
        except BudgetExhausted:
            found = model.best.clone()
        # What the attack asked may be better than what it returns.
        known = model.best_distance.isfinite().view(-1, 1, 1, 1)
        source = torch.where(known, model.best, found)
        projected = project_binary(images, source, self.threshold, MARGIN * (upper - lower))
        changed = (projected != images).flatten(1).any(1)
        rows = (changed & (model.remaining() > 0)).nonzero().flatten()
        hit = model.is_adversarial(projected[rows], rows)
        out = source.clone()
        out[rows[hit]] = projected[rows[hit]]
        return out


def project_binary(images: Tensor, found: Tensor, threshold: float, margin: float) -> Tensor:
    """The nearest images to `images` that lie on the same sides of the threshold as `found`.

    Args:
        images, found: (N, C, H, W).
        threshold: values above it count as 1.
        margin: how far beyond the threshold a value that crossed is put.

    Returns:
        (N, C, H, W): threshold + margin where a value rose above the threshold, threshold - margin
        where it fell below, the clean value elsewhere.
    """
    import torch

    above, was = found > threshold, images > threshold
    up, down = threshold + margin, threshold - margin
    moved = torch.where(above, images.clamp_min(up), images.clamp_max(down))
    return torch.where(above == was, images, moved)


def create(*, attack: Attack, threshold: float = 0.5) -> BinaryProjection:
    """Make the attack; see `BinaryProjection` for the parameters."""
    return BinaryProjection(attack=attack, threshold=threshold)
