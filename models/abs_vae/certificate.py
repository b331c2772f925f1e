"""An estimated lower bound on how far the nearest adversarial is in L2 (1805.09190, section 4.3).

With K = |z|^2 / 2 >= 0 the cost of a class is |x - G(z)|^2 + K. A change of length e raises the
true class's cost, at its latents, to at most K_y + (r_y + e)^2, and lowers another's to no less
than (d_c - e)^2, where r_y is the distance to the true class's reconstruction and d_c that to the
nearest image of class c. The first e at which the two meet bounds the distance from below.

It is an estimate: d_c is what bank and descent find, and the bound holds if that is the global
minimum over the ball of latents; the paper makes the same assumption.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .inference import Inference


def certificates(
    inference: Inference, images: Tensor, labels: Tensor, class_scales: Tensor
) -> Tensor:
    """Distances (N,) >= 0 below which no adversarial should be; 0 where the label is not given.

    Args:
        inference: refining all classes (without a margin).
        images: (N, 784) in [0, 1].
        labels: (N,) int64, the classes to be kept.
        class_scales: (C,), what each class's cost is multiplied by before they are compared.
    """
    found = inference.explain(images)
    nearest = inference.explain(images, prior=0.0)
    # The search without a prior may end in a worse minimum than the one with it.
    with_prior = (found.images - images.unsqueeze(1)).square().sum(2)
    away = torch.minimum(nearest.costs, with_prior).clamp_min(0.0).sqrt().double()
    rows = torch.arange(len(images))
    residual = with_prior[rows, labels].sqrt().double()
    prior = found.costs[rows, labels].double() - residual.square()
    own = class_scales.double()[labels]
    bounds = meeting_point(
        away, residual.unsqueeze(1), prior.unsqueeze(1), class_scales.double(), own.unsqueeze(1)
    )
    bounds[rows, labels] = torch.inf
    return bounds.amin(1)


def meeting_point(
    away: Tensor, residual: Tensor, prior: Tensor, scale: Tensor, own: Tensor
) -> Tensor:
    """The smallest e >= 0 with own ((residual + e)^2 + prior) >= scale (away - e)^2, or e = away.

    All arguments broadcast; distances and prior are >= 0, scales positive. With equal scales it is
    (away^2 - residual^2 - prior) / (2 (away + residual)), the paper's equation 10.
    """
    gap = scale * away.square() - own * (residual.square() + prior)
    half = scale * away + own * residual  # gap - 2 half e + (scale - own) e^2 = 0
    difference = scale - own
    root = (half.square() - difference * gap).clamp_min(0.0).sqrt()
    # The smaller root, in the form that does not cancel.
    meeting = gap / (half + root).clamp_min(1e-300)
    return torch.minimum(meeting.clamp_min(0.0), away)
