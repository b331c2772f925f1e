"""An attack for mnist5k in NumPy: find a smooth disturbance, shrink it, walk along the edge."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kit

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


class EdgeWalk:
    """Knows nothing of the model but the labels it gives; at most 300 queries an image.

    ``sizes``: L2 lengths tried for the first disturbance, on values 0..255, shortest first.
    ``rounds``, ``candidates``: the walk asks ``candidates`` images in one call, ``rounds`` times.
    ``cells``: disturbances are ``cells`` x ``cells`` random values, smoothly enlarged; models
    notice such blots at half the distance at which they notice single noisy pixels.
    """

    sizes = np.geomspace(500, 6000, 10)
    rounds = 30
    candidates = 8
    cells = 8

    def attack_image(
        self, predict: Any, image: Bytes, label: int, rng: np.random.Generator
    ) -> Bytes | None:
        """Give an adversarial uint8 (H,W,C) near ``image``, or None where none was found."""
        start = self.find_start(predict, image, label, rng)
        if start is None:
            return None
        edge = self.bisect(predict, image, label, start)
        return self.walk(predict, image, label, edge, rng)

    def find_start(
        self, predict: Any, image: Bytes, label: int, rng: np.random.Generator
    ) -> Bytes | None:
        """Disturb more and more until the label changes: four images a call, the nearest wins."""
        for size in self.sizes:
            asked = to_bytes(image + size * self.blots(4, image.shape, rng))
            found = asked[predict(asked) != label]
            if len(found):
                return nearest(found, image)
        plain = np.stack([np.full_like(image, value) for value in (0, 128, 255)])
        found = plain[predict(plain) != label]
        return nearest(found, image) if len(found) else None

    def bisect(self, predict: Any, image: Bytes, label: int, far: Bytes) -> Bytes:
        """Halve the way from ``far`` to the image eight times, staying adversarial."""
        inside, outside = 0.0, 1.0
        for _ in range(8):
            middle = (inside + outside) / 2
            asked = blend(image, far, middle)
            if predict(asked[None])[0] != label:
                outside = middle
            else:
                inside = middle
        return blend(image, far, outside)

    def walk(
        self, predict: Any, image: Bytes, label: int, edge: Bytes, rng: np.random.Generator
    ) -> Bytes:
        """Step sideways and inwards, many ways at once; keep the nearest that is adversarial."""
        inwards, sideways = 0.1, 0.5  # lengths of a step, as parts of the distance
        for _ in range(self.rounds):
            way = np.subtract(edge, image, dtype=np.float64)
            distance = np.linalg.norm(way)
            if distance == 0:
                break  # the clean image itself is wrong: nothing is nearer
            away = way / distance
            turn = self.blots(self.candidates, image.shape, rng)
            turn -= away * np.sum(turn * away, axis=(1, 2, 3), keepdims=True)
            turn *= np.geomspace(0.25, 2, self.candidates).reshape(-1, 1, 1, 1) * sideways
            asked = to_bytes(distance * (1 - inwards) * unit(away + turn) + image)
            found = asked[predict(asked) != label]
            if len(found):
                edge = nearest(np.concatenate([found, edge[None]]), image)
                inwards = min(1.3 * inwards, 0.5)
            else:
                inwards = max(0.7 * inwards, 0.005)
                sideways = max(0.9 * sideways, 0.05)
        return edge

    def blots(self, count: int, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Give smooth random disturbances (count,H,W,C) of length 1."""
        height, width, channels = shape
        coarse = rng.normal(size=(count, self.cells, self.cells, channels))
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


def create() -> EdgeWalk:
    """Make the attack, ready to play."""
    return EdgeWalk()


if __name__ == "__main__":
    kit.attack(create())
