"""Collages: a plane cut into Voronoi regions, each filled with a texture (arXiv 1807.02654).

The paper cuts 256 x 256 pixels into 1 to 10 regions and shows a 64 x 64 patch of the texture
that is sought. Here a collage is smaller, and its textures are drawn without replacement, so
that there is always something to find and something to leave out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UserError


class Collages(NamedTuple):
    scenes: Tensor  # (N, 1, side, side) float32 in [0, 1]
    references: Tensor  # (N, 1, patch, patch): another cut of the texture that is sought
    masks: Tensor  # (N, 1, side, side) bool: where it is


def cuts(bank: Tensor, which: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """(len(which), side, side): a random window of each of the named textures."""
    room = bank.shape[-1] - side + 1
    corners = torch.randint(0, room, (len(which), 2), generator=generator).tolist()
    return torch.stack(
        [
            bank[number, top : top + side, left : left + side]
            for number, (top, left) in zip(which.tolist(), corners, strict=True)
        ]
    )


def draw_collages(
    bank: Tensor,
    count: int,
    *,
    generator: torch.Generator,
    side: int = 64,
    patch: int = 32,
    regions: tuple[int, int] = (2, 5),
) -> Collages:
    """Draw `count` collages of the textures in `bank` (K, S, S); the sought region is never empty.

    Raises `UserError` when the bank's textures are too few or too small.
    """
    most = min(regions[1], len(bank))
    if len(bank) < regions[0] or bank.shape[-1] < side:
        raise UserError(
            f"got {len(bank)} textures of {bank.shape[-1]} pixels; a collage needs at least "
            f"{regions[0]} of {side} pixels or more"
        )
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1)
    scenes: list[Tensor] = []
    references: list[Tensor] = []
    masks: list[Tensor] = []
    while len(scenes) < count:
        number = int(torch.randint(regions[0], most + 1, (), generator=generator))
        anchors = torch.randint(0, side, (number, 2), generator=generator)
        label = ((grid[:, :, None] - anchors) ** 2).sum(-1).argmin(-1)
        textures = torch.randperm(len(bank), generator=generator)[:number]
        sought = int(label[anchors[0, 0], anchors[0, 1]])
        mask = label == sought
        filled = cuts(bank, textures, side, generator)
        scenes.append(filled.gather(0, label[None]))
        references.append(cuts(bank, textures[sought : sought + 1], patch, generator))
        masks.append(mask[None])
    return Collages(torch.stack(scenes), torch.stack(references), torch.stack(masks))
