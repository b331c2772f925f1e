"""A linear classifier, whose closest adversarial is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPE = (1, 6, 6)


class Linear:
    """Logits (N, 3) = (x - 0.5) W^T; images around 0.5 stay far from the bounds."""

    bounds = (0.0, 1.0)

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weights = torch.randn(3, 36, generator=generator)
        self.asked = 0

    def __call__(self, images: Tensor, /) -> Tensor:
        self.asked += len(images)
        return (images.flatten(1) - 0.5) @ self.weights.T

    def margins(self, images: Tensor, dual: float) -> Tensor:
        """Exact distance (N,) to the boundary, for the norm whose dual norm is given."""
        logits = self(images)
        label = logits.argmax(1)
        gaps = logits.gather(1, label[:, None]) - logits
        normals = self.weights[label][:, None] - self.weights[None]
        lengths = torch.linalg.vector_norm(normals, ord=dual, dim=2)
        lengths[torch.arange(len(images)), label] = torch.nan
        found: Tensor = (gaps / lengths).nan_to_num(torch.inf).amin(1)
        return found


class Imagining(Linear):
    """The same, with reconstructions: the image moved along each class's weights."""

    def reconstruct(self, asked: Tensor, /) -> tuple[Tensor, Tensor]:
        """Scores (n, 3) and images (n, 3, 1, 6, 6)."""
        steps = self.weights.view(1, 3, *SHAPE) * 0.2
        return self(asked), (asked.unsqueeze(1) + steps).clamp(0, 1)


def images(n: int = 12, seed: int = 1) -> Tensor:
    """(n, 1, 6, 6) on the 8-bit lattice, near the middle of the bounds."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(90, 166, (n, *SHAPE), generator=generator)
    return levels.float() / 255
