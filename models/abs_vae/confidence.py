"""The modified softmax: a classifier that can say "none of these" (arXiv 1805.09190, section 4).

p_c = (exp(l_c) + floor) / sum_k (exp(l_k) + floor). Where every exp(l_c) is far below the floor,
all classes are equally likely. Unlike the plain softmax it changes when all logits are shifted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import UsageError

ITERATIONS = 60


def modified_softmax(logits: Tensor, floor: float) -> Tensor:
    """Probabilities (N, K) of logits (N, K), in their dtype; floor >= 0 (0: the plain softmax)."""
    shift = logits.detach().amax(1, keepdim=True)
    least = math.log(floor) if floor > 0 else -math.inf
    # Of two summands the larger decides the scale: exp never overflows, and 0/0 cannot be.
    shift = shift.clamp_min(least)
    share = (logits - shift).exp() + (least - shift).exp()
    return share / share.sum(1, keepdim=True)


def floor_for(logits: Tensor, confidence: float = 0.9) -> float:
    """The floor at which the median of the largest probability is `confidence`.

    Found by bisection on its logarithm, as the paper chose its constant on the test images.

    Raises:
        UsageError: even without a floor the median is lower, or there are no logits.
    """
    if len(logits) == 0:
        raise UsageError("got no logits; wanted those of some images to set the floor by")
    logits = logits.double()

    def median(floor: float) -> float:
        return float(modified_softmax(logits, floor).amax(1).median())

    if median(0.0) < confidence:
        raise UsageError(
            f"the median confidence is {median(0.0):.3f} without any floor; wanted at least "
            f"{confidence}: scale the logits up"
        )
    low, high = float(logits.min()) - 50.0, float(logits.max()) + 50.0
    for _ in range(ITERATIONS):
        middle = (low + high) / 2
        if median(float(torch.tensor(middle, dtype=torch.float64).exp())) > confidence:
            low = middle
        else:
            high = middle
    return float(torch.tensor(low, dtype=torch.float64).exp())
