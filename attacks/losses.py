"""What gradient and score attacks climb: cross-entropy, margins, the difference of logits ratio.

Everything maps logits (n, K) to one value an image (n,); labels and targets are (n,) int64.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .criteria import Criterion
from .oracle import Oracle

Loss = Literal["ce", "dlr", "margin"]

TINY = 1e-12
"""Keeps the ratio finite where logits are equal, as in the authors' code (arXiv 2003.01690)."""

SURE = -30.0
"""Where softplus and exp differ by less than one float64 can tell, relatively."""

DLR_CLASSES = 3
"""Classes that the difference of logits ratio needs (its scale is the first less the third)."""

DLR_TARGETED_CLASSES = 4
"""Classes that the targeted one needs (its scale takes in the third and the fourth)."""


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the label less the largest other one: positive while the model gives the label.

    Carlini and Wagner's f6 (arXiv 1608.04644) is built of it.
    """
    return _taken(logits, labels) - largest_other(logits, labels)


def largest_other(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest logit of a class other than the label."""
    return logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)


def most_likely_others(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The `count` most likely classes other than the label, best first: (n, min(count, K - 1))."""
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def likely_aims(model: Oracle, images: Tensor, criterion: Criterion, count: int) -> Tensor | None:
    """Classes to aim at, one run each: (N, T).

    The wanted label of a targeted question; else the `count` most likely other classes, for a query
    an image; None where count is 0. An image that can't pay the query aims at class 0.
    """
    if criterion.targets is not None:
        return criterion.targets.unsqueeze(1)
    if count == 0:
        return None
    rows = (model.remaining() > 0).nonzero().flatten()
    likely = most_likely_others(model.scores(images[rows], rows), criterion.labels[rows], count)
    aims = torch.zeros(len(images), likely.shape[1], dtype=torch.int64)
    aims[rows] = likely
    return aims


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """In float64."""
    return F.cross_entropy(logits.double(), labels, reduction="none")


def log_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Its logarithm, in float64, for ascents that follow only the direction of the gradient.

    They take the same steps on it, but its gradient does not vanish where the model is sure: there
    it is that of the logits' difference.
    """
    others = logits.double().scatter(1, labels.unsqueeze(1), -torch.inf)
    lag = others.logsumexp(1) - _taken(logits, labels).double()
    # The cross-entropy is softplus(lag), which is exp(lag) where that is small.
    return torch.where(lag < SURE, lag, F.softplus(lag.clamp_min(SURE)).log())


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio (arXiv 2003.01690, equation 6), for at least three classes.

    The same for logits that are shifted or scaled; in [-1, 0] while the model gives the label, and
    positive once it does not.
    """
    top = logits.topk(3, dim=1).values
    return -margin(logits, labels) / (top[:, 0] - top[:, 2] + TINY)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Its targeted form (the same paper, equation 7), for at least four classes."""
    top = logits.topk(4, dim=1).values
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return (_taken(logits, targets) - _taken(logits, labels)) / (scale + TINY)


def ascended(loss: Loss, logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """The value that an attack makes large: away from the label, or towards a target.

    "ce" is the logarithm of the cross-entropy, which rises with it; towards a target it is minus
    the cross-entropy.

    With fewer classes than the ratio needs it is the margin; see `falls_back`.
    """
    if falls_back(loss, logits.shape[1], targeted=targets is not None):
        loss = "margin"
    if targets is None:
        if loss == "ce":
            return log_cross_entropy(logits, labels)
        return dlr(logits, labels) if loss == "dlr" else -margin(logits, labels)
    if loss == "ce":
        return -cross_entropy(logits, targets)
    return dlr_targeted(logits, labels, targets) if loss == "dlr" else margin(logits, targets)


def falls_back(loss: Loss, classes: int, *, targeted: bool) -> bool:
    """Whether there are too few classes for the difference of logits ratio."""
    return loss == "dlr" and classes < (DLR_TARGETED_CLASSES if targeted else DLR_CLASSES)


def input_gradient(values: Tensor, images: Tensor, *, again: bool = False) -> Tensor:
    """Gradient of the sum of values (n,) with respect to images: of their shape, always finite.

    It is 0 where the model passes none on (one that shows decisions only, say) and where it is
    NaN. `again` keeps the graph for another call.
    """
    if not values.requires_grad:
        return torch.zeros_like(images)
    (found,) = torch.autograd.grad(values.sum(), images, retain_graph=again, allow_unused=True)
    if found is None:
        return torch.zeros_like(images)
    return found if bool(found.sum().isfinite()) else found.nan_to_num(nan=0.0)


def _taken(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1)
