"""Two kinds of adversarial image, by definitions 1 to 3 of arXiv 1811.00401, as predicates.

An oracle gives the true class of any image: people, or whatever stands in for them. Each function
compares images (N,C,H,W) with changed ones of the same shape, and returns (N,) bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from .distances import distance
from .types import Norm

Logits = Callable[[Tensor], Tensor]
"""Images (N,C,H,W) -> (N,K)."""


def in_logit_preimage(
    model: Logits, images: Tensor, changed: Tensor, *, tolerance: float = 1e-3
) -> Tensor:
    """F(x*) = F(x): no logit differs by more than `tolerance`."""
    before, after = _ask(model, images, changed)
    return (before - after).abs().amax(1) <= tolerance


def in_argmax_preimage(model: Logits, images: Tensor, changed: Tensor) -> Tensor:
    """D(x*) = D(x): the decision is the same."""
    before, after = _ask(model, images, changed)
    return before.argmax(1) == after.argmax(1)


def is_perturbation_adversarial(
    model: Logits,
    oracle: Logits,
    images: Tensor,
    changed: Tensor,
    *,
    epsilon: float | None = None,
    norm: Norm = "l2",
) -> Tensor:
    """D(x*) != D(x) while o(x*) = o(x); epsilon-adversarial also has |x* - x| < epsilon."""
    found = ~in_argmax_preimage(model, images, changed)
    found &= in_argmax_preimage(oracle, images, changed)
    if epsilon is not None:
        found &= distance(norm, images, changed) < epsilon
    return found


def is_invariance_adversarial(
    model: Logits,
    oracle: Logits,
    images: Tensor,
    changed: Tensor,
    *,
    preimage: Literal["logit", "argmax"] = "logit",
    tolerance: float = 1e-3,
) -> Tensor:
    """x* in the preimage of F(x) or D(x), while o(x*) != o(x). How far away it is does not matter.

    The logit preimage is a part of the argmax preimage but for the tolerance.
    """
    if preimage == "logit":
        same = in_logit_preimage(model, images, changed, tolerance=tolerance)
    else:
        same = in_argmax_preimage(model, images, changed)
    return same & ~in_argmax_preimage(oracle, images, changed)


def _ask(model: Logits, images: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model(images), model(changed)
