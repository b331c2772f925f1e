"""A meter that grants scores, seen as one that grants gradients: they are estimated from probes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .errors import BudgetExhausted
from .oracle import CHUNK, Oracle, quantise
from .random import ImageRandom
from .views import View

Method = Literal["coordinate", "nes"]

BLOCK = 64
"""Pairs of probes drawn at once. Fixed: numbers drawn in other portions would be other numbers."""


class EstimatedView(View):
    """Every row of an oracle; a gradient is asked for like a true one, and paid for in queries.

    `logits` costs one query as ever. When a loss of it is differentiated, each image that the loss
    depends on is probed once; however many losses of the same logits follow, it is not probed
    again. An image with too few queries for that has none left as far as its attack can see.

    Args:
        whole: the oracle, with access to scores.
        random: its rows' streams.
        method, samples, step: as `gradient_estimate.GradientEstimate` has them, the step in units
            of pixel values.
    """

    def __init__(
        self, whole: Oracle, random: ImageRandom, *, method: Method, samples: int, step: float
    ) -> None:
        super().__init__(whole, torch.arange(len(whole.queries)))
        self.access = "gradient"
        self._random = random
        self._method: Method = method
        self._pairs = samples if method == "nes" else whole.best.shape[1:].numel()
        self._step = step

    def left(self) -> Tensor:
        """Queries that the whole has left for each row, (N,) int64."""
        return super().remaining()

    def remaining(self) -> Tensor:
        """How many more gradients each row can pay for, each with the query it belongs to."""
        return self.left() // (1 + 2 * self._pairs)

    def logits(self, images: Tensor, rows: Tensor) -> Tensor:
        """See `Oracle.logits`.

        Raises:
            BudgetExhausted: before anything is asked, when a row can't pay for a gradient too.
        """
        counts = torch.bincount(rows, minlength=len(self._rows))
        short = (counts > 0) & (counts > self.remaining())
        if bool(short.any()):
            raise BudgetExhausted(short.nonzero().flatten().tolist())
        seen = images.detach()
        scores = self.scores(seen, rows)
        if not images.requires_grad:
            return scores
        if self._method == "coordinate":
            probes: _Probes = _Coordinates(self, seen, rows, self._step)
        else:
            probes = _Noise(self, seen, rows, self._step, self._pairs, self._random)
        attached: Tensor = _Attached.apply(images, scores, probes)
        return attached


class _Attached(torch.autograd.Function):
    """Scores (n, K), with the gradient that probes find."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, scores: Tensor, probes: _Probes) -> Tensor:
        ctx.probes = probes
        return scores.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        return ctx.probes.pull_back(upstream[0]), None, None


