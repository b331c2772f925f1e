"""What each class makes of an image: the latents that explain it best, and at what cost.

Equation 5 of arXiv 1805.09190: for every class the minimum over z of |x - G(z)|^2 + |z|^2 / 2, in
nats up to a constant, with z in a ball. The best of 8,000 samples is the start of a descent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .bank import CHUNK, Bank
from .decoder import PIXELS, Decoders
from .descent import descend

RADIUS = 5.0
"""Of the ball that latents are kept in (as in the public code)."""

TOLERANCE = 1e-3
"""A descent stops when it promises to lower the cost by less than this (costs are 10 to 100)."""

MOST = 50
"""Evaluations of a pair of image and class at most."""

TOGETHER = 8
"""Pairs of a class up to which several classes are decoded as one: it saves calls, not work."""


class Explanation(NamedTuple):
    """The best that each of C classes can say of each of N images."""

    costs: Tensor
    """(N, C): |x - G(z)|^2 + prior/2 |z|^2."""
    latents: Tensor
    """(N, C, 8)."""
    images: Tensor
    """(N, C, 784): the reconstructions G(z), in (0, 1)."""
    evaluations: Tensor
    """(N, C) int64: decodings with gradient that it took."""


class Inference:
    """Bank and descent over all classes.

    Attributes:
        decoders: of all classes.
        bank: their samples.
        tolerance: see `TOLERANCE`.
        margin: classes whose sample costs more than the cheapest class's and this are not refined;
            None refines all. For searches that are verified without it.
    """

    def __init__(
        self,
        decoders: Decoders,
        bank: Bank,
        *,
        tolerance: float = TOLERANCE,
        margin: float | None = None,
    ) -> None:
        self.decoders, self.bank = decoders, bank
        self.tolerance, self.margin = tolerance, margin
        self._single = [decoders.take([c]) for c in range(decoders.groups)]
        self._inverse = {prior: bank.inverse_hessians(prior) for prior in (0.0, 1.0)}

    def explain(self, images: Tensor, *, prior: float = 1.0) -> Explanation:
        """Minimise for images (N, 784).

        `prior` weighs the latents' share: 1 is the model's, 0 the nearest image of each class.
        """
        n, classes = len(images), self.decoders.groups
        with torch.no_grad():
            start = self.bank.latents[self.bank.nearest(images, prior)]  # (N, C, 8)
            inverse = self._inverse[prior].repeat_interleave(n, dim=0)

            def objective(latents: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                return self._evaluate(images, latents, pairs, prior)

            found = descend(
                objective,
                start.transpose(0, 1).flatten(0, 1),
                inverse,
                radius=RADIUS,
                tolerance=self.tolerance,
                most=MOST,
                wanted=None if self.margin is None else _can_win(n, self.margin),
            )
        parts = (found.values, found.latents, found.images, found.evaluations)
        return Explanation(*(part.unflatten(0, (classes, n)).transpose(0, 1) for part in parts))

    def _evaluate(
        self, images: Tensor, latents: Tensor, pairs: Tensor, prior: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Costs (p,), gradients (p, 8), reconstructions (p, 784); pairs are class * N + image."""
        classes, rows = pairs // max(len(images), 1), pairs % max(len(images), 1)
        counts = torch.bincount(classes, minlength=self.decoders.groups).tolist()
        gradients = torch.empty_like(latents)
        pictures = latents.new_empty(len(latents), PIXELS)
        few: dict[int, range] = {}
        end = 0
        for label, count in enumerate(counts):
            begin, end = end, end + count
            if 0 < count <= TOGETHER:
                few[label] = range(begin, end)
                continue
            for first in range(begin, end, CHUNK):
                part = torch.arange(first, min(first + CHUNK, end)).unsqueeze(1)
                targets = images[rows[part]]
                _decode(self._single[label], part, targets, latents, gradients, pictures)
        if few:
            decoders = self.decoders if len(few) == len(counts) else self.decoders.take(list(few))
            longest = max(map(len, few.values()))
            # Shorter classes repeat their last pair.
            part = torch.tensor(
                [
                    [places[min(k, len(places) - 1)] for places in few.values()]
                    for k in range(longest)
                ]
            )
            _decode(decoders, part, images[rows[part]], latents, gradients, pictures)
        costs = (pictures - images[rows]).square().sum(1) + prior / 2 * latents.square().sum(1)
        return costs, gradients.add_(latents, alpha=prior), pictures


def _can_win(images: int, margin: float) -> Callable[[Tensor], Tensor]:
    """Which pairs, class after class, cost at most `margin` more than the image's cheapest."""

    def wanted(values: Tensor) -> Tensor:
        costs = values.view(-1, images)
        return (costs <= costs.amin(0) + margin).flatten()

    return wanted


def _decode(
    decoders: Decoders,
    part: Tensor,
    targets: Tensor,
    latents: Tensor,
    gradients: Tensor,
    pictures: Tensor,
) -> None:
    """Decode latents[part] (m, G), writing gradients of |x - G(z)|^2 and pictures there."""
    trace = decoders.decode(latents[part])
    gradients[part] = decoders.pull_back(trace, 2 * (trace.images - targets))
    pictures[part] = trace.images
