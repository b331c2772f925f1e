"""Collages of grey textures, each with a patch of the texture to find in it (arXiv 1807.02654)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from .cache import own_folder
from .task_sets import TaskSet

if TYPE_CHECKING:
    from torch import Tensor

SAMPLES = 60
SPLITS = ("train", "new", "test", "photographs", "folder")


def create(*, split: str = "test") -> TaskSet:
    """60 collages of 64x64 with references of 32x32, all greys equally frequent in each texture.

    `train`: the textures that texture_seg is trained on, in other collages; `new`: new textures of
    those families; `test`: families that are not trained on; `photographs`: brick, grass and
    gravel; `folder`: the user's own pictures (docs/datasets.md).
    Raises `UserError` for another split, or a folder without usable pictures.
    """
    import torch

    from ..textures import HELD_OUT, TRAINING, draw_collages, folder_bank, make_bank
    from ..textures import photograph_bank as photographs

    if split not in SPLITS:
        raise UserError(f"texture-collages has no split {split!r}; wanted {', '.join(SPLITS)}")
    if split == "train":
        bank = make_bank(TRAINING, each=24, seed=0)
    elif split == "new":
        bank = make_bank(TRAINING, each=4, seed=1)
    elif split == "test":
        bank = make_bank(HELD_OUT, each=8, seed=1)
    elif split == "photographs":
        bank = photographs()[:, 0]
    else:
        bank = folder_bank(
            own_folder(
                "textures",
                "folder of textures",
                "put photographs there, one of each texture",
            )
        )
    generator = torch.Generator().manual_seed(1000 + SPLITS.index(split))
    drawn = draw_collages(bank, SAMPLES, generator=generator)
    return TaskSet(
        name="texture-collages",
        split=split,
        ids=tuple(f"collage-{split}-{number:03d}" for number in range(SAMPLES)),
        images=_eight_bits(drawn.scenes),
        contexts=_eight_bits(drawn.references),
        targets={"mask": drawn.masks},
    )


def _eight_bits(images: Tensor) -> Tensor:
    return (images * 255).round() / 255
