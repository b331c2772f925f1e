"""Every image with the mean amplitude spectrum (arXiv 1808.08750, section 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .base import Base, as_images, grey
from .types import Distortion, Level

AT_ONCE = 256
"""Images whose spectra are added up together."""


@dataclass(frozen=True, kw_only=True)
class PowerEqualisation(Base):
    """Value 1 replaces each amplitude by the mean one and keeps the phase; 0 leaves the grey image.

    Attributes:
        amplitudes: mean over images, float64 (H, W // 2 + 1), or None before `prepared`.
        fixed: whether they come from a file and are not measured again.
    """

    amplitudes: Tensor | None = None
    fixed: bool = False

    def prepared(self, images: Tensor) -> Distortion:
        """With the mean amplitude spectrum of these images (N,C,H,W)."""
        if self.fixed:
            return self
        total = sum(
            torch.fft.rfft2(grey(part).double()).abs().sum(dim=0) for part in images.split(AT_ONCE)
        )
        return replace(self, amplitudes=torch.as_tensor(total) / len(images))

    def __call__(self, images: Tensor, value: float, seeds: Tensor) -> Tensor:
        """See `Distortion.__call__`."""
        plane = grey(images)
        if value == 0:
            return as_images(plane, images)
        height, width = plane.shape[1:]
        if self.amplitudes is None:
            raise UserError(f"{self.name} needs other images; call prepared(images) first")
        if self.amplitudes.shape != (height, width // 2 + 1):
            raise UserError(
                f"{self.name}: images are {height}x{width}; the mean spectrum is that of others"
            )
        # float64: where an image has next to no amplitude, its phase would be rounding noise.
        spectrum = torch.fft.rfft2(plane.double())
        size = spectrum.abs()
        phase = torch.where(size > 0, spectrum / size, torch.ones_like(spectrum))
        equal = phase * self.amplitudes.to(plane.device)
        return as_images(torch.fft.irfft2(equal, s=(height, width)), images)


def create(*, spectrum: str | None = None) -> PowerEqualisation:
    """Two levels, as in the paper: original (grey) and equalised.

    The mean spectrum is that of the data set that is distorted, or of `spectrum`: a .npy file of
    mean amplitudes (H,W) with the mean frequency in the middle, as the authors keep theirs.
    """
    made = PowerEqualisation(
        name="power-equalisation",
        title="Power equalisation",
        unit="",
        levels=(Level("original", 0.0), Level("equalised", 1.0)),
        needs_references=True,
    )
    if spectrum is None:
        return made
    return replace(made, amplitudes=_read(Path(spectrum)), fixed=True)


def _read(path: Path) -> Tensor:
    try:
        centred = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"spectrum: can't read {path} as a .npy file: {error}") from error
    if centred.ndim != 2 or not np.all(np.isfinite(centred)):
        raise UserError(f"spectrum: {path} has shape {centred.shape}; wanted amplitudes (H,W)")
    whole = np.fft.ifftshift(centred.astype(np.float64))
    return torch.from_numpy(np.ascontiguousarray(whole[:, : whole.shape[1] // 2 + 1]))
