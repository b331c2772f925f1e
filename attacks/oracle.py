"""The meter: an attack's only way to the model.

It counts for each image, holds the budget, grants no more access than the threat model allows,
rounds to what can be sent (8-bit values where the track says so), and watches: whatever the attack
asks, the best adversarial so far and the curve of distance against queries are known without the
attack's help. The same meter stands behind a local run and behind the server's referee.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .criteria import Criterion
from .distances import distance
from .errors import BudgetExhausted, UsageError
from .ledger import Ledger
from .types import ACCESS_ORDER, Access, Bounds, Model, Norm, PixelModel, Pool

LEVELS = 255
"""Steps between the bounds of an 8-bit image."""

CHUNK = 1024
"""Images in a forward pass at most, to bound memory."""

UNLIMITED = torch.iinfo(torch.int64).max
"""Queries left where there is no budget."""

BOUNDS_TOLERANCE = 1e-4
"""How far outside the bounds a query may lie before it is refused; it is clipped in any case."""


class Verdict(NamedTuple):
    """What the referee finds about one claimed adversarial."""

    adversarial: bool
    distance: float
    predicted: int


def quantise(images: Tensor, bounds: Bounds = (0.0, 1.0)) -> Tensor:
    """Round to the 8-bit lattice of the bounds (any shape); no gradient passes."""
    lower, upper = bounds
    scale = (upper - lower) / LEVELS
    return ((images.detach() - lower) / scale).round() * scale + lower


def rescale(images: Tensor, old: Bounds, new: Bounds) -> Tensor:
    """A copy of images (any shape) that is moved from one interval to another."""
    if old == new:
        return images.clone()
    shares = (images - old[0]) / (old[1] - old[0])
    return (shares * (new[1] - new[0]) + new[0]).clamp(*new)


def from_pixels(pixels: Tensor, bounds: Bounds = (0.0, 1.0)) -> Tensor:
    """(n, H, W, C) uint8 -> (n, C, H, W) float32 on the 8-bit lattice of the bounds."""
    lower, upper = bounds
    images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return quantise(images.div_(LEVELS).mul_(upper - lower).add_(lower), bounds)


def pixel_asker(model: Model) -> Callable[[Tensor], Tensor]:
    """The shortest way to a model's labels (n,) int64 for 8-bit images (n, H, W, C) uint8.

    It raises UsageError where the model's logits can't be read.
    """
    if isinstance(model, PixelModel):
        return model.pixel_labels
    return lambda pixels: checked_logits(model(from_pixels(pixels, model.bounds))).argmax(1)


def checked_logits(logits: Tensor) -> Tensor:
    """The logits (n, K) as they are; UsageError where they are of another shape or not finite."""
    if logits.ndim != 2:
        raise UsageError(f"the model returned {tuple(logits.shape)}; wanted logits (N, K)")
    if not bool(torch.isfinite(logits).all()):
        raise UsageError("the model returned NaN or infinite logits; wanted finite ones")
    return logits


class Oracle:
    """A metered model for one batch.

    Args:
        model: the model under attack.
        images: the clean batch (N, C, H, W) float32. "row" below is a position in it.
        criterion: what counts as adversarial, for the same N images.
        norm: the distance that the trace is measured in.
        access: the most that the attack may see: labels, scores, or gradients too.
        budget: queries that each image may cost, or None for no limit.
        quantised: round every query to 8 bits before the model sees it.
        chunk: images a forward pass at most, to bound memory.
        pool: images that an attack may start from, or None.
        ledger: takes down every question, or None.
    """

    def __init__(
        self,
        model: Model,
        images: Tensor,
        criterion: Criterion,
        *,
        norm: Norm,
        access: Access = "decision",
        budget: int | None = None,
        quantised: bool = False,
        chunk: int = CHUNK,
        pool: Pool | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        n = len(images)
        self._model = model
        self._images = images
        self._lock = threading.RLock()
        self._chunk = chunk
        self._ask_pixels = pixel_asker(model)
        self.criterion = criterion
        self.norm: Norm = norm
        self.access: Access = access
        self.budget = budget
        self.quantised = quantised
        self.pool = pool
        self._ledger = ledger
        # One memory, two views: single numbers are read and written ten times faster by NumPy.
        self._counts = np.zeros(n, dtype=np.int64)
        self._queries = torch.from_numpy(self._counts)
        self._gradients = torch.zeros(n, dtype=torch.int64)
        self._spent = 0
        self._best = images.clone()
        self._best_distance = torch.full((n,), torch.inf)
        self.claimed = images.clone()
        self.claimed_distance = torch.full((n,), torch.inf)
        self.traces: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        self.notes: list[str | None] = [None] * n

    @property
    def bounds(self) -> Bounds:
        """The model's bounds."""
        return self._model.bounds

    @property
    def queries(self) -> Tensor:
        """Images asked so far for each row, (N,) int64."""
        return self._queries

    @property
    def gradients(self) -> Tensor:
        """How many of them were also asked backwards, (N,) int64."""
        return self._gradients

    @property
    def best(self) -> Tensor:
        """The nearest adversarial asked so far (N, C, H, W), or the clean image."""
        return self._best

    @property
    def best_distance(self) -> Tensor:
        """Its distance in `norm` (N,) float32, infinite where there is none."""
        return self._best_distance

    def require(self, wanted: Access) -> None:
        """Raise a UsageError unless this much access was granted."""
        if ACCESS_ORDER.index(self.access) < ACCESS_ORDER.index(wanted):
            raise UsageError(
                f"this needs {wanted} access to the model, and {self.access} access was granted; "
                f"choose an attack that needs less, or a threat model with {wanted} access"
            )

    def remaining(self) -> Tensor:
        """Queries left for each row, (N,) int64; a very large number where there is no budget."""
        if self.budget is None:
            return torch.full_like(self._queries, UNLIMITED)
        return (self.budget - self._queries).clamp(0, self.shared_remaining())

    def remaining_of(self, rows: list[int]) -> list[int]:
        """As `remaining`, for each of a few rows."""
        if self.budget is None:
            return [UNLIMITED] * len(rows)
        most = self.shared_remaining()
        return [max(0, min(self.budget - int(self._counts[row]), most)) for row in rows]

    def shared_remaining(self) -> int:
        """Queries left for the whole batch, of N times the budget; very many where there is none.

        The sum over rows, unless something was asked as `shared` or wasted.
        """
        return UNLIMITED if self.budget is None else len(self._queries) * self.budget - self._spent

    def labels(self, images: Tensor, rows: Tensor) -> Tensor:
        """The model's labels (n,) int64 for images (n, C, H, W) that belong to rows (n,).

        Raises:
            BudgetExhausted: before anything is asked or counted, when a row has too few queries.
            UsageError: images that are not finite or not within the bounds.
        """
        return self._ask(images, rows).argmax(1)

    def pixel_labels(self, pixels: Tensor, rows: Tensor, *, shared: bool = False) -> Tensor:
        """As `labels`, for 8-bit images (n, H, W, C) uint8, which a `PixelModel` gets as they are.

        Args:
            shared: a row may cost more than its budget while the batch has any left.

        Raises:
            BudgetExhausted: before anything is asked or counted, when a row (or, if shared, the
                batch) has too few queries.
            UsageError: images of another shape or type.
        """
        c, h, w = self._images.shape[1:]
        if pixels.dtype != torch.uint8 or pixels.shape != (len(rows), h, w, c):
            raise UsageError(
                f"got pixels {tuple(pixels.shape)} {pixels.dtype} for {len(rows)} rows; wanted "
                f"({len(rows)}, {h}, {w}, {c}) uint8"
            )
        with self._lock, torch.no_grad():
            if len(rows) == 0:
                return torch.empty(0, dtype=torch.int64)
            number = self._charge(rows, shared=shared)
            if len(rows) <= self._chunk:
                predicted = self._ask_pixels(pixels)
            else:
                predicted = torch.cat([self._ask_pixels(p) for p in pixels.split(self._chunk)])
            if self._ledger is not None:
                self._watch(from_pixels(pixels, self.bounds), rows, predicted, number)
                return predicted
            fooled = self.criterion.holds(predicted, rows).nonzero().flatten()
            if len(fooled):
                seen = from_pixels(pixels[fooled], self.bounds)
                self._watch(seen, rows[fooled], predicted[fooled], number[fooled])
            return predicted

    def waste(self) -> None:
        """Count one query that holds no image: it costs the batch and belongs to no row.

        Raises:
            BudgetExhausted: the batch has none left.
        """
        with self._lock:
            if self.shared_remaining() < 1:
                raise BudgetExhausted(list(range(len(self._queries))))
            self._spent += 1

    def is_adversarial(self, images: Tensor, rows: Tensor) -> Tensor:
        """Which images (n, C, H, W) are adversarial for their rows (n,): (n,) bool.

        Raises:
            BudgetExhausted, UsageError: as `labels`.
        """
        return self.criterion.holds(self.labels(images, rows), rows)

    def scores(self, images: Tensor, rows: Tensor) -> Tensor:
        """Logits (n, K) without a gradient.

        Raises:
            BudgetExhausted, UsageError: as `labels`; UsageError without score access.
        """
        self.require("score")
        return self._ask(images, rows)

    def logits(self, images: Tensor, rows: Tensor) -> Tensor:
        """Logits (n, K) that can be differentiated with respect to images (n, C, H, W).

        Each image costs one query and one gradient. Rounding passes gradients straight through.

        Raises:
            BudgetExhausted, UsageError: as `labels`; UsageError without gradient access.
        """
        self.require("gradient")
        with self._lock:
            seen = self._prepare(images, rows)
            number = self._charge(rows)
            logits = checked_logits(self._model(seen))
            self._gradients += torch.bincount(rows, minlength=len(self._gradients))
            self._watch(seen.detach(), rows, logits.detach().argmax(1), number)
            return logits

    def record(self, row: int, image: Tensor) -> Verdict:
        """Verify one claimed adversarial (C, H, W); the model is asked, nothing is counted.

        The best claim so far is kept in `claimed` and `claimed_distance`.

        Raises:
            UsageError: the image is not finite or not within the bounds.
        """
        index = torch.tensor([row])
        with self._lock:
            seen = self._prepare(image.unsqueeze(0), index)
            with torch.no_grad():
                predicted = checked_logits(self._model(seen)).argmax(1)
            adversarial = bool(self.criterion.holds(predicted, index))
            measured = float(distance(self.norm, self._images[index], seen))
            if adversarial and measured < float(self.claimed_distance[row]):
                self.claimed[row] = seen[0]
                self.claimed_distance[row] = measured
            return Verdict(adversarial, measured, int(predicted))

    def note(self, row: int, text: str) -> None:
        """Remember a reason for a row, for the attack's author. The latest one stands."""
        with self._lock:
            self.notes[row] = text

    def _prepare(self, images: Tensor, rows: Tensor) -> Tensor:
        expected = self._images.shape[1:]
        if images.shape[1:] != expected or len(images) != len(rows):
            raise UsageError(
                f"got images {tuple(images.shape)} for {len(rows)} rows; wanted "
                f"({len(rows)}, {', '.join(map(str, expected))})"
            )
        lower, upper = self.bounds
        detached = images.detach()
        # One pass over the values: the extremes are NaN or infinite where any value is.
        low, high = (float(v) for v in torch.aminmax(detached)) if len(images) else (lower, upper)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UsageError("a query holds NaN or infinite values; the attack has diverged")
        if low < lower - BOUNDS_TOLERANCE or high > upper + BOUNDS_TOLERANCE:
            raise UsageError(
                f"a query has values in [{low:.4g}, {high:.4g}]; the model takes "
                f"[{lower:g}, {upper:g}]: clip before asking"
            )
        inside = detached if lower <= low and high <= upper else detached.clamp(lower, upper)
        if self.quantised:
            inside = quantise(inside, self.bounds)
        # Straight through: the gradient of clamp is 0 at the bounds themselves (torch 2.14), where
        # most pixels of a digit lie.
        if images.requires_grad:
            return images if inside is detached else images + (inside - detached)
        return inside

    def _charge(self, rows: Tensor, *, shared: bool = False) -> Tensor:
        """Count one query for each entry of rows; returns the number that each query has."""
        if len(rows) == 1:  # one of many requests: not worth the operations below
            row = int(rows)
            if self.budget is not None:
                spent = self._counts[row] >= self.budget and not shared
                if spent or self.shared_remaining() < 1:
                    raise BudgetExhausted([row])
            self._counts[row] += 1
            self._spent += 1
            return self._queries[rows]
        counts = torch.bincount(rows, minlength=len(self._queries))
        if self.budget is not None:
            over = counts > 0
            if len(rows) <= self.shared_remaining():
                over &= (self._queries + counts > self.budget) & (not shared)
            if bool(over.any()):
                raise BudgetExhausted(over.nonzero().flatten().tolist())
        number = self._queries[rows] + 1
        if int(counts.max()) > 1:
            number = number + _earlier(rows)
        self._queries += counts
        self._spent += len(rows)
        return number

    def _ask(self, images: Tensor, rows: Tensor) -> Tensor:
        with self._lock, torch.no_grad():
            seen = self._prepare(images, rows)
            if len(rows) == 0:
                return torch.empty(0, 1)
            number = self._charge(rows)
            parts = [checked_logits(self._model(part)) for part in seen.split(self._chunk)]
            logits = torch.cat(parts)
            self._watch(seen, rows, logits.argmax(1), number)
            return logits

    def _watch(self, seen: Tensor, rows: Tensor, predicted: Tensor, number: Tensor) -> None:
        far = None
        if self._ledger is not None:
            far = distance(self.norm, self._images[rows], seen)
            self._ledger.add(rows, number, predicted, far)
        fooled = self.criterion.holds(predicted, rows).nonzero().flatten()
        if len(fooled) == 0:
            return
        where = rows[fooled]
        measured = (
            distance(self.norm, self._images[where], seen[fooled]) if far is None else far[fooled]
        )
        improved = (measured < self._best_distance[where]).nonzero().flatten()
        for i in improved.tolist():
            row, value = int(where[i]), float(measured[i])
            if value < float(self._best_distance[row]):  # a row may stand several times in a call
                k = int(fooled[i])
                self._best_distance[row] = value
                self._best[row] = seen[k]
                self.traces[row].append((int(number[k]), value))


def _earlier(rows: Tensor) -> Tensor:
    """How often each entry has stood before in rows (n,): (n,) int64."""
    order = rows.argsort(stable=True)
    ordered = rows[order]
    starts = torch.searchsorted(ordered, ordered)
    earlier = torch.empty_like(rows)
    earlier[order] = torch.arange(len(rows)) - starts
    return earlier


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Freeze a module's parameters for a while: no weight gradient is computed or left behind."""
    if not isinstance(model, torch.nn.Module):
        yield
        return
    trainable = [p for p in model.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
