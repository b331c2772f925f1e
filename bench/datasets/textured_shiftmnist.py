"""shiftMNIST, textured: the background's texture gives a digit's class away (arXiv 1811.00401).

Digits of mnist5k, 28x28x1, on ten kinds of texture: gratings of random phase and shape around two
wavelengths and five directions, another one behind each digit. (The paper took photographs of ten
kinds.) 4,000 `train` and 1,000 `test` images have the texture of their class; `test-random` is the
same test digits on one of a class drawn at random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._shift import Source, digits, drawn, seed, stamped
from .types import Dataset

NAME = "textured-shiftmnist"
SPLITS = ("train", "test", "test-random")
SIDE = 28
CYCLES = (3.5, 8.0)
"""Of the gratings across an image."""
SPREAD = 1.0
"""Standard deviation of a texture's frequencies around that, in cycles an image."""
MEAN, DEVIATION, MOST = 0.3, 0.15, 0.6
"""Of the backgrounds' values, on [0,1]; what is beyond 0 or MOST is cut off."""


def create(*, split: str = "test") -> Dataset:
    """The images of a split; pixels uint8 (N,28,28,1), labels 0 to 9.

    Raises `UserError` for an unknown split, and as `mnist5k`.
    """
    return of_digits(split, "mnist5k")


def of_digits(split: str, source: Source) -> Dataset:
    """The same of the digits of `source`: mnist5k, or all of mnist.

    Raises `UserError` for an unknown split, and as `source`.
    """
    data = digits(NAME, split, SPLITS, source)
    return stamped(data, drawn(data) if split == "test-random" else data.labels, _stamp)


def _stamp(
    pixels: NDArray[np.uint8], cues: NDArray[np.int64], ids: tuple[str, ...]
) -> NDArray[np.uint8]:
    ink = pixels[..., 0] / 255.0
    textures = np.stack([texture(int(cue), one) for cue, one in zip(cues, ids, strict=True)])
    values: NDArray[np.float64] = ink + (1 - ink) * textures
    return np.rint(255 * values).astype(np.uint8)[..., None]


def texture(kind: int, name: str) -> NDArray[np.float64]:
    """The background (28,28) in [0, 0.6] of one of the ten kinds for the image of that id."""
    cycles, angle = CYCLES[kind // 5], np.pi * (kind % 5) / 5
    down, across = np.meshgrid(
        np.fft.fftfreq(SIDE, 1 / SIDE), np.fft.fftfreq(SIDE, 1 / SIDE), indexing="ij"
    )
    off_down, off_across = down - cycles * np.sin(angle), across - cycles * np.cos(angle)
    amplitude = np.exp(-(off_down**2 + off_across**2) / (2 * SPREAD**2))
    generator = np.random.Generator(np.random.PCG64(seed(name, "texture")))
    noise = generator.standard_normal((2, SIDE, SIDE))
    field = np.fft.ifft2(amplitude * (noise[0] + 1j * noise[1])).real
    values: NDArray[np.float64] = MEAN + DEVIATION * field / field.std()
    return values.clip(0.0, MOST)
