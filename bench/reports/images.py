"""Pictures of the gallery: pixels in, PNG out.

Arrays here are uint8 (H, W, C) with C = 1 or 3. Pictures keep their size in pixels: the style
sheet enlarges them by nearest neighbour (image-rendering: pixelated), so that what is seen are
the pixels that the model saw.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

GREY = 128
"""The value of an unchanged pixel in a picture of a perturbation."""


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of an image uint8 (H, W, C), C = 1 or 3."""
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(
            f"got {pixels.dtype} of shape {pixels.shape}, wanted uint8 (H, W, C) with C = 1 or 3"
        )
    buffer = io.BytesIO()
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(np.ascontiguousarray(squeezed)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """The same as a data: address, for a page in one file."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def perturbation(
    original: NDArray[np.uint8], adversarial: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], float]:
    """The signed difference as a picture, and the factor by which it was enlarged.

    Mid grey is unchanged, lighter is raised, darker is lowered; the largest change becomes black
    or white. No change at all gives a grey picture and the factor 1.

    Args:
        original, adversarial: uint8 (H, W, C) of one shape.
    """
    difference = adversarial.astype(np.int16) - original.astype(np.int16)
    largest = int(np.abs(difference).max(initial=0))
    scale = 127.0 / largest if largest else 1.0
    picture = np.clip(np.rint(GREY + difference * scale), 0, 255).astype(np.uint8)
    return picture, scale


def to_pixels(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """An adversarial as run folders keep it, to uint8 (H, W, C).

    Args:
        image: uint8 (H, W, C) as it is, or floats (H, W, C) in [0, 1], rounded for display only.
    """
    if image.dtype == np.uint8:
        return image.astype(np.uint8)
    return np.rint(np.clip(image.astype(np.float64), 0.0, 1.0) * 255.0).astype(np.uint8)
