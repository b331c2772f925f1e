"""What most distortions share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .types import REFERENCE_SIDE, Distortion, Level

GREY = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue: scikit-image's rgb2gray, which the paper used."""

AT_ONCE = 1 << 18
"""Pixels that are changed together, on a processor."""

NOISE_CONTRAST = 0.3
"""Contrast to which images are reduced before noise is added, so that clipping is rare (paper)."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """A distortion that needs neither colour nor references."""

    name: str
    title: str
    unit: str
    levels: tuple[Level, ...]
    needs_colour: bool = False
    needs_references: bool = False

    def prepared(self, images: Tensor) -> Distortion:
        """See `Distortion.prepared`: nothing to learn."""
        del images
        return self  # type: ignore[return-value]  # the subclasses have __call__


def numbers(*values: float) -> tuple[Level, ...]:
    """Levels labelled by their own number."""
    return tuple(Level(f"{value:g}", value) for value in values)


def grey(images: Tensor) -> Tensor:
    """Grey values (N,H,W) of images (N,C,H,W) with 1 or 3 channels."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"can't distort images of shape {tuple(images.shape)}; wanted (N,1,H,W) or (N,3,H,W)"
        )
    if images.shape[1] == 1:
        return images[:, 0].clone()
    red, green, blue = images.unbind(1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def as_images(plane: Tensor, like: Tensor) -> Tensor:
    """Grey values (N,H,W), clipped to [0,1], in as many channels as `like` (N,C,H,W) has.

    The channels share their memory; torch refuses to write into them.
    """
    return plane.clamp(0.0, 1.0).to(like.dtype)[:, None].expand(-1, like.shape[1], -1, -1)


def changed(images: Tensor, change: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Images (N,C,H,W) whose grey values are changed, a few at a time so that they stay in cache.

    `change` gets grey values (n,H,W), which it may overwrite, and the rows that they are; what it
    returns is clipped to [0,1].
    """
    planes = torch.empty(len(images), *images.shape[2:], dtype=images.dtype, device=images.device)
    together = max(1, AT_ONCE // (images.shape[2] * images.shape[3]))
    for first in range(0, len(images), together):
        rows = slice(first, first + together)
        torch.clamp(change(grey(images[rows]), rows), 0.0, 1.0, out=planes[rows])
    return planes[:, None].expand(-1, images.shape[1], -1, -1)


def with_contrast(plane: Tensor, contrast: float) -> Tensor:
    """Grey values around 0.5 at a contrast in [0,1], in place."""
    return plane.mul_(contrast).add_((1 - contrast) / 2)


def pixels(length: float, images: Tensor) -> float:
    """A length in pixels of a 224x224 image, in pixels of these images (N,C,H,W)."""
    return length * min(images.shape[-2:]) / REFERENCE_SIDE


def within(name: str, what: str, value: float, low: float, high: float) -> float:
    """The value.

    Raises:
        UserError: it is below low or above high.
    """
    if not low <= value <= high:
        raise UserError(f"{name}: {what} is {value:g}; wanted {low:g} to {high:g}")
    return value
