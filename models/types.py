"""What models have in common, and what they are made of besides weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Model(Protocol):
    """What every model of the zoo is: logits of images, and what it takes and gives."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval that pixel values live in: [0, 1]."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        ...

    @property
    def classes(self) -> int:
        """K."""
        ...

    def __call__(self, images: Tensor, /) -> Tensor:
        """Logits (N, K) of images (N, C, H, W) float32; `UsageError` for other shapes or types."""
        ...


class References(NamedTuple):
    """Labelled images that a model compares with; `bench` fills it with a training split."""

    images: Tensor
    """(M, C, H, W) float32 in [0, 1]."""
    labels: Tensor
    """(M,) int64 from 0 on."""
