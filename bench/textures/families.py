"""Procedural textures: families that differ in kind, and instances of them that differ in numbers.

A family is a function of a random generator and a side length; it gives a continuous field, whose
grey values `sources.equalise` then spreads evenly, so that no texture can be told by how bright
or how full of contrast it is. Lengths are in pixels, frequencies in cycles a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..errors import UserError
from .sources import Array, equalise

Family = Callable[[np.random.Generator, int], Array]

SIDE = 160


def _plane(rng: np.random.Generator, side: int) -> tuple[Array, Array]:
    """Coordinates (side, side) turned by a random angle."""
    angle = rng.uniform(0, math.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _filtered(rng: np.random.Generator, side: int, gain: Callable[[Array, Array], Array]) -> Array:
    """White noise under `gain(fx, fy)`, with standard deviation 1."""
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    spectrum = np.fft.fft2(rng.standard_normal((side, side))) * gain(fx, fy)
    spectrum[0, 0] = 0
    field: Array = np.fft.ifft2(spectrum).real
    scaled: Array = field / field.std()
    return scaled


def _band(rng: np.random.Generator, side: int, centre: float, width: float) -> Array:
    return _filtered(
        rng, side, lambda fx, fy: np.exp(-(((np.hypot(fx, fy) - centre) / width) ** 2))
    )


def _grained(rng: np.random.Generator, side: int, angle: float, ratio: float, cut: float) -> Array:
    def gain(fx: Array, fy: Array) -> Array:
        along = fx * math.cos(angle) + fy * math.sin(angle)
        across = fy * math.cos(angle) - fx * math.sin(angle)
        return np.exp(-((along * ratio / cut) ** 2) - (across / cut) ** 2)

    return _filtered(rng, side, gain)


def _neighbours(rng: np.random.Generator, side: int) -> tuple[Array, Array]:
    """For each pixel the distances to its two nearest random points, and which the nearest is."""
    spacing = rng.uniform(7, 14)
    count = int(((side + 2 * spacing) / spacing) ** 2)
    points = rng.uniform(-spacing, side + spacing, (count, 2))
    y, x = np.mgrid[0:side, 0:side]
    pixels = np.stack([y.ravel(), x.ravel()], -1)
    distance, index = cKDTree(points).query(pixels, k=2)
    return distance.reshape(side, side, 2), index[:, 0].reshape(side, side)


def stripes(rng: np.random.Generator, side: int) -> Array:
    x, _ = _plane(rng, side)
    wobble = rng.uniform(0, 1.2) * _band(rng, side, 0.02, 0.02)
    return np.sin(2 * math.pi * x / rng.uniform(5, 14) + wobble)


def checks(rng: np.random.Generator, side: int) -> Array:
    x, y = _plane(rng, side)
    period = rng.uniform(8, 18)
    field: Array = np.tanh(4 * np.sin(2 * math.pi * x / period) * np.sin(2 * math.pi * y / period))
    return field


def dots(rng: np.random.Generator, side: int) -> Array:
    x, y = _plane(rng, side)
    period = rng.uniform(7, 14)
    shifted = x + period / 2 * np.round(y / period)
    radius = np.hypot(
        shifted - period * np.round(shifted / period), y - period * np.round(y / period)
    )
    return np.tanh((radius - rng.uniform(0.2, 0.4) * period) * 2)


def fine_noise(rng: np.random.Generator, side: int) -> Array:
    return _band(rng, side, rng.uniform(0.18, 0.4), rng.uniform(0.03, 0.12))


def coarse_noise(rng: np.random.Generator, side: int) -> Array:
    return _band(rng, side, rng.uniform(0.05, 0.14), rng.uniform(0.01, 0.03))


def clouds(rng: np.random.Generator, side: int) -> Array:
    power = rng.uniform(0.6, 1.6)
    return _filtered(rng, side, lambda fx, fy: (np.hypot(fx, fy) + 0.03) ** -power)


def grain(rng: np.random.Generator, side: int) -> Array:
    return _grained(rng, side, rng.uniform(0, math.pi), rng.uniform(3, 8), rng.uniform(0.12, 0.35))


def crosshatch(rng: np.random.Generator, side: int) -> Array:
    angle, gap = rng.uniform(0, math.pi), rng.uniform(0.5, 1.5)
    ratio, cut = rng.uniform(5, 10), rng.uniform(0.15, 0.35)
    return np.maximum(
        _grained(rng, side, angle, ratio, cut), _grained(rng, side, angle + gap, ratio, cut)
    )


def cell_edges(rng: np.random.Generator, side: int) -> Array:
    distance, _ = _neighbours(rng, side)
    return np.tanh((distance[..., 1] - distance[..., 0]) / rng.uniform(1, 3))


def cells(rng: np.random.Generator, side: int) -> Array:
    _, nearest = _neighbours(rng, side)
    values: Array = rng.permutation(nearest.max() + 1)[nearest].astype(np.float64)
    field: Array = values + 0.05 * values.std() * rng.standard_normal((side, side))
    return field


def rings(rng: np.random.Generator, side: int) -> Array:
    y, x = np.mgrid[0:side, 0:side]
    cy, cx = rng.uniform(-0.5 * side, 1.5 * side, 2)
    wobble = rng.uniform(0.5, 2.5) * _band(rng, side, 0.02, 0.015)
    field: Array = np.sin(2 * math.pi * np.hypot(y - cy, x - cx) / rng.uniform(5, 12) + wobble)
    return field


def marble(rng: np.random.Generator, side: int) -> Array:
    x, _ = _plane(rng, side)
    turbulence = np.abs(_band(rng, side, 0.04, 0.03)) + 0.5 * np.abs(_band(rng, side, 0.1, 0.05))
    return np.sin(2 * math.pi * x / rng.uniform(10, 24) + rng.uniform(1.5, 4) * turbulence)


def ridges(rng: np.random.Generator, side: int) -> Array:
    return -np.abs(_band(rng, side, rng.uniform(0.05, 0.15), rng.uniform(0.01, 0.04)))


def weave(rng: np.random.Generator, side: int) -> Array:
    x, y = _plane(rng, side)
    period = rng.uniform(6, 12)
    over = np.sin(math.pi * x / period) * np.sin(math.pi * y / period) > 0
    return np.where(over, np.sin(4 * math.pi * x / period), np.sin(4 * math.pi * y / period))


def zigzag(rng: np.random.Generator, side: int) -> Array:
    x, y = _plane(rng, side)
    period = rng.uniform(10, 24)
    tooth = np.abs(x / period - np.round(x / period)) * period
    return np.sin(2 * math.pi * (y + rng.uniform(0.7, 1.6) * tooth) / rng.uniform(5, 10))


def bricks(rng: np.random.Generator, side: int) -> Array:
    x, y = _plane(rng, side)
    height = rng.uniform(6, 11)
    width = height * rng.uniform(1.6, 2.6)
    shifted = x + width / 2 * np.floor(y / height)
    to_joint = np.minimum(
        np.abs(shifted - width * np.round(shifted / width)),
        np.abs(y - height * np.round(y / height)),
    )
    field: Array = np.tanh(to_joint - 1) + 0.15 * _band(rng, side, 0.2, 0.1)
    return field


def speckle(rng: np.random.Generator, side: int) -> Array:
    sparse = (rng.uniform(size=(side, side)) < rng.uniform(0.004, 0.02)).astype(np.float64)
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    width = rng.uniform(0.1, 0.2)
    blurred: Array = np.fft.ifft2(np.fft.fft2(sparse) * np.exp(-(fx**2 + fy**2) / width**2)).real
    noise: Array = 0.05 * blurred.std() * rng.standard_normal((side, side))
    return blurred + noise


def scales(rng: np.random.Generator, side: int) -> Array:
    x, y = _plane(rng, side)
    period = rng.uniform(9, 16)
    row = np.floor(2 * y / period)
    shifted = x + period / 2 * np.mod(row, 2)
    radius = np.hypot(shifted - period * np.round(shifted / period), y - period / 2 * row)
    return np.cos(4 * math.pi * radius / period)


def plaid(rng: np.random.Generator, side: int) -> Array:
    x, y = _plane(rng, side)
    first, second = rng.uniform(5, 9), rng.uniform(11, 20)
    return np.sin(2 * math.pi * x / first) + np.sin(2 * math.pi * (y + 0.4 * x) / second)


_TRAINING = [
    stripes, checks, dots, fine_noise, coarse_noise, clouds, grain, crosshatch, cell_edges, cells,
    rings, marble, ridges,
]  # fmt: skip
_HELD_OUT = [weave, zigzag, bricks, speckle, scales, plaid]

FAMILIES: dict[str, Family] = {family.__name__: family for family in (*_TRAINING, *_HELD_OUT)}
TRAINING = tuple(family.__name__ for family in _TRAINING)
HELD_OUT = tuple(family.__name__ for family in _HELD_OUT)


def make_bank(names: Sequence[str], *, each: int, seed: int, side: int = SIDE) -> Tensor:
    """(len(names) * each, side, side) equalised textures in [0, 1], family after family.

    Instance i of a family is the same for a seed whatever other families are asked for.
    Raises `UserError` for a name that is no family.
    """
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise UserError(
            f"no texture family {unknown[0]!r}; there are {', '.join(sorted(FAMILIES))}"
        )
    order = {name: number for number, name in enumerate(FAMILIES)}
    made = [
        equalise(
            FAMILIES[name](np.random.default_rng([seed, order[name], instance]), side),
            np.random.default_rng([seed, order[name], instance, 1]),
        )
        for name in names
        for instance in range(each)
    ]
    return torch.from_numpy(np.stack(made).astype(np.float32))
