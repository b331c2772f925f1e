"""Low-frequency noise: few values, smoothly enlarged (after arXiv 1812.09803, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate

from .random import ImageRandom


def smooth_noise(rows: Tensor, shape: Sequence[int], cells: int, random: ImageRandom) -> Tensor:
    """Normal noise of cells x cells values in each channel, enlarged bilinearly.

    Args:
        rows: (n,) whose streams are drawn from.
        shape: (C, H, W).
        cells: values along each side, or 0 for white noise.

    Returns:
        (n, C, H, W) float32; its length is left open.
    """
    channels, height, width = shape
    if cells == 0:
        return random.normal(rows, shape)
    size = (min(cells, height), min(cells, width))
    coarse = random.normal(rows, (channels, *size))
    return interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
