"""Projected gradient descent within an Linf ball, written out for training (arXiv 1706.06083).

Evaluation proper is the work of `attacks`; this one runs inside every training step and measures
the figure on a checkpoint's card.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def linf_pgd(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Images that raise the cross-entropy, no further than `epsilon` away, inside [0,1].

    `images` float32 (N,C,H,W) in [0,1], `labels` int64 (N,). Starts at a random point of the ball
    and goes `steps` times by `step` along the sign of the gradient. Parameters get no gradient.
    """
    lower, upper = (images - epsilon).clamp(min=0.0), (images + epsilon).clamp(max=1.0)
    noise = torch.rand(images.shape, generator=generator) * 2 - 1
    current = torch.clamp(images + epsilon * noise, lower, upper)
    for _ in range(steps):
        current.requires_grad_(True)
        loss = F.cross_entropy(network(current), labels)
        (gradient,) = torch.autograd.grad(loss, current)
        current = torch.clamp(current.detach() + step * gradient.sign(), lower, upper)
    return current.detach()
