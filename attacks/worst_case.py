"""The worst case of several attacks: each one is given the images that still stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import ACCESS_ORDER, Access, Attack, Norm

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """Several attacks one after the other, cheap ones first; an image's nearest adversarial counts.

    With an epsilon an image leaves as soon as one attack has broken it, as in AutoAttack
    (Croce & Hein 2020, arXiv 2003.01690, section 5). Without one every attack sees every image, and
    the minimum over attacks counts, as in the "all" rows of arXiv 1805.09190, table 1. A query
    budget is shared out: each attack may use an even part of what an image has left. An attack in
    another norm minimises its own distance; what it finds is measured in the one that counts. Which
    attack found an image's result is noted.

    Attributes:
        attacks: in this order.
        norm: the distance that counts; the first attack's when not given.
    """

    attacks: tuple[Attack, ...]
    norm: Norm

    @property
    def access(self) -> Access:
        """The most that one of the attacks needs."""
        return max((a.access for a in self.attacks), key=ACCESS_ORDER.index)

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`."""
        import torch

        from .errors import BudgetExhausted
        from .perturbation import RADIUS_TOLERANCE
        from .random import ImageRandom as Streams
        from .random import image_seed
        from .views import View

        everyone = torch.arange(len(images))
        enough = 0.0 if epsilon is None else epsilon * (1 + RADIUS_TOLERANCE)
        for k, attack in enumerate(self.attacks):
            standing = (model.best_distance > enough) & (model.remaining() > 0)
            rows = everyone[standing]
            if len(rows) == 0:
                break
            before = model.best_distance.clone()
            left = model.remaining()[rows]
            part = None if model.budget is None else (left / (len(self.attacks) - k)).ceil().long()
            view = View(model, rows, budget=part)
            # Streams of its own: what an attack draws does not depend on the ones before it.
            seeds = [image_seed(random.seeds[i], f"attack {k}") for i in rows.tolist()]
            streams = Streams(seeds, images.device)
            radius = epsilon if attack.norm == model.norm else None
            try:
                found = attack.run(
                    view, images[rows].clone(), view.criterion, epsilon=radius, random=streams
                )
            except BudgetExhausted:
                found = images[rows]
            self._ask_unasked(model, images, found.detach(), rows)
            for row in (model.best_distance < before).nonzero().flatten().tolist():
                model.note(row, f"found by {type(attack).__name__}, attack {k + 1}")
        return model.best.clone()

    def _ask_unasked(self, model: Oracle, images: Tensor, found: Tensor, rows: Tensor) -> None:
        """Ask what an attack returned without having asked it, where it would count."""
        import torch

        from .distances import distance

        lower, upper = model.bounds
        inside = torch.where(found.isfinite(), found, images[rows]).clamp(lower, upper)
        measured = distance(model.norm, images[rows], inside)
        worth = (measured > 0) & (measured < model.best_distance[rows] * (1 - 1e-5))
        worth &= model.remaining()[rows] > 0
        if bool(worth.any()):
            model.is_adversarial(inside[worth], rows[worth])


def create(*, attacks: tuple[Attack, ...], norm: Norm | None = None) -> WorstCase:
    """Make the attack; see `WorstCase` for the parameters."""
    if not attacks:
        raise UsageError("got no attacks; wanted at least one, such as boundary+pointwise")
    return WorstCase(attacks=attacks, norm=attacks[0].norm if norm is None else norm)
