"""Distal adversarials of 1805.09190: from noise to an image that a model is sure of.

Are such images recognisable? The paper shows them. Beside the pictures, this counts for how many of
them most of the other models agree on the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import Model
from models.abs_vae.confidence import floor_for, modified_softmax

CONFIDENCE = 0.9
STEPS = 400
STEP = 0.4
"""Length of a step in L2."""
MOMENTUM = 0.9

SCALES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Of the logits: the first under which the median confidence passes 0.9 with room to spare."""
ROOM = 0.95


@dataclass(frozen=True)
class Distal:
    """What became of the noise, for one model.

    Attributes:
        images: (K, C, H, W), one for each class.
        confidence: (K,), that the model gives the class.
        steps: (K,) int64, gradient steps until the confidence was reached, or the most.
    """

    images: Tensor
    confidence: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Sure:
    """A model with the modified softmax set so that its median confidence on images is 0.9."""

    model: Model
    scale: float
    floor: float

    @classmethod
    def on(cls, model: Model, images: Tensor) -> Sure:
        """Set by images (N, C, H, W)."""
        with torch.no_grad():
            logits = torch.cat([model(part) for part in images.split(100)]).double()
        for scale in SCALES:
            if float(modified_softmax(scale * logits, 0.0).amax(1).median()) >= ROOM:
                return cls(model, scale, floor_for(scale * logits, CONFIDENCE))
        return cls(model, SCALES[-1], 0.0)

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, K) float64."""
        with torch.no_grad():
            return modified_softmax(self.scale * self.model(images).double(), self.floor)


def distal(sure: Sure, noise: Tensor) -> Distal:
    """Climb from noise (K, C, H, W) in [0, 1] until image k is taken for class k.

    Steps of one length along the gradient of the logit less the logarithm of the denominator of
    the modified softmax. That is the logarithm of the confidence wherever this is not lost in the
    floor, and has a slope where it is.
    """
    classes = torch.arange(len(noise))
    images, speed = noise.clone(), torch.zeros_like(noise)
    steps = torch.full((len(noise),), STEPS)
    floor = torch.tensor(max(sure.floor, 1e-300), dtype=torch.float64).log()
    for step in range(STEPS):
        left = (sure.probabilities(images)[classes, classes] < CONFIDENCE).nonzero().flatten()
        done = torch.ones(len(noise), dtype=torch.bool)
        done[left] = False
        steps[done & (steps == STEPS)] = step
        if len(left) == 0:
            break
        here = images[left].clone().requires_grad_()
        logits = sure.scale * sure.model(here).double()
        denominator = torch.logaddexp(logits, floor).logsumexp(1)
        value = logits[torch.arange(len(left)), left] - denominator
        gradient = torch.autograd.grad(value.sum(), here)[0]
        length = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)
        speed[left] = MOMENTUM * speed[left] + (1 - MOMENTUM) * gradient / length
        images[left] = (images[left] + STEP * speed[left]).clamp(0.0, 1.0)
    return Distal(images, sure.probabilities(images)[classes, classes], steps)


def recognised(images: Tensor, judges: list[Callable[[Tensor], Tensor]]) -> Tensor:
    """Whether more than half of the judges take image k for class k: (K,) bool."""
    classes = torch.arange(len(images))
    with torch.no_grad():
        votes = torch.stack([judge(images).argmax(1) == classes for judge in judges])
    return votes.double().mean(0) > 0.5
