"""The class of the nearest training image in L2, a baseline of arXiv 1805.09190.

The logit of a class is minus the distance to the nearest of its images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import UsageError
from .types import References
from .wrappers import check_images

CHUNK = 128
"""Images compared at a time."""


@dataclass(frozen=True, eq=False)
class NearestNeighbour:
    """Compares with every reference; use `create`.

    Attributes:
        images: (M, C*H*W), ordered by class.
        energies: (M,), their squared L2 norms.
        ends: (K + 1,) where each class begins and the last one ends.
        image_shape: (C, H, W) of one image.
    """

    images: Tensor
    energies: Tensor
    ends: tuple[int, ...]
    image_shape: tuple[int, int, int]

    @property
    def bounds(self) -> tuple[float, float]:
        """Every value of an image lies in [0, 1]."""
        return (0.0, 1.0)

    @property
    def classes(self) -> int:
        """K."""
        return len(self.ends) - 1

    def __call__(self, images: Tensor, /) -> Tensor:
        """Logits (N, K), minus L2 distances, of images (N, C, H, W) float32.

        Gradients are those of the distance to the neighbour of each class.
        """
        check_images(images, self.image_shape)
        flat = images.flatten(1)
        away = flat.unsqueeze(1) - self._neighbours(flat)
        # The root's slope is infinite at 0; where an image is a reference it is 0 here.
        return -(away.square().sum(2) + 1e-12).sqrt()

    def reconstruct(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Logits (N, K), and the nearest image of each class (N, K, C, H, W)."""
        with torch.no_grad():
            logits = self(images)
            return logits, self._neighbours(images.flatten(1)).unflatten(2, self.image_shape)

    def _neighbours(self, flat: Tensor) -> Tensor:
        """The nearest image of each class, (N, K, C*H*W)."""
        with torch.no_grad():
            found = [
                torch.stack(
                    [
                        costs[:, begin:end].argmin(1) + begin
                        for begin, end in zip(self.ends, self.ends[1:], strict=False)
                    ],
                    dim=1,
                )
                for part in flat.split(CHUNK)
                for costs in [torch.addmm(self.energies, part, self.images.t(), alpha=-2.0)]
            ]
            return self.images[torch.cat(found)]


def create(*, references: References) -> NearestNeighbour:
    """Compare images (N, C, H, W) float32 in [0, 1] with `references`; logits (N, K).

    On the command line these are the training split of the data set that is played;
    `nearest_neighbour:references=fashion-mnist` takes another's.

    Raises:
        UsageError: images and labels that don't belong together, or a class without images.
    """
    images, labels = references
    if images.ndim != 4 or images.dtype != torch.float32 or labels.shape != (len(images),):
        raise UsageError(
            f"got references {tuple(images.shape)} {images.dtype} with labels "
            f"{tuple(labels.shape)}; wanted (M, C, H, W) torch.float32 and (M,)"
        )
    if len(images) == 0:
        raise UsageError("got no references; wanted at least one image of each class")
    counts = torch.bincount(labels)
    if int(counts.min()) == 0:
        missing = (counts == 0).nonzero().flatten().tolist()
        raise UsageError(f"there are no references of {missing}; wanted some of each class")
    ends = (0, *counts.cumsum(0).tolist())
    channels, height, width = images.shape[1:]
    ordered = images[labels.argsort(stable=True)].flatten(1).contiguous()
    return NearestNeighbour(
        images=ordered,
        energies=ordered.square().sum(1),
        ends=ends,
        image_shape=(channels, height, width),
    )
