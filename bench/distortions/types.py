"""What a distortion is: images, one of its levels and seeds in, distorted images out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

REFERENCE_SIDE = 224
"""Side in pixels of the paper's images, in which lengths are given; elsewhere they scale."""


class Level(NamedTuple):
    """How strong: a label as in the paper's data and the number behind it."""

    label: str
    value: float


class Distortion(Protocol):
    """A family of distortions; what the `create` of a file in `bench.distortions` makes."""

    @property
    def name(self) -> str:
        """As typed on the command line."""
        ...

    @property
    def title(self) -> str:
        """As printed over a chart."""
        ...

    @property
    def unit(self) -> str:
        """Of the levels, for an axis."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """The paper's, mildest first."""
        ...

    @property
    def needs_colour(self) -> bool:
        """Whether grey images would not be changed by it."""
        ...

    @property
    def needs_references(self) -> bool:
        """Whether it is a distortion only after `prepared`."""
        ...

    def prepared(self, images: Tensor) -> Distortion:
        """The same, knowing the images (N,C,H,W) that all are compared with."""
        ...

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """Distorted copies.

        Args:
            images: float32 (N,C,H,W) in [0,1], C 1 or 3.
            value: of a level.
            seeds: int64 (N,), from `bench.distortions.seeds`: an image's randomness depends on its
                own seed only, not on the batch or the device.

        Returns:
            float32 (N,C,H,W) in [0,1]; distortions of grey images have all channels equal.

        Raises:
            UserError: a value out of range, or images that it can't be applied to.
        """
        ...
