"""Transfer: another model's adversarials, line-searched on the victim by labels alone (1805.09190).

Any attack runs against a surrogate that we hold, with whatever access it wants; the victim is asked
only how far to go in the directions found. The ABS paper's transfer rows are adversarials of plain
networks (basic iterative, DeepFool, FGSM), taken so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import Access, Attack, Bounds, Model, Norm, Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

RADII = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
"""For an inner attack that needs a radius, as shares of the largest distance within the bounds."""

BEYOND = 8.0
"""The largest size, as a multiple of the one at which the largest change spans the whole range.

What changed less goes on growing after the largest changes have met the bounds.
"""

JUST_UNDER = 1 - 1e-4
"""The largest size that is asked, as a multiple of the best distance so far."""

HALVINGS = 30
"""Of the interval in which the size of that distance is sought; they cost no query."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Decision-based, targeted where the inner attack is.

    For each surrogate in turn, what the inner attack changes about an image gives a direction. On
    the victim, sizes along it double until one is adversarial: from far below the surrogate's own
    up to far beyond where the first value meets its bound, or to the best distance so far. Then
    bisection.

    An image that a surrogate gets wrong gives a direction only if the inner attack moves it all the
    same: those that minimise need not, those that stay within a radius do.

    Attributes:
        surrogates: the models to attack instead; what they are asked is not counted. Their bounds
            may differ from the victim's: images and radii are scaled.
        attack: what runs against them.
        growth_steps: sizes tried on the victim for each direction.
        bisection_steps: halvings after that.
        radii: what the inner attack is given, one after another, in the victim's units. None: one
            that needs a radius is given 1/32 to 1/4 of the largest distance within the bounds, the
            others none. With an epsilon, that is the one radius.
    """

    surrogates: tuple[Model, ...]
    attack: Attack
    growth_steps: int = 10
    bisection_steps: int = 10
    radii: tuple[float, ...] | None = None

    @property
    def norm(self) -> Norm:
        return self.attack.norm

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
        """See `attacks.Attack.run`. With an epsilon nothing farther is asked."""
        import torch

        from .line_search import grow_and_bisect
        from .views import View

        lower, upper = model.bounds
        best = images.clone()
        limit = torch.inf if epsilon is None else epsilon * (1 + 1e-6)
        best_distance = torch.full((len(images),), limit)
        moved = torch.zeros(len(images), dtype=torch.bool)
        for surrogate in self.surrogates:
            for radius in self._radii(model, images.shape[1:], epsilon):
                change = self._change(surrogate, model, images, criterion, radius, random)
                there = change.flatten(1).any(1).nonzero().flatten()
                moved[there] = True
                change, clean = change[there], images[there]
                near, reached = best[there], best_distance[there]
                largest = change.flatten(1).abs().amax(1)
                ray = _Ray(clean, change * (BEYOND * (upper - lower) / largest).view(-1, 1, 1, 1))
                most = ray.within(model.norm, JUST_UNDER * reached, model.bounds)

                def along(
                    rows: Tensor, scales: Tensor, ray: _Ray = ray, most: Tensor = most
                ) -> Tensor:
                    return ray.at(rows, scales * most[rows], model.bounds)

                grow_and_bisect(
                    View(model, there),
                    clean,
                    near,
                    reached,
                    along,
                    growth_steps=self.growth_steps,
                    bisection_steps=self.bisection_steps,
                )
                best[there], best_distance[there] = near, reached
        for row in (best_distance == limit).nonzero().flatten().tolist():
            model.note(
                row,
                "no direction from a surrogate fools the victim"
                if moved[row]
                else "the attack on the surrogates gave no direction",
            )
        return best

    def _radii(
        self, model: Oracle, shape: Sequence[int], epsilon: float | None
    ) -> tuple[float | None, ...]:
        """What the inner attack is given, one after another."""
        if epsilon is not None:
            return (epsilon,)
        if self.radii is not None:
            return self.radii
        if not getattr(self.attack, "fixed_epsilon", False):  # as Foolbox's attacks say
            return (None,)
        from .radii import ladder

        largest = ladder(self.norm, shape, model.bounds)[-1]
        return tuple(share * largest for share in RADII)

    def _change(
        self,
        surrogate: Model,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        radius: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """What the inner attack changes on the surrogate, (N, C, H, W) in the victim's units."""
        import torch

        from .oracle import Oracle, frozen, rescale

        theirs = surrogate.bounds
        wider = (theirs[1] - theirs[0]) / (model.bounds[1] - model.bounds[0])
        seen = rescale(images, model.bounds, theirs)
        pool = model.pool
        if pool is not None:
            pool = Pool(rescale(pool.images, model.bounds, theirs), pool.labels)
        if radius is not None and self.norm != "l0":
            radius = radius * wider
        with frozen(surrogate):
            asked = Oracle(surrogate, seen, criterion, norm=self.norm, access="gradient", pool=pool)
            found = self.attack.run(asked, seen.clone(), criterion, epsilon=radius, random=random)
        change = found.detach().clamp(*theirs) - seen
        usable = torch.isfinite(change).flatten(1).all(1) & change.flatten(1).any(1)
        # What was asked counts where what was returned is no use; it is the clean image otherwise.
        return torch.where(usable.view(-1, 1, 1, 1), change, asked.best - seen) / wider


@dataclass(frozen=True)
class _Ray:
    """Images (n, C, H, W) and the farthest point of a way from each, both unclipped."""

    clean: Tensor
    change: Tensor

    def at(self, rows: Tensor, shares: Tensor, bounds: Bounds) -> Tensor:
        """The points of rows (m,) at these shares (m,) of the way, clipped: (m, C, H, W)."""
        moved = self.clean[rows] + shares.view(-1, 1, 1, 1) * self.change[rows]
        return moved.clamp(*bounds)

    def within(self, norm: Norm, limits: Tensor, bounds: Bounds) -> Tensor:
        """The largest shares (n,), up to 1, whose points lie within limits (n,) of the images."""
        import torch

        from .distances import distance

        rows = torch.arange(len(self.clean))
        low, high = torch.zeros(len(rows)), torch.ones(len(rows))
        far = distance(norm, self.clean, self.at(rows, high, bounds)) > limits
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            over = distance(norm, self.clean, self.at(rows, middle, bounds)) > limits
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        return torch.where(far, low, 1.0)


def create(
    *,
    surrogates: tuple[Model, ...],
    attack: Attack,
    growth_steps: int = 10,
    bisection_steps: int = 10,
    radii: tuple[float, ...] | None = None,
) -> Transfer:
    """Make the attack; see `Transfer` for the parameters."""
    if isinstance(surrogates, Model) or not surrogates:
        raise UsageError(
            f"got surrogates={surrogates!r}; wanted one or more models in a tuple, such as "
            "surrogates=(model,)"
        )
    for surrogate in surrogates:
        if not isinstance(surrogate, Model):
            raise UsageError(
                f"got a surrogate of type {type(surrogate).__name__}; wanted a model: bounds, and "
                "images (N, C, H, W) -> logits (N, K)"
            )
    if growth_steps < 1 or bisection_steps < 0:
        raise UsageError(
            f"got growth_steps={growth_steps}, bisection_steps={bisection_steps}; "
            "wanted at least 1 and 0"
        )
    if radii is not None:
        from .radii import check_radii

        check_radii(radii)
    return Transfer(
        surrogates=tuple(surrogates),
        attack=attack,
        growth_steps=growth_steps,
        bisection_steps=bisection_steps,
        radii=radii,
    )
