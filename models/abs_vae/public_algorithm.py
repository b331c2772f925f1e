"""The inference of the authors' public code, as plain loops over classes, to compare with.

Adam on the latents of one class after another, 49 steps and a last evaluation, from the best of
8,000 samples whose images are kept whole. After each step latents outside of the ball come back
onto it; the public code does so by a square root of squares, which makes every such latent positive
(`drop_signs`). That changes the explanations of classes that are wrong anyway, at 4 % of pairs, and
is here for an exact comparison only. Whether the VAEs' parameters want gradients is left as it is:
in the public code they do, and the gradients are not used; `models.create` freezes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .bank import draw
from .inference import RADIUS, Explanation
from .network import VAE

STEPS = 50
RATE = 0.05


class PublicAlgorithm:
    """Bank and Adam, one class after another."""

    def __init__(
        self, vaes: Sequence[VAE], *, samples: int, steps: int = STEPS, drop_signs: bool = True
    ) -> None:
        self.vaes, self.steps, self.drop_signs = list(vaes), steps, drop_signs
        self.latents = draw(samples)
        with torch.no_grad():
            self.images = [
                torch.cat([vae.decode(part).flatten(1) for part in self.latents.split(500)])
                for vae in self.vaes
            ]

    def explain(self, images: Tensor) -> Explanation:
        """As `Inference.explain` with prior 1; the costs are those of the last evaluation."""
        found = [self._explain(k, images) for k in range(len(self.vaes))]
        costs, latents, pictures = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
        return Explanation(costs, latents, pictures, torch.full(costs.shape, self.steps))

    def _explain(self, label: int, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bank = self.images[label]
        constant = bank.square().sum(1) + self.latents.square().sum(1) / 2
        best = (constant - 2 * images @ bank.t()).argmin(1)
        latents = self.latents[best].clone().requires_grad_()
        optimiser = torch.optim.Adam([latents], lr=RATE)
        with torch.enable_grad():
            for step in range(self.steps):
                pictures = self.vaes[label].decode(latents).flatten(1)
                costs = (pictures - images).square().sum(1) + latents.square().sum(1) / 2
                if step == self.steps - 1:
                    break
                optimiser.zero_grad()
                costs.sum().backward()
                optimiser.step()
                with torch.no_grad():
                    latents.copy_(self._clip(latents))
        return costs.detach(), latents.detach(), pictures.detach()

    def _clip(self, latents: Tensor) -> Tensor:
        length = latents.square().sum(1, keepdim=True).sqrt()
        inside = latents.abs() if self.drop_signs else latents
        return torch.where(length > RADIUS, inside / length * RADIUS, latents)
