"""Auto-PGD: gradient ascent without a step size to tune (Croce & Hein 2020, 2003.01690).

L1 is the variant of arXiv 2103.01208, with its sparse steps and its schedule of radii. What differs
from the papers, and why: an image that is fooled leaves at that step and costs nothing more;
it climbs the logarithm of the cross-entropy, whose gradient a sure model does not make vanish; each
image has a random start of its own; without an epsilon each image's smallest radius is sought.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .types import Access, Bounds

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .losses import Loss
    from .oracle import Oracle
    from .random import ImageRandom

FIRST_PERIOD, SHORTER, SHORTEST = 0.22, 0.03, 0.06
"""Shares of the steps: the first period between checkpoints, how much shorter each next one is, and
the shortest."""

FIRST_STEP = 2.0
"""The first step, as a multiple of the radius."""

STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Radii (as multiples) and shares of the steps of the L1 variant (2103.01208)."""

L1_STEP, L1_SLOWEST, L1_SLOWER = 1.0, 0.1, 1.5
"""Its first step and its smallest as multiples of the radius, and what divides it between them."""

L1_PERIOD, L1_SHARE, L1_SPARSER, L1_PROGRESS = 0.04, 0.2, 1.5, 0.95
"""Its period, as a share of the steps; the share of values that move at first; later it is that of
the best point's changes, divided by the third; the step is kept small until their number has fallen
to the fourth (2103.01208)."""


