"""A targeted attack for mnist5k in NumPy: start at an image of the target, walk home."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kit

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


class WalkHome:
    """Knows nothing of the model but the labels it gives; at most 800 queries an image.

    ``rounds``, ``candidates``: the walk asks ``candidates`` images in one call, ``rounds`` times.
    ``cells``: it steps sideways along ``cells`` x ``cells`` random values, smoothly enlarged.
    """

    rounds = 95
    candidates = 8
    cells = 8

    def attack_image(
        self, predict: Any, image: Bytes, label: int, rng: np.random.Generator
    ) -> Bytes | None:
        """Give an image near ``image`` that gets the label ``predict.target``, or None."""
        starts = predict.starts  # images of the wanted class, the nearest first, for nothing
        taken = starts[predict.fools(starts)]
        if not len(taken):
            return None
        edge = self.bisect(predict, image, taken[0])
        return self.walk(predict, image, edge, rng)

    def bisect(self, predict: Any, image: Bytes, far: Bytes) -> Bytes:
        """Halve the way from ``far`` to the image ten times, staying adversarial."""
        inside, outside = 0.0, 1.0
        for _ in range(10):
            middle = (inside + outside) / 2
            if predict.fools(blend(image, far, middle)[None])[0]:
                outside = middle
            else:
                inside = middle
        return blend(image, far, outside)

    def walk(self, predict: Any, image: Bytes, edge: Bytes, rng: np.random.Generator) -> Bytes:
        """Step sideways and inwards, many ways at once; keep the nearest that is adversarial."""
        inwards, sideways = 0.1, 0.3  # lengths of a step, as parts of the distance
        for _ in range(self.rounds):
            way = np.subtract(edge, image, dtype=np.float64)
            distance = np.linalg.norm(way)
            if distance == 0:
                break  # the clean image has the wanted label: nothing is nearer
            away = way / distance
            turn = self.blots(image.shape, rng)
            turn -= away * np.sum(turn * away, axis=(1, 2, 3), keepdims=True)
            turn *= np.geomspace(0.1, 2, self.candidates).reshape(-1, 1, 1, 1) * sideways
            asked = to_bytes(distance * (1 - inwards) * unit(away + turn) + image)
            found = asked[predict.fools(asked)]
            if len(found):
                edge = nearest(np.concatenate([found, edge[None]]), image)
                inwards = min(1.3 * inwards, 0.5)
            else:
                inwards = max(0.7 * inwards, 0.003)
                sideways = max(0.9 * sideways, 0.03)
        return edge

    def blots(self, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Give smooth random disturbances (candidates,H,W,C) of length 1."""
        height, width, channels = shape
        coarse = rng.normal(size=(self.candidates, self.cells, self.cells, channels))
        rows, columns = enlarge(self.cells, height), enlarge(self.cells, width)
        return unit(np.einsum("yi,nijc,xj->nyxc", rows, coarse, columns, optimize=True))


@functools.cache
def enlarge(cells: int, size: int) -> Floats:
    """Give the matrix (size,cells) that interpolates ``cells`` values to ``size``."""
    positions = np.linspace(0, cells - 1, size)
    peaks = [np.interp(positions, np.arange(cells), peak) for peak in np.eye(cells)]
    return np.stack(peaks, axis=1)


def unit(directions: Floats) -> Floats:
    """Scale each direction (n,H,W,C) to length 1."""
    lengths: Floats = np.sqrt(np.sum(directions**2, axis=(1, 2, 3), keepdims=True))
    return directions / lengths


def blend(image: Bytes, far: Bytes, part: float) -> Bytes:
    """Go ``part`` of the way from ``image`` to ``far``."""
    return to_bytes(image + part * (far.astype(np.float64) - image))


def to_bytes(images: Floats) -> Bytes:
    """Round to what can be sent: uint8, 0..255."""
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def nearest(images: Bytes, image: Bytes) -> Bytes:
    """Pick the one of ``images`` (n,H,W,C) with the smallest L2 distance to ``image``."""
    squares = np.sum((images.astype(np.float64) - image) ** 2, axis=(1, 2, 3))
    best: Bytes = images[squares.argmin()]
    return best


def create() -> WalkHome:
    """Make the attack, ready to play."""
    return WalkHome()


if __name__ == "__main__":
    kit.attack(create())
