"""HopSkipJump: a gradient estimated from labels, along the boundary (Chen et al. 1904.02144)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .types import Access, Attack

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

HALVINGS = 12
"""How often a step that leaves the adversarial side is halved before it is given up."""

BISECTION = 7
"""Halvings on the way back to the boundary; fewer leave the probes to one side of it."""

PART = 2048
"""Probes asked together at most, to bound memory."""


@dataclass(frozen=True, kw_only=True)
class HopSkipJump:
    """Decision-based, untargeted or targeted; minimises L2 or Linf (algorithm 2 of the paper).

    A step asks random probes around a point on the boundary, takes the mean of their directions
    weighted by their answers for the gradient (equation 16, with its baseline), walks along it by
    distance / sqrt(step), halved until the walk ends adversarial, and bisects back to the boundary.

    What differs from the paper: every image has an estimate, a step length and a number of probes
    of its own; the probes of all images are asked in shared forward passes; probes are longer than
    the paper's distance / dimension, which 8-bit rounding swallows and which asks for a far finer
    bisection, and never shorter than rounding lets through.

    Attributes:
        norm: "l2" or "linf".
        steps: steps at most.
        initial_probes: probes of the first step; step t asks initial_probes * sqrt(t).
        probe_size: length of a probe as a share of the distance to the clean image.
        cells: probes of low frequency, cells x cells values enlarged; 0 for white noise, as in the
            paper.
        start_tries: images asked for a start.
        bisection_steps: queries that bring a start to the boundary.
        start: an attack that finds the starts, instead of noise (or of the pool, when targeted).
    """

    norm: Literal["l2", "linf"] = "l2"
    steps: int = 64
    initial_probes: int = 30
    probe_size: float = 0.2
    cells: int = 0
    start_tries: int = 25
    bisection_steps: int = 10
    start: Attack | None = None

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
        import torch

        from .starts import find_starts

        lower, upper = model.bounds
        best, found = find_starts(
            model,
            images,
            random,
            start=self.start,
            tries=self.start_tries,
            bisection_steps=self.bisection_steps,
        )
        # The start's bisection ran along a straight line; for Linf the box is what shrinks.
        radius = self._distance(best - images)
        given_up = ~found
        for step in range(1, self.steps + 1):
            if epsilon is not None:
                given_up = given_up | (radius <= epsilon)
            # A probe, a step and a bisection have to be affordable.
            left = model.remaining()
            rows = (~given_up & (left > 3) & (radius > 0)).nonzero().flatten()
            if len(rows) == 0:
                break
            wanted = int(self.initial_probes * step**0.5)
            direction = self._gradient(model, images, best, radius, rows, wanted, random)
            length = radius[rows] / step**0.5
            reached = torch.zeros(len(rows), dtype=torch.bool)
            ahead = best[rows].clone()
            for _ in range(HALVINGS):
                trying = (~reached & (model.remaining()[rows] > 0)).nonzero().flatten()
                if len(trying) == 0:
                    break
                stride = length[trying].view(-1, 1, 1, 1)
                tried = (best[rows[trying]] + stride * direction[trying]).clamp(lower, upper)
                hit = model.is_adversarial(tried, rows[trying])
                ahead[trying[hit]] = tried[hit]
                reached[trying[hit]] = True
                length[trying[~hit]] /= 2
            ahead, rows = ahead[reached], rows[reached]
            back = self._back_to_boundary(model, images[rows], ahead, rows)
            measured = self._distance(back - images[rows])
            nearer = measured < radius[rows]
            best[rows[nearer]] = back[nearer]
            radius[rows[nearer]] = measured[nearer]
        return best

    def _gradient(
        self,
        model: Oracle,
        images: Tensor,
        best: Tensor,
        radius: Tensor,
        rows: Tensor,
        wanted: int,
        random: ImageRandom,
    ) -> Tensor:
        """A direction into the adversarial side for each of rows (n,): (n, C, H, W), unit length.

        As many probes as wanted, or as the budget pays with two queries kept for the step.
        """
        import torch

        lower, upper = model.bounds
        shape = images.shape[1:]
        dimension = images[0].numel()
        size = self.probe_size * radius[rows]
        if self.norm == "linf":
            size = size * dimension**0.5
        if model.quantised:
            # Each value has to move by a rounding step now and then.
            size = size.clamp_min(0.5 * dimension**0.5 * (upper - lower) / 255)
        counts = (model.remaining()[rows] - 2).clamp(max=wanted)
        plus, minus = torch.zeros(2, len(rows), *shape)
        hits = torch.zeros(len(rows))
        done = torch.zeros_like(counts)
        while bool((done < counts).any()):
            # A few probes of each image at a time, to bound memory; an image's stream draws the
            # same numbers whatever the part is, one probe after the other.
            part = max(1, min(wanted, PART // max(1, len(rows))))
            take = (counts - done).clamp(0, part)
            lanes = torch.arange(len(rows)).repeat_interleave(take)
            noise = self._noise(rows[lanes], shape, random)
            flat = noise.flatten(1)
            flat /= torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_min(1e-12)
            centre = best[rows[lanes]]
            tried = (centre + size[lanes].view(-1, 1, 1, 1) * noise).clamp(lower, upper)
            hit = model.is_adversarial(tried, rows[lanes])
            moved = tried - centre  # what clipping left of the probe
            weight = hit.float().view(-1, 1, 1, 1)
            plus.index_add_(0, lanes, moved * weight)
            minus.index_add_(0, lanes, moved * (1 - weight))
            hits.index_add_(0, lanes, hit.float())
            done += take
        # sum of (answer - mean answer) * direction, with answers of +1 and -1 (equation 16); where
        # all answers are equal their mean direction is all there is.
        share = (hits / counts).view(-1, 1, 1, 1)
        gradient = (1 - share) * plus - share * minus
        gradient = torch.where(share == 1, plus, torch.where(share == 0, -minus, gradient))
        if self.norm == "linf":
            return gradient.sign()
        length = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp_min(1e-12)
        unit: Tensor = gradient / length.view(-1, 1, 1, 1)
        return unit

    def _noise(self, rows: Tensor, shape: tuple[int, ...], random: ImageRandom) -> Tensor:
        from .low_frequency import smooth_noise

        if self.norm == "linf" and self.cells == 0:
            return random.uniform(rows, shape) * 2 - 1
        return smooth_noise(rows, shape, self.cells, random)

    def _distance(self, delta: Tensor) -> Tensor:
        import torch

        order = torch.inf if self.norm == "linf" else 2
        length: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1)
        return length

    def _back_to_boundary(
        self, model: Oracle, clean: Tensor, ahead: Tensor, rows: Tensor
    ) -> Tensor:
        """Bisect from ahead (n, C, H, W) towards the clean images.

        For L2 along the straight line; for Linf by clipping to a smaller and smaller box.
        """
        import torch

        from .starts import bisect

        if self.norm == "l2":
            return bisect(model, clean, ahead, rows, steps=BISECTION)
        radius = self._distance(ahead - clean)
        low, high = torch.zeros_like(radius), torch.ones_like(radius)

        def boxed(share: Tensor, which: Tensor) -> Tensor:
            limit = (share * radius[which]).view(-1, 1, 1, 1)
            return clean[which] + (ahead[which] - clean[which]).clamp(-limit, limit)

        for _ in range(BISECTION):
            asked = (model.remaining()[rows] > 0).nonzero().flatten()
            if len(asked) == 0:
                break
            middle = (low[asked] + high[asked]) / 2
            hit = model.is_adversarial(boxed(middle, asked), rows[asked])
            high[asked] = torch.where(hit, middle, high[asked])
            low[asked] = torch.where(hit, low[asked], middle)
        return boxed(high, torch.arange(len(rows)))


def create(
    *,
    norm: Literal["l2", "linf"] = "l2",
    steps: int = 64,
    initial_probes: int = 30,
    probe_size: float = 0.2,
    cells: int = 0,
    start_tries: int = 25,
    bisection_steps: int = 10,
    start: Attack | None = None,
) -> HopSkipJump:
    """Make the attack; see `HopSkipJump` for the parameters."""
    if norm not in ("l2", "linf"):
        raise UsageError(f"got norm={norm!r}; hop_skip_jump makes l2 or linf small")
    if min(steps, bisection_steps) < 0 or min(initial_probes, start_tries) < 1:
        raise UsageError(
            f"got steps={steps}, bisection_steps={bisection_steps}, "
            f"initial_probes={initial_probes}, start_tries={start_tries}; wanted at least 0, 0, "
            "1 and 1"
        )
    if not 0 < probe_size <= 1:
        raise UsageError(
            f"got probe_size={probe_size}; wanted a value in (0, 1], relative to the distance"
        )
    if cells < 0 or cells == 1:
        raise UsageError(f"got cells={cells}; wanted at least 2, or 0 for white noise")
    return HopSkipJump(
        norm=norm,
        steps=steps,
        initial_probes=initial_probes,
        probe_size=probe_size,
        cells=cells,
        start_tries=start_tries,
        bisection_steps=bisection_steps,
        start=start,
    )