@dataclass(frozen=True, kw_only=True)
class APGD:
    """White-box, untargeted or targeted, within a radius or to the smallest one.

    Attributes:
        norm: of the radius.
        loss: "ce" is cross-entropy, "dlr" the difference of logits ratio, "dlr_targeted" its
            targeted form, for each of the `targets` most likely other classes in turn, "margin" the
            largest other logit less the label's. A targeted search climbs towards its wanted label.
            With too few classes for the ratio (three, or four for the targeted form) it is the
            margin, and a note says so.
        steps: gradient steps of a run.
        restarts: runs, each from a random start.
        targets: classes tried by an untargeted "dlr_targeted".
        momentum: share of the new step in a move; the rest repeats the last move.
        rho: the step is halved where no more than this share of a period's steps raised the loss.
        radii: without an epsilon, the radii to search first, ascending; a ladder when not given.
        bisections: without an epsilon, halvings of the radius after that.
    """

    norm: Literal["linf", "l2", "l1"] = "linf"
    loss: Literal["ce", "dlr", "dlr_targeted", "margin"] = "ce"
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    momentum: float = 0.75
    rho: float = 0.75
    radii: tuple[float, ...] | None = None
    bisections: int = 5

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
        """See `attacks.Attack.run`. Without an epsilon each image's smallest radius is sought."""
        import torch

        from .distances import distance
        from .losses import likely_aims
        from .radii import ladder, smallest_radius

        best = images.clone()
        fooled = torch.zeros(len(images), dtype=torch.bool)
        targets = self.targets if self.loss == "dlr_targeted" else 0
        wanted = likely_aims(model, images, criterion, targets)

        def attempt(rows: Tensor, radius: Tensor) -> Tensor:
            warm = fooled[rows]
            hit = torch.zeros(len(rows), dtype=torch.bool)
            for restart in range(self.restarts):
                for k in range(1 if wanted is None else wanted.shape[1]):
                    left = (~hit & (model.remaining()[rows] > 0)).nonzero().flatten()
                    if len(left) == 0:
                        break
                    known = warm[left] & (restart == 0)
                    start = self._start(
                        model, images, best, rows[left], radius[left], known, random
                    )
                    ended, hit[left] = self._climb(
                        model,
                        images,
                        criterion,
                        rows[left],
                        radius[left],
                        None if wanted is None else wanted[rows[left], k],
                        start,
                    )
                    best[rows[left[hit[left]]]] = ended[hit[left]]
            fooled[rows] |= hit
            measured = distance(self.norm, images[rows], best[rows])
            return torch.where(hit, measured, torch.inf)

        if epsilon is not None:
            attempt(torch.arange(len(images)), torch.full((len(images),), epsilon))
        else:
            radii = self.radii or ladder(self.norm, images.shape[1:], model.bounds)
            smallest_radius(model, radii, self.bisections, attempt, images=len(images))
        return best

    def _start(
        self,
        model: Oracle,
        images: Tensor,
        best: Tensor,
        rows: Tensor,
        radius: Tensor,
        known: Tensor,
        random: ImageRandom,
    ) -> Tensor:
        """Where a run starts (n, C, H, W): a random point of the sphere around the image.

        Where an adversarial of a larger radius is known, that one, brought into the ball.
        """
        import torch

        from .distances import distance
        from .projections import on_sphere

        clean = images[rows]
        if self.norm == "l1":  # it is projected when its run begins
            noise = random.normal(rows, images.shape[1:])
        else:
            noise = on_sphere(self.norm, rows, images.shape[1:], radius, random)
        size = distance(self.norm, clean, best[rows]).clamp_min(1e-12)
        shrunk = torch.lerp(clean, best[rows], (radius / size).clamp_max(1.0).view(-1, 1, 1, 1))
        return torch.where(known.view(-1, 1, 1, 1), shrunk, (clean + noise).clamp(*model.bounds))

    def _climb(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        rows: Tensor,
        radius: Tensor,
        targets: Tensor | None,
        start: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One run: adversarials, elsewhere the points of highest loss (n, C, H, W); hits (n,)."""
        import torch

        stages = STAGES if self.norm == "l1" else ((1.0, 1.0),)
        ended = start.clone()
        hit = torch.zeros(len(rows), dtype=torch.bool)
        spent, share = 0, 0.0
        for multiple, part in stages:
            left = (~hit).nonzero().flatten()
            share += part
            steps = round(share * self.steps) - spent
            spent += steps
            climbers = _Climbers.starting(
                place=left,
                rows=rows[left],
                clean=images[rows[left]],
                labels=criterion.labels[rows[left]],
                targets=(rows if targets is None else targets)[left],
                radius=radius[left] * multiple,
                counted=radius[left],
                image=ended[left],
                step=(L1_STEP if self.norm == "l1" else FIRST_STEP) * multiple * radius[left],
                bounds=model.bounds,
            )
            if self.norm == "l1":
                climbers.image = _within_l1(climbers, climbers.image, model)
                if multiple != stages[0][0]:
                    _measure_sparsity(climbers, climbers.image)
            self._ascend(model, criterion, climbers, steps, targets is not None, ended, hit)
        return ended, hit

    def _ascend(
        self,
        model: Oracle,
        criterion: Criterion,
        climbers: _Climbers,
        steps: int,
        targeted: bool,
        ended: Tensor,
        hit: Tensor,
    ) -> None:
        """Climb until fooled or out of steps; writes to ended (n, C, H, W) and hit (n,)."""
        self._look(model, criterion, climbers, targeted, ended, hit)
        moving = climbers.gradient.flatten(1).abs().amax(1) > 0
        for row in climbers.rows[~moving].tolist():
            model.note(row, "the gradient is zero at the start: there is nothing to climb")
        climbers.keep(moving, ended)
        climbers.rises.zero_()
        climbers.checked = climbers.best_value.clone()
        period = self._period(steps, None)
        check = period
        for k in range(steps):
            if len(climbers.rows) == 0:
                return
            self._move(climbers, 1.0 if k == 0 else self.momentum, model)
            self._look(model, criterion, climbers, targeted, ended, hit, last=k + 1 == steps)
            if k + 1 == check:
                if self.norm == "l1":
                    _check_l1(climbers)
                else:
                    self._check(climbers, period)
                period = self._period(steps, period)
                check += period
        ended[climbers.place] = climbers.best

    def _period(self, steps: int, last: int | None) -> int:
        """How many steps until the next checkpoint, after a period of `last`."""
        if self.norm == "l1":
            return max(int(L1_PERIOD * steps), 1)
        if last is None:
            return max(int(FIRST_PERIOD * steps), 1)
        return max(last - max(int(SHORTER * steps), 1), int(SHORTEST * steps), 1)

    def _look(
        self,
        model: Oracle,
        criterion: Criterion,
        climbers: _Climbers,
        targeted: bool,
        ended: Tensor,
        hit: Tensor,
        last: bool = False,
    ) -> None:
        """Ask for loss and gradient, or loss only; those fooled, or out of queries, leave."""
        import torch

        from .distances import distance
        from .losses import ascended, falls_back, input_gradient
        from .projections import SLACK, sendable

        climbers.keep(model.remaining()[climbers.rows] > 0, ended)
        if len(climbers.rows) == 0:
            return
        loss: Loss = "dlr" if self.loss == "dlr_targeted" else self.loss
        flat = climbers.radius.flatten()
        sent = sendable(model, climbers.image, climbers.clean, self.norm, flat)
        ask = model.scores if last else model.logits
        sent = sent.detach().requires_grad_(not last)
        logits = ask(sent, climbers.rows)
        targets = climbers.targets if targeted else None
        if falls_back(loss, logits.shape[1], targeted=targeted):
            for row in climbers.rows.tolist():
                model.note(row, f"{logits.shape[1]} classes are too few for DLR: margin instead")
        values = ascended(loss, logits, climbers.labels, targets)
        fooled = criterion.holds(logits.detach().argmax(1), climbers.rows)
        if self.norm == "l1":  # the first stages climb outside the radius that counts
            near = distance("l1", climbers.clean, sent.detach())
            fooled &= near <= climbers.counted * (1 + SLACK)
        some = bool(fooled.any())
        if some:
            place = climbers.place[fooled]
            ended[place] = sent.detach()[fooled]
            hit[place] = True
            if bool(fooled.all()):
                climbers.keep(~fooled)
                return
            # Nothing of those that leave: where gradients are estimated, theirs would cost queries.
            values = values.masked_fill(fooled, 0.0)
        if not last:
            climbers.gradient = input_gradient(values, sent)
        values = values.detach().double()
        climbers.rises += values > climbers.value
        climbers.value = values
        if some:
            climbers.keep(~fooled)
        better = climbers.value > climbers.best_value
        column = better.view(-1, 1, 1, 1)
        climbers.best = torch.where(column, climbers.image, climbers.best)
        climbers.best_gradient = torch.where(column, climbers.gradient, climbers.best_gradient)
        climbers.best_value = torch.where(better, climbers.value, climbers.best_value)

    def _move(self, climbers: _Climbers, share: float, model: Oracle) -> None:
        """A step along the gradient, then momentum (algorithm 1, lines 7 and 8)."""
        image = climbers.image
        if self.norm == "l1":
            stepped = _sparse_unit(climbers).mul_(climbers.step).add_(image)
            climbers.previous, climbers.image = image, _within_l1(climbers, stepped, model)
            return
        within = _within_linf if self.norm == "linf" else _within_l2
        direction = climbers.gradient.sign() if self.norm == "linf" else _unit(climbers.gradient)
        stepped = within(climbers, direction.mul_(climbers.step).add_(image), model)
        # share * stepped + (1 - share) * (the image after another move like the last one)
        repeated = (image - climbers.previous).add_(image)
        climbers.previous = image
        climbers.image = within(climbers, repeated.lerp_(stepped, share), model)

    def _check(self, climbers: _Climbers, period: int) -> None:
        """Halve the step of those that got nowhere, and take them back to their best point."""
        import torch

        stalled = ~climbers.reduced & (climbers.best_value <= climbers.checked)
        reduce = (climbers.rises <= self.rho * period) | stalled
        climbers.reduced = reduce
        climbers.checked = climbers.best_value.clone()
        climbers.rises.zero_()
        column = reduce.view(-1, 1, 1, 1)
        climbers.step = torch.where(column, climbers.step / 2, climbers.step)
        climbers.take_back(reduce)


@dataclass
class _Climbers:
    """The images of a run that are still climbing; every field is a tensor of n entries."""

    place: Tensor  # where its answer goes
    rows: Tensor
    clean: Tensor
    low: Tensor  # the box and the Linf ball at once
    high: Tensor
    labels: Tensor
    targets: Tensor
    radius: Tensor  # (n, 1, 1, 1), to stay in
    counted: Tensor  # the radius that counts
    image: Tensor
    previous: Tensor
    gradient: Tensor
    value: Tensor  # float64
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    step: Tensor  # (n, 1, 1, 1)
    rises: Tensor  # steps of this period that raised the loss
    reduced: Tensor  # whether the last checkpoint halved the step
    checked: Tensor  # best_value at that checkpoint
    share: Tensor  # of the values that move (L1)
    changes: Tensor  # of the best point at the last checkpoint (L1)

    @classmethod
    def starting(
        cls,
        *,
        place: Tensor,
        rows: Tensor,
        clean: Tensor,
        labels: Tensor,
        targets: Tensor,
        radius: Tensor,
        counted: Tensor,
        image: Tensor,
        step: Tensor,
        bounds: Bounds,
    ) -> _Climbers:
        """Nothing asked yet."""
        import torch

        n = len(rows)
        column = radius.view(n, 1, 1, 1)
        return cls(
            place=place,
            rows=rows,
            clean=clean,
            low=(clean - column).clamp_min(bounds[0]),
            high=(clean + column).clamp_max(bounds[1]),
            labels=labels,
            targets=targets,
            radius=column,
            counted=counted,
            image=image,
            previous=image,
            gradient=torch.zeros_like(image),
            value=torch.full((n,), -math.inf, dtype=torch.float64),
            best=image,
            best_gradient=torch.zeros_like(image),
            best_value=torch.full((n,), -math.inf, dtype=torch.float64),
            step=step.view(n, 1, 1, 1),
            rises=torch.zeros(n),
            reduced=torch.ones(n, dtype=torch.bool),
            checked=torch.full((n,), -math.inf, dtype=torch.float64),
            share=torch.full((n,), L1_SHARE),
            changes=torch.full((n,), float(image[:1].numel())),
        )

    def keep(self, mask: Tensor, ended: Tensor | None = None) -> None:
        """Only those in mask (n,) stay; the best points of the others go to `ended` if given."""
        if bool(mask.all()):
            return
        if ended is not None:
            ended[self.place[~mask]] = self.best[~mask]
        stay = mask.nonzero().flatten()
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[stay])

    def take_back(self, mask: Tensor) -> None:
        """Put those in mask (n,) at their best point."""
        import torch

        column = mask.view(-1, 1, 1, 1)
        self.image = torch.where(column, self.best, self.image)
        self.gradient = torch.where(column, self.best_gradient, self.gradient)
        self.value = torch.where(mask, self.best_value, self.value)


def _within_linf(climbers: _Climbers, images: Tensor, model: Oracle) -> Tensor:
    """Changes images."""
    return images.clamp_(climbers.low, climbers.high)


def _within_l2(climbers: _Climbers, images: Tensor, model: Oracle) -> Tensor:
    """Changes images."""
    import torch

    change = images.sub_(climbers.clean)
    length = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    shrunk = change.mul_((climbers.radius / length).clamp_max(1.0)).add_(climbers.clean)
    return shrunk.clamp_(*model.bounds)


def _within_l1(climbers: _Climbers, images: Tensor, model: Oracle) -> Tensor:
    from .projections import onto_l1_ball

    radius = climbers.radius.flatten()
    flat = onto_l1_ball(images.flatten(1), climbers.clean.flatten(1), radius, model.bounds)
    return flat.view_as(images)


def _unit(gradient: Tensor) -> Tensor:
    """Of length 1 in L2, however small; 0 where there is none."""
    import torch

    largest = gradient.flatten(1).abs().amax(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    scaled = gradient / largest.view(-1, 1, 1, 1)
    length = torch.linalg.vector_norm(scaled, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return scaled.div_(length)


def _sparse_unit(climbers: _Climbers) -> Tensor:
    """The signs of the largest gradients, as many as the share says, of length 1 in L1."""
    size = climbers.gradient.flatten(1).abs()
    count = (climbers.share * size.shape[1]).long().clamp(1, size.shape[1])
    ordered = size.sort(dim=1, descending=True).values
    threshold = ordered.gather(1, (count - 1).unsqueeze(1))
    signs = climbers.gradient.sign().mul_((size >= threshold).view_as(climbers.gradient))
    return signs.div_(signs.abs().sum(dim=(1, 2, 3), keepdim=True).clamp_min(1.0))


def _measure_sparsity(climbers: _Climbers, images: Tensor) -> None:
    """Set how many values the images change, and the share that moves from now on."""
    climbers.changes = (images != climbers.clean).flatten(1).sum(1).float()
    climbers.share = climbers.changes / images[:1].numel() / L1_SPARSER


def _check_l1(climbers: _Climbers) -> None:
    """The checkpoint of 2103.01208: a full step while the changes still get fewer."""
    import torch

    before = climbers.changes
    _measure_sparsity(climbers, climbers.best)
    sparser = climbers.changes < L1_PROGRESS * before
    first = L1_STEP * climbers.radius
    slower = torch.maximum(climbers.step / L1_SLOWER, L1_SLOWEST * first)
    climbers.step = torch.where(sparser.view(-1, 1, 1, 1), first, slower)
    climbers.take_back(sparser)


def create(
    *,
    norm: Literal["linf", "l2", "l1"] = "linf",
    loss: Literal["ce", "dlr", "dlr_targeted", "margin"] = "ce",
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    momentum: float = 0.75,
    rho: float = 0.75,
    radii: tuple[float, ...] | None = None,
    bisections: int = 5,
) -> APGD:
    """Make the attack; see `APGD` for the parameters."""
    if norm not in ("linf", "l2", "l1"):
        raise UsageError(f"got norm={norm!r}; wanted linf, l2 or l1")
    if loss not in ("ce", "dlr", "dlr_targeted", "margin"):
        raise UsageError(f"got loss={loss!r}; wanted ce, dlr, dlr_targeted or margin")
    if min(steps, restarts, targets) < 1 or bisections < 0:
        raise UsageError(
            f"got steps={steps}, restarts={restarts}, targets={targets}, bisections={bisections}; "
            "wanted at least 1, 1, 1 and 0"
        )
    if not (0 < momentum <= 1 and 0 < rho < 1):
        raise UsageError(
            f"got momentum={momentum}, rho={rho}; wanted values in (0, 1] and in (0, 1)"
        )
    if radii is not None:
        from .radii import check_radii

        check_radii(radii)
    return APGD(
        norm=norm,
        loss=loss,
        steps=steps,
        restarts=restarts,
        targets=targets,
        momentum=momentum,
        rho=rho,
        radii=radii,
        bisections=bisections,
    )
