"""Mice seen from above in varied scenes, with exact joints and two simulated labellers.

A body, a head that turns on it, two ears and a tail, on a ground of smooth noise with a gradient of
light, blobs in its way and noise of the sensor. The labellers miss each joint by Gaussian noise, so
that an error can be held against the distance between two people.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

JOINTS = ("snout", "leftear", "rightear", "tailbase")
LABEL_SD = 0.8
"""Standard deviation of a labeller, in pixels along each axis."""
_TAIL, _LINK = 14, 2.0
_BLOBS = 4


@dataclass(frozen=True, eq=False)
class Mice:
    """Frames (N, 3, S, S) in [0, 1]; joints (N, 4, 2) as x, y in pixels, the centre of the first
    pixel at 0.5: as they are, and as two labellers saw them."""

    frames: Tensor
    joints: Tensor
    labels: Tensor
    second: Tensor


def draw_mice(count: int, *, generator: torch.Generator, side: int = 96) -> Mice:
    """`count` frames of `side` x `side`, one mouse in each, whole."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    size = side / 96
    length, heading = uniform(13, 17) * size, uniform(-pi, pi)
    width = length * uniform(0.48, 0.62)
    turned = heading + (0.45 * normal()).clamp(-1.0, 1.0)
    head = width * uniform(0.62, 0.75)
    centre = uniform(36, 60, 2) * size
    ahead, looking = _direction(heading), _direction(turned)
    skull = centre + 0.8 * length[:, None] * ahead + 0.7 * head[:, None] * looking
    snout = skull + 1.35 * head[:, None] * looking
    left = skull + 0.85 * head[:, None] * _direction(turned - 1.9)
    right = skull + 0.85 * head[:, None] * _direction(turned + 1.9)
    base = centre - length[:, None] * ahead
    joints = torch.stack([snout, left, right, base], 1)

    place = torch.arange(side) + 0.5
    y, x = torch.meshgrid(place, place, indexing="ij")
    at = torch.stack([x, y], -1)[None]
    image = _ground(count, side, generator)
    for _ in range(_BLOBS):
        where, radius = uniform(0, 96, 2) * size, uniform(2, 7) * size
        image = _painted(
            image, _ellipse(at, where, radius, radius, heading), uniform(0, 1, 3, 1, 1)
        )
    fur = (uniform(0.05, 0.95, 1, 1, 1) + 0.06 * normal(3, 1, 1)).clamp(0, 1)
    skin = (fur + torch.tensor([0.25, 0.1, 0.1]).view(1, 3, 1, 1)).clamp(0, 1)
    for link in _tail(base, heading + pi, generator, size):
        image = _painted(image, _disk(at, link, 1.3 * size), skin)
    image = _painted(image, _ellipse(at, centre, length, width, heading), fur)
    image = _painted(image, _ellipse(at, skull, 1.35 * head, 0.8 * head, turned), 0.92 * fur)
    for ear in (left, right):
        image = _painted(image, _ellipse(at, ear, 0.42 * head, 0.42 * head, turned), skin)
    image = _painted(image, _disk(at, snout, 1.2 * size), 0.5 * skin)
    image = image + uniform(0, 0.04, 1, 1, 1) * normal(3, side, side)
    miss = [LABEL_SD * size * normal(len(JOINTS), 2) for _ in range(2)]
    return Mice(
        frames=(image.clamp(0, 1) * 255).round() / 255,
        joints=joints,
        labels=joints + miss[0],
        second=joints + miss[1],
    )


def _direction(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], -1)


def _ground(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Smooth noise and a gradient of light, (N, 3, side, side)."""
    tint = 0.08 * torch.randn(count, 3, 1, 1, generator=generator)
    colour = torch.rand(count, 1, 1, 1, generator=generator) + tint
    rough = torch.randn(count, 1, 12, 12, generator=generator)
    smooth = F.interpolate(rough, size=(side, side), mode="bicubic")
    slope = torch.randn(count, 2, 1, 1, 1, generator=generator)
    ramp = torch.linspace(-0.5, 0.5, side)
    light = slope[:, 0] * ramp.view(1, 1, 1, -1) + slope[:, 1] * ramp.view(1, 1, -1, 1)
    return colour + 0.06 * smooth + 0.12 * light


def _ellipse(at: Tensor, centre: Tensor, along: Tensor, across: Tensor, angle: Tensor) -> Tensor:
    """(N, 1, S, S) how far each pixel is covered, with an edge of about a pixel."""
    away = at - centre[:, None, None]
    axis = _direction(angle)[:, None, None]
    first = (away * axis).sum(-1)
    second = away[..., 1] * axis[..., 0] - away[..., 0] * axis[..., 1]
    along, across = along.view(-1, 1, 1), across.view(-1, 1, 1)
    reach = ((first / along) ** 2 + (second / across) ** 2).sqrt()
    return torch.sigmoid(4 * (1 - reach) * torch.minimum(along, across))[:, None]


def _disk(at: Tensor, centre: Tensor, radius: float) -> Tensor:
    return torch.sigmoid(4 * (radius - (at - centre[:, None, None]).norm(dim=-1)))[:, None]


def _tail(base: Tensor, angle: Tensor, generator: torch.Generator, size: float) -> list[Tensor]:
    """The links of a tail whose curvature wanders."""
    links, bend = [base], torch.zeros(len(base))
    for _ in range(_TAIL):
        bend = bend + 0.08 * torch.randn(len(base), generator=generator)
        angle = angle + bend
        links.append(links[-1] + _LINK * size * _direction(angle))
    return links


def _painted(image: Tensor, cover: Tensor, colour: Tensor) -> Tensor:
    return image + cover * (colour - image)
