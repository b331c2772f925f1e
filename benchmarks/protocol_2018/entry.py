"""Our two entries of the benchmark: `python3 entry.py model` and `python3 entry.py attack N N N`.

The model is the function of tests/server/avc2018/model_2018.py, over batches. The attack asks
single images and batches of 100 through the kit, and prints images a second, one line a round.
"""

import sys
import time
from typing import Any

import numpy as np

import kit


class Templates:
    def __init__(self) -> None:
        weights = np.random.RandomState(2018).randint(-8, 9, (8 * 8 * 3, 200))
        self.weights = weights.astype(np.float64)  # sums of whole numbers: exact

    def predict(self, images: Any) -> Any:
        pixels = images[:, ::8, ::8].astype(np.float64).reshape(len(images), -1)
        return (pixels @ self.weights).argmax(axis=1)


class Rates:
    def __init__(self, singles: int, batches: int, rounds: int) -> None:
        self.work = {"single": (1, singles), "batch": (100, batches)}
        self.rounds = rounds

    def attack_image(self, predict: Any, image: Any, label: int, rng: Any) -> None:
        for _ in range(self.rounds):
            for name, (size, calls) in self.work.items():
                stack = np.repeat(image[None], size, 0)
                predict(stack)
                begun = time.perf_counter()
                for _ in range(calls):
                    predict(stack)
                rate = size * calls / (time.perf_counter() - begun)
                print("rate", name, rate, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "model":
        kit.serve(Templates())
    else:
        kit.attack(Rates(*map(int, sys.argv[2:5])))
