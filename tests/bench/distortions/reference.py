"""The paper's definitions written down plainly in float64, an image at a time, to compare with.

Loops and scipy where ours has batches and matrix products. Images are (H,W,3) in [0,1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2gray

Plane = NDArray[np.float64]

MEAN_GREY = 0.4423

CONES = np.array(
    [
        [0.1619982647, 0.208049264, 0.0389347448],
        [0.0330275785, 0.2496504557, 0.0618343518],
        [0.0015524055, 0.0198861001, 0.1890224274],
    ]
)
WHITE = np.array([0.20449114, 0.17225619, 0.10523047])
OPPONENT = np.array(
    [
        [9.27590805, 9.27590805, 0],
        [7.86421647, -9.33587662, 0],
        [-3.39709047, -3.39709047, 12.16230246],
    ]
)


def grey(image: Plane) -> Plane:
    return np.asarray(rgb2gray(image), dtype=np.float64)


def contrast(image: Plane, level: float) -> Plane:
    return (1 - level) / 2 + level * grey(image)


def uniform_noise(image: Plane, width: float, rng: np.random.Generator) -> Plane:
    plane = contrast(image, 0.3)
    return np.clip(plane + rng.uniform(-width, width, plane.shape), 0, 1)


def salt_and_pepper(image: Plane, share: float, rng: np.random.Generator) -> Plane:
    plane = contrast(image, 0.3)
    draws = rng.uniform(size=plane.shape)
    return np.clip(plane + (draws >= 1 - share / 2) - 1.0 * (draws < share / 2), 0, 1)


def low_pass(image: Plane, sigma: float) -> Plane:
    blurred = ndimage.gaussian_filter(grey(image), sigma, mode="constant", cval=MEAN_GREY)
    return np.asarray(np.clip(blurred, 0, 1))


def high_pass(image: Plane, sigma: float) -> Plane:
    plane = grey(image)
    edges = plane - ndimage.gaussian_filter(plane, sigma, mode="constant", cval=MEAN_GREY)
    return np.asarray(np.clip(edges + MEAN_GREY - edges.mean(), 0, 1))


def phase_noise(image: Plane, shifts: Plane, *, symmetric: bool) -> Plane:
    """Shifts in radians, one for each of the first half of the centred block."""
    spectrum = np.fft.fftshift(np.fft.fft2(grey(image)))
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    block = phase[1:, 1:].ravel()
    half = len(block) // 2
    block[:half] += shifts
    block[half + 1 :] -= shifts[::-1] if symmetric else shifts
    phase[1:, 1:] = block.reshape(phase.shape[0] - 1, phase.shape[1] - 1)
    back = np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * phase)))
    if symmetric:
        assert np.abs(back.imag).max() < 1e-12
    return np.asarray(np.clip(back.real, 0, 1))


def mean_amplitudes(images: Plane) -> Plane:
    """(H,W), the mean frequency in the middle."""
    spectra = [np.abs(np.fft.fftshift(np.fft.fft2(grey(image)))) for image in images]
    return np.asarray(np.mean(spectra, axis=0))


def power_equalisation(image: Plane, amplitudes: Plane) -> Plane:
    phase = np.angle(np.fft.fftshift(np.fft.fft2(grey(image))))
    back = np.fft.ifft2(np.fft.ifftshift(amplitudes * np.exp(1j * phase)))
    return np.asarray(np.clip(back.real, 0, 1))


def opponent_light(light: Plane) -> Plane:
    """Linear light (H,W,3) -> that of the image in opponent colours."""
    cones = np.einsum("ij,klj->kli", CONES, light) - WHITE
    axes = np.einsum("ij,klj->kli", OPPONENT, cones)
    axes[:, :, 1:] *= -1
    changed = np.einsum("ij,klj->kli", np.linalg.inv(OPPONENT), axes) + WHITE
    return np.asarray(np.einsum("ij,klj->kli", np.linalg.inv(CONES), changed))


def opponent_colour(image: Plane, table: Plane) -> Plane:
    light = np.clip(opponent_light(table[(image * 255).round().astype(int)]), 0, 1)
    nearest = np.abs(table[None] - light.reshape(-1, 1)).argmin(axis=1)
    return np.asarray(nearest.reshape(image.shape) / 255)


def rotation(image: Plane, degrees: int) -> Plane:
    plane = grey(image)
    if degrees == 90:
        return np.asarray(plane.T[::-1])
    if degrees == 180:
        return np.asarray(plane[::-1, ::-1])
    return np.asarray(plane[::-1].T) if degrees == 270 else plane


def scale_space(plane: Plane) -> tuple[Plane, int]:
    """Bands (levels,T,T) of a square image amid its mirror images, and where it begins in them."""
    side = len(plane)
    torus = 1
    while torus < 1.5 * side:
        torus *= 2
    before = (torus - side) // 2
    large = np.pad(plane, (before, torus - side - before), mode="symmetric")
    place = np.minimum(np.arange(torus), torus - np.arange(torus))
    levels = []
    for number in range(int(np.ceil(2 * np.log2(64 * side / 224)))):
        sigma = np.sqrt(2) ** (number - 1)
        line = np.exp(-(place**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
        kernel = np.fft.fft2(np.outer(line, line))
        levels.append(np.fft.ifft2(np.fft.fft2(large) * kernel).real)
    bands = [levels[k] - levels[k + 1] for k in range(len(levels) - 1)]
    return np.array([*bands, levels[-1]]), before


def disarray(bands: Plane, before: int, down: Plane, across: Plane) -> Plane:
    """Every pixel looked up on its own; displacements (levels,H,W)."""
    last = bands.shape[-1] - 1
    _, height, width = down.shape
    out = np.zeros((height, width))
    for band, rows, columns in zip(bands, down, across, strict=True):
        for i in range(height):
            for j in range(width):
                row = int(np.clip(rows[i, j] + i + before, 0, last))
                column = int(np.clip(columns[i, j] + j + before, 0, last))
                out[i, j] += band[row, column]
    return out


def blurred_noise(torus: int, sigma: float, rng: np.random.Generator) -> Plane:
    """(T,T): white noise, blurred, with mean 0 and variance 1."""
    noise = ndimage.gaussian_filter(rng.normal(size=(torus, torus)), sigma, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std())


def displacements(
    side: int, torus: int, coherence: float, grain: float, rng: np.random.Generator
) -> Plane:
    """(levels,H,W) for a reach of 1."""
    limit = 64 * side / 224
    levels = int(np.ceil(2 * np.log2(limit)))
    sigmas = [np.sqrt(2) ** (number - 1) for number in range(levels)]
    own = [blurred_noise(torus, sigma, rng) * sigma / limit for sigma in sigmas]
    fields = []
    for number in range(levels):
        coherent = sum(own[number:])
        alone = blurred_noise(torus, grain * side / 224, rng)
        fields.append((coherence * coherent + (1 - coherence) * alone)[:side, :side])
    return np.array(fields)
