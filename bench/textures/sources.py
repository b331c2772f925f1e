"""Textures from photographs: the three in scikit-image, or a folder of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import UserError

Array = NDArray[np.float64]

PHOTOGRAPHS = ("brick", "grass", "gravel")
_ENDINGS = (".jpg", ".jpeg", ".png")


def equalise(field: Array, rng: np.random.Generator) -> Array:
    """The field's ranks spread evenly over [0, 1]: every texture has the same grey histogram.

    Values that tie are put in random order.
    """
    flat = field.reshape(-1)
    order = np.lexsort((rng.uniform(size=flat.size), flat))
    ranks = np.empty(flat.size)
    ranks[order] = np.arange(flat.size) / (flat.size - 1)
    return ranks.reshape(field.shape)


def _cut(photograph: Array, side: int, name: str) -> list[Array]:
    """The non-overlapping (side, side) tiles of a photograph, each equalised."""
    rows, columns = photograph.shape[0] // side, photograph.shape[1] // side
    rng = np.random.default_rng(sum(name.encode()))
    return [
        equalise(photograph[r * side : (r + 1) * side, c * side : (c + 1) * side], rng)
        for r in range(rows)
        for c in range(columns)
    ]


def photograph_bank(side: int = 160) -> Tensor:
    """(3, tiles, side, side): tiles of scikit-image's brick, grass and gravel, at half size.

    Halved, so that a brick fits into a reference.
    """
    from skimage import data
    from skimage.transform import downscale_local_mean

    tiles = []
    for name in PHOTOGRAPHS:
        photograph = downscale_local_mean(getattr(data, name)().astype(np.float64), (2, 2))
        tiles.append(np.stack(_cut(photograph, side, name)))
    return torch.from_numpy(np.stack(tiles).astype(np.float32))


def folder_bank(folder: Path, *, side: int = 160) -> Tensor:
    """(N, side, side): the middle of every picture below `folder`, grey and equalised.

    Folders within folders are read too, as DTD's `images/CLASS/NAME.jpg` is laid out.
    Raises `UserError` where the folder, or pictures in it, are missing, unreadable or too small.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; name a folder of texture photographs")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    if len(paths) < 2:
        raise UserError(
            f"{folder} holds {len(paths)} pictures ({', '.join(_ENDINGS)}) and a collage is made "
            "of 2 textures or more; put one photograph of each texture there"
        )
    made: list[Array] = []
    for path in paths:
        try:
            picture = np.asarray(Image.open(path).convert("L"), dtype=np.float64)
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"{path} is not a picture that can be read: {error}") from error
        height, width = picture.shape
        if min(height, width) < side:
            raise UserError(
                f"{path} has {width} x {height} pixels; a texture needs {side} x {side} or more"
            )
        top, left = (height - side) // 2, (width - side) // 2
        rng = np.random.default_rng(len(made))
        made.append(equalise(picture[top : top + side, left : left + side], rng))
    return torch.from_numpy(np.stack(made).astype(np.float32))
