"""A model for mnist5k in NumPy: two layers, trained by train.py against its own worst nudges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kit


class TwoLayers:
    """Scores = ReLU(pixels @ first + first_bias) @ second + second_bias; the largest wins.

    All weights are whole numbers, kept in float64, and every sum of them stays far below 2**53.
    So every sum is exact, in whatever order it is added up: the label of an image depends neither
    on the batch it came in, nor on the number of threads, nor on the machine. With rounded sums
    an attack finds images on the edge that get one label alone and another in a batch, and the
    referee, which asks both ways, refuses such a model.
    """

    def __init__(self, weights: Path) -> None:
        with np.load(weights, allow_pickle=False) as stored:
            arrays = {name: stored[name].astype(np.float64) for name in stored.files}
        self.first, self.first_bias = arrays["first"], arrays["first_bias"]
        self.second, self.second_bias = arrays["second"], arrays["second_bias"]

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """uint8 (N,28,28,1) -> int64 (N,): the digit in each image, 0 to 9."""
        pixels = images.reshape(len(images), -1).astype(np.float64)
        hidden = np.maximum(pixels @ self.first + self.first_bias, 0)
        scores = hidden @ self.second + self.second_bias
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def create() -> TwoLayers:
    """Make the model, ready to predict."""
    return TwoLayers(Path(__file__).with_name("weights.npz"))


if __name__ == "__main__":
    kit.serve(create())
