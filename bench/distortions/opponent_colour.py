"""Opponent ("false") colour: both chromatic axes inverted (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .base import Base
from .types import Level

WEIGHTS = (0.51765687, 1.21487184, 0.26747130)
"""Twice the luminance of linear red, green and blue.

Negating L-M and S-(L+M) in the authors' DKL space, with their cone sensitivities, comes to
`weights . rgb - rgb` for each channel; grey values stay as they are, to 2e-7.
"""

AT_ONCE = 4
"""Images that are changed together, so that they stay in a processor's cache."""

GAMMA = 2.43
"""Exponent that fits the authors' measured monitor."""


@dataclass(frozen=True, kw_only=True)
class OpponentColour(Base):
    """Value 1 inverts the chromatic axes, 0 changes nothing.

    Attributes:
        table: what the monitor showed for the 256 values, ascending, float64 (256,); without it
            a power law of exponent 2.43.
    """

    table: Tensor | None = None

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        if value == 0:
            return images.clone()
        if images.shape[1] != 3:
            raise UserError(
                f"{self.name} needs colour; images have {images.shape[1]} channel, wanted 3"
            )
        return torch.cat([self._inverted(part) for part in images.split(AT_ONCE)])

    def _inverted(self, images: Tensor) -> Tensor:
        light = self._light(images)
        red, green, blue = light.unbind(1)
        both = (red * WEIGHTS[0]).add_(green, alpha=WEIGHTS[1]).add_(blue, alpha=WEIGHTS[2])
        return self._values((both[:, None] - light).clamp_(0.0, 1.0)).to(images.dtype)

    def _light(self, images: Tensor) -> Tensor:
        if self.table is None:
            return images**GAMMA
        # Values of 8 bits come as k / 255: the tiny addition keeps k from being cut to k - 1.
        return self.table.to(images.device)[(images * 255 + 1e-3).long()]

    def _values(self, light: Tensor) -> Tensor:
        if self.table is None:
            return light ** (1 / GAMMA)
        table = self.table.to(light.device)
        borders = (table[1:] + table[:-1]) / 2
        return torch.searchsorted(borders, light.contiguous()) / 255


def create(*, gamma_table: str | None = None) -> OpponentColour:
    """Two levels, as in the paper: true and opponent colours.

    `gamma_table` is a .npy file with the light, in [0,1], that a monitor gives for each of the 256
    values; the authors measured theirs. Without it: value to the power of 2.43.
    """
    return OpponentColour(
        name="opponent-colour",
        title="Opponent colour",
        unit="",
        levels=(Level("true", 0.0), Level("opponent", 1.0)),
        needs_colour=True,
        table=_read(Path(gamma_table)) if gamma_table else None,
    )


def _read(path: Path) -> Tensor:
    try:
        table = np.load(path, allow_pickle=False).astype(np.float64).ravel()
    except (OSError, ValueError) as error:
        raise UserError(f"gamma_table: can't read {path} as a .npy file: {error}") from error
    if table.shape != (256,) or np.any(np.diff(table) < 0):
        raise UserError(
            f"gamma_table: {path} holds {table.size} numbers; wanted 256 that never fall"
        )
    return torch.from_numpy(table)
