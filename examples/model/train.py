"""Train the weights of model.py: `python train.py`, about a minute, NumPy only.

Every image is shifted by up to two pixels, gets some noise, and is nudged by up to 2 (L2, values
in [0,1]) in the direction that raises the loss most: training on its own worst cases makes a model
robust. The weights are then rounded to whole numbers; model.py says why.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets import dataset

Array = NDArray[Any]
HIDDEN = 128
BATCH = 100
NOISE = 0.1
NUDGE = 2.0
RATE = 2e-3
LARGEST_WEIGHT = 2047  # whole numbers of 12 bits: rounding costs no accuracy


def main() -> None:
    """Train, round, store, and say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights.npz"))
    options = parser.parse_args()
    data = dataset("mnist5k", split="train")
    weights = train(data.pixels, data.labels, epochs=options.epochs, seed=0)
    first, first_bias, second, second_bias = rounded(weights)
    np.savez_compressed(
        options.out,
        first=first,
        first_bias=first_bias,
        second=second,
        second_bias=second_bias,
    )
    test = dataset("mnist5k", split="test")
    predicted = scores(weights, test.pixels.reshape(len(test), -1) / 255)[1].argmax(axis=1)
    print(f"accuracy on the test split: {np.mean(predicted == test.labels):.3f}")
    print(f"written: {options.out}")


def train(pixels: Array, labels: Array, *, epochs: int, seed: int) -> list[Array]:
    """uint8 (N,28,28,1), int (N,) -> [first, first_bias, second, second_bias], by Adam."""
    rng = np.random.default_rng(seed)
    inputs = pixels[0].size
    weights = [
        rng.normal(0, np.sqrt(2 / inputs), (inputs, HIDDEN)),
        np.zeros(HIDDEN),
        rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, 10)),
        np.zeros(10),
    ]
    mean = [np.zeros_like(weight) for weight in weights]
    square = [np.zeros_like(weight) for weight in weights]
    steps = epochs * (len(pixels) // BATCH)
    for step in range(1, steps + 1):
        chosen = rng.integers(len(pixels), size=BATCH)
        images = shifted(pixels[chosen, :, :, 0] / 255, rng).reshape(BATCH, -1)
        images = images + rng.normal(0, NOISE, images.shape)
        images = nudged(weights, images, labels[chosen], rng)
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        for k, slope in enumerate(gradients(weights, images, labels[chosen])[0]):
            mean[k] = 0.9 * mean[k] + 0.1 * slope
            square[k] = 0.999 * square[k] + 0.001 * slope**2
            ahead = (mean[k] / (1 - 0.9**step)) / (np.sqrt(square[k] / (1 - 0.999**step)) + 1e-8)
            weights[k] = weights[k] - rate * ahead
        if step % (len(pixels) // BATCH) == 0:
            print(f"epoch {step // (len(pixels) // BATCH)} of {epochs}", flush=True)
    return weights


def scores(weights: list[Array], images: Array) -> tuple[Array, Array]:
    """Images (N,784) in [0,1] -> the hidden layer (N,HIDDEN) and the scores (N,10)."""
    hidden = np.maximum(images @ weights[0] + weights[1], 0)
    return hidden, hidden @ weights[2] + weights[3]


def gradients(weights: list[Array], images: Array, labels: Array) -> tuple[list[Array], Array]:
    """Slopes of the mean cross-entropy: for each weight, and for the images (N,784)."""
    hidden, logits = scores(weights, images)
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = likely / likely.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    back = (error @ weights[2].T) * (hidden > 0)
    slopes = [images.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
    return slopes, back @ weights[0].T


def nudged(weights: list[Array], images: Array, labels: Array, rng: np.random.Generator) -> Array:
    """Move each image (N,784) by a random length up to NUDGE where the loss rises most."""
    slope = gradients(weights, images, labels)[1]
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    step = NUDGE * rng.random((len(images), 1)) * slope / np.maximum(length, 1e-12)
    return np.asarray(images + step)


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Shift each image (N,28,28) by up to two pixels each way, black where nothing was."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    down, right = rng.integers(5, size=(2, len(images), 1, 1))
    at = np.arange(28)
    row = np.arange(len(images)).reshape(-1, 1, 1)
    return np.asarray(padded[row, down + at[:, None], right + at])


def rounded(weights: list[Array]) -> list[Array]:
    """Whole numbers for pixels 0..255: the same scores but for a factor and the rounding."""
    first = LARGEST_WEIGHT / np.abs(weights[0]).max()
    second = LARGEST_WEIGHT / np.abs(weights[2]).max()
    return [
        np.rint(weights[0] * first).astype(np.int16),
        np.rint(weights[1] * first * 255).astype(np.int64),
        np.rint(weights[2] * second).astype(np.int16),
        np.rint(weights[3] * first * second * 255).astype(np.int64),
    ]


if __name__ == "__main__":
    main()