class _Probes:
    """Pairs of probes around images (n, C, H, W) of rows (n,), and the scores that they got."""

    def __init__(self, view: EstimatedView, images: Tensor, rows: Tensor, pairs: int) -> None:
        self.images = images
        self._view = view
        self._rows = rows
        self._pairs = pairs
        self._probed = torch.zeros(len(rows), dtype=torch.bool)
        self._differences = torch.zeros(len(rows), pairs, 0)

    def pairs_around(self, places: Tensor, start: int, size: int) -> Tensor:
        """Pairs start to start + size of m of the images: up and down, (2, m, size, C, H, W)."""
        raise NotImplementedError

    def combine(self, slopes: Tensor) -> Tensor:
        """The gradient (n, C, H, W), from a loss's differences between up and down (n, pairs)."""
        raise NotImplementedError

    def pull_back(self, upstream: Tensor) -> Tensor:
        """The gradient (n, C, H, W) of the loss whose gradient for the scores (n, K) is given."""
        wanted = (upstream != 0).any(1) & ~self._probed
        # A row may stand here several times; each of its images is paid for by itself.
        same = (self._rows.unsqueeze(0) == self._rows.unsqueeze(1)) & wanted.unsqueeze(0)
        affordable = self._view.left()[self._rows] // (2 * self._pairs)
        paid = wanted & (same.tril(-1).sum(1) < affordable)
        for row in self._rows[wanted & ~paid].unique().tolist():
            self._view.note(row, "too few queries were left to estimate a gradient")
        self._ask(paid.nonzero().flatten(), upstream.shape[1])
        self._probed |= paid
        return self.combine((self._differences * upstream.unsqueeze(1)).sum(2))

    def _ask(self, places: Tensor, classes: int) -> None:
        if self._differences.shape[2] != classes:
            self._differences = torch.zeros(len(self._rows), self._pairs, classes)
        for start in range(0, self._pairs, BLOCK):
            size = min(BLOCK, self._pairs - start)
            for part in places.split(max(1, CHUNK // (2 * size))):
                both = self.pairs_around(part, start, size)
                rows = self._rows[part].repeat_interleave(size).repeat(2)
                scores = self._view.scores(both.flatten(0, 2), rows)
                up, down = scores.view(2, len(part), size, classes)
                self._differences[part, start : start + size] = up - down


class _Coordinates(_Probes):
    """A step up and a step down for each value: central differences, one-sided at the bounds.

    A difference is divided by the way between its two probes as they are sent: clipped, and rounded
    on a quantised track.
    """

    def __init__(self, view: EstimatedView, images: Tensor, rows: Tensor, step: float) -> None:
        super().__init__(view, images, rows, pairs=images.shape[1:].numel())
        self._step = step
        self._ways = torch.ones(len(rows), self._pairs)

    def pairs_around(self, places: Tensor, start: int, size: int) -> Tensor:
        offsets = torch.zeros(size, self._pairs)
        offsets[torch.arange(size), start + torch.arange(size)] = self._step
        offsets = offsets.view(size, *self.images.shape[1:])
        clean = self.images[places].unsqueeze(1)
        both = torch.stack([clean + offsets, clean - offsets]).clamp(*self._view.bounds)
        if self._view.quantised:
            both = quantise(both, self._view.bounds)
        ways = (both[0] - both[1]).flatten(2).diagonal(offset=start, dim1=1, dim2=2)
        self._ways[places, start : start + size] = ways
        return both

    def combine(self, slopes: Tensor) -> Tensor:
        return (slopes / self._ways).view_as(self.images)


class _Noise(_Probes):
    """Pairs of normal noise, up and down (NES): each weighted by the difference that it makes.

    Where a value lies so near a bound that one probe of a pair would leave it, both are shifted
    inwards by the same amount: cut off instead, it would be heard at half its strength.

    The mean over k pairs of d values is the gradient, and noise sqrt(d / k) times as long. It is
    scaled by k / (k + d + 1), so that along itself it is as steep as the model: attacks that divide
    by it, such as DeepFool, take steps of the right length. Its direction is the same.

    The noise is not kept but drawn again from a seed of the image's stream: what takes memory is
    one block of it.
    """

    def __init__(
        self,
        view: EstimatedView,
        images: Tensor,
        rows: Tensor,
        step: float,
        pairs: int,
        random: ImageRandom,
    ) -> None:
        super().__init__(view, images, rows, pairs)
        self._step = step
        halves = (random.uniform(rows, (2,)).double() * 2**24).long()
        self._seeds = (halves[:, 0] * 2**24 + halves[:, 1]).tolist()
        self._streams: dict[int, ImageRandom] = {}

    def pairs_around(self, places: Tensor, start: int, size: int) -> Tensor:
        lower, upper = self._view.bounds
        offsets = self._step * self._drawn(places, start, size)
        room = offsets.abs()
        centres = torch.maximum(self.images[places].unsqueeze(1), lower + room)
        centres = torch.minimum(centres, upper - room)
        return torch.stack([centres + offsets, centres - offsets]).clamp(lower, upper)

    def combine(self, slopes: Tensor) -> Tensor:
        places = slopes.any(1).nonzero().flatten()
        sums = torch.zeros_like(self.images)
        for start in range(0, self._pairs, BLOCK):
            size = min(BLOCK, self._pairs - start)
            for part in places.split(max(1, CHUNK // (2 * size))):
                weights = slopes[part, start : start + size].view(len(part), size, 1, 1, 1)
                sums[part] += (weights * self._drawn(part, start, size)).sum(1)
        return sums / (2 * self._step * (self._pairs + self.images.shape[1:].numel() + 1))

    def _drawn(self, places: Tensor, start: int, size: int) -> Tensor:
        """The same noise whenever it is asked for, block after block: (m, size, C, H, W)."""
        out = torch.empty(len(places), size, *self.images.shape[1:])
        for place, target in zip(places.tolist(), out, strict=True):
            if start == 0:
                self._streams[place] = ImageRandom([self._seeds[place]])
            target.copy_(self._streams[place].normal(torch.tensor([0]), target.shape)[0])
        return out
