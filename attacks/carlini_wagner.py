"""Carlini and Wagner's L2 attack: a penalty whose weight is searched for (1608.04644).

What differs from the paper, and why: only an image that was asked and fooled counts, so that an
image for which nothing was found stays clean; each image leaves a round once its loss stops
falling, and costs nothing more; distances are relative to the bounds.
"""

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

INSIDE = 0.999
"""How far towards the bounds a start may lie. At the bounds the inverse of tanh is infinite; next
to them, where most pixels of a digit lie, tanh is so flat that hundreds of steps change nothing."""

FIRST_MOMENT, SECOND_MOMENT, STABILITY = 0.9, 0.999, 1e-8
"""Adam's decay rates and epsilon."""

CHECKS, PATIENCE = 5, 50
"""How many times in a round it is looked whether the loss still falls, and after how many steps at
the earliest: Adam swings about the boundary for dozens of steps before it settles."""

PROGRESS = 0.9999
"""It does while it is below this share of what it was (as in the authors' code)."""

GROWTH = 10.0
"""What the penalty's weight is multiplied by while nothing was found."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner:
    """White-box, minimises L2; untargeted or targeted.

    Attributes:
        steps: gradient steps of a round.
        search_steps: rounds, each with a weight of its own for each image.
        learning_rate: Adam's.
        initial_constant: the first weight.
        confidence: by how much the adversarial logit has to win; for adversarials that transfer.
        abort_early: leave a round once the loss stops falling.
    """

    steps: int = 300
    search_steps: int = 9
    learning_rate: float = 0.03
    initial_constant: float = 1e-3
    confidence: float = 0.0
    abort_early: bool = True

    @property
    def norm(self) -> Norm:
        return "l2"

    @property
    def access(self) -> Access:
        return "gradient"

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
        import torch

        n = len(images)
        best, best_distance = images.clone(), torch.full((n,), torch.inf)
        weight = torch.full((n,), self.initial_constant)
        low, high = torch.zeros(n), torch.full((n,), torch.inf)
        alive = torch.ones(n, dtype=torch.bool)  # a gradient was seen
        for _ in range(self.search_steps):
            going = alive & (model.remaining() > 0)
            if epsilon is not None:
                going &= best_distance > epsilon
            rows = going.nonzero().flatten()
            if len(rows) == 0:
                break
            fooled = self._round(
                model, images, criterion, rows, weight, best, best_distance, alive, epsilon
            )
            high[rows] = torch.where(fooled, weight[rows], high[rows])
            low[rows] = torch.where(fooled, low[rows], weight[rows])
            middle = (low[rows] + high[rows]) / 2
            weight[rows] = torch.where(middle.isfinite(), middle, weight[rows] * GROWTH)
        return best

    def _round(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        rows: Tensor,
        weight: Tensor,
        best: Tensor,
        best_distance: Tensor,
        alive: Tensor,
        epsilon: float | None,
    ) -> Tensor:
        """One descent; improves best and best_distance in place.

        Returns which rows (n,) were fooled in the second half of their steps.
        """
        import torch

        from .distances import distance
        from .losses import input_gradient, margin
        from .projections import as_sent

        lower, upper = model.bounds
        half = (upper - lower) / 2
        last_hit = torch.zeros(len(rows), dtype=torch.int64)
        ended = torch.full((len(rows),), self.steps)
        at = torch.arange(len(rows))  # of rows: those that are still descending
        clean, constant = images[rows], weight[rows].view(-1, 1, 1, 1)
        point = (((clean - lower) / half - 1) * INSIDE).atanh()
        first, second = torch.zeros_like(point), torch.zeros_like(point)
        lowest = torch.full((len(rows),), torch.inf)
        checked = torch.full((len(rows),), torch.inf)
        for step in range(1, self.steps + 1):
            bounded = point.tanh()
            asked = (lower + half * (bounded + 1)).clamp(lower, upper).requires_grad_()
            logits = model.logits(asked, rows[at])
            if criterion.targets is None:
                lead = margin(logits, criterion.labels[rows[at]])
            else:
                lead = -margin(logits, criterion.targets[rows[at]])
            slope = input_gradient(lead, asked)
            asked, lead = asked.detach(), lead.detach()

            hit = criterion.holds(logits.detach().argmax(1), rows[at])
            hit &= lead <= -self.confidence
            sent = as_sent(model, asked[hit])
            measured = distance("l2", clean[hit], sent)
            nearer = measured < best_distance[rows[at[hit]]]
            improved = rows[at[hit][nearer]]
            best[improved], best_distance[improved] = sent[nearer], measured[nearer]
            last_hit[at[hit]] = step

            stay = model.remaining()[rows[at]] > 0
            if epsilon is not None:
                stay &= best_distance[rows[at]] > epsilon
            if step == 1:
                flat = (slope.flatten(1) == 0).all(1) & ~hit
                for row in rows[at[flat]].tolist():
                    model.note(row, "the gradient is zero at the image: there is nothing to follow")
                alive[rows[at[flat]]] = False
                stay &= ~flat
            change = (asked - clean) / (2 * half)
            penalty = (lead + self.confidence).clamp_min(0.0)
            loss = change.square().sum(dim=(1, 2, 3)) + constant.flatten() * penalty
            lowest = torch.minimum(lowest, loss)
            if self.abort_early and step % max(self.steps // CHECKS, PATIENCE) == 0:
                stay &= lowest < PROGRESS * checked
                checked = lowest
            # The loss is |change|^2 + constant * penalty; the chain rule through tanh by hand.
            pushing = (penalty > 0).view(-1, 1, 1, 1)
            gradient = change / half + torch.where(pushing, constant * slope, 0.0)
            gradient = gradient * half * (1 - bounded.square())
            first.lerp_(gradient, 1 - FIRST_MOMENT)
            second.lerp_(gradient.square(), 1 - SECOND_MOMENT)
            scale = (second / (1 - SECOND_MOMENT**step)).sqrt_().add_(STABILITY)
            point = point - self.learning_rate / (1 - FIRST_MOMENT**step) * first / scale
            if not bool(stay.all()):
                ended[at[~stay]] = step
                at, clean, constant, point = at[stay], clean[stay], constant[stay], point[stay]
                first, second = first[stay], second[stay]
                lowest, checked = lowest[stay], checked[stay]
            if len(at) == 0:
                break
        # The first steps are as long as any and may fool by overshooting, with a weight too small.
        return 2 * last_hit > ended


def create(
    *,
    steps: int = 300,
    search_steps: int = 9,
    learning_rate: float = 0.03,
    initial_constant: float = 1e-3,
    confidence: float = 0.0,
    abort_early: bool = True,
) -> CarliniWagner:
    """Make the attack; see `CarliniWagner` for the parameters."""
    if min(steps, search_steps) < 1:
        raise UsageError(f"got steps={steps}, search_steps={search_steps}; wanted at least 1 each")
    if not (learning_rate > 0 and initial_constant > 0 and confidence >= 0):
        raise UsageError(
            f"got learning_rate={learning_rate}, initial_constant={initial_constant}, "
            f"confidence={confidence}; wanted values above 0, above 0 and of at least 0"
        )
    return CarliniWagner(
        steps=steps,
        search_steps=search_steps,
        learning_rate=learning_rate,
        initial_constant=initial_constant,
        confidence=confidence,
        abort_early=abort_early,
    )
