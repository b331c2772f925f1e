# mypy: ignore-errors
"""The peer's client, as an attack of 2018 asks: images a second, one line a round.

    python client.py QUERIES ROUNDS

Run in the environment of tests/server/avc2018, beside its model_2018.py.
"""

import sys
import time

import numpy as np
from adversarial_vision_challenge import load_model


def main(queries, rounds):
    model = load_model()
    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    model.predict(image)
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(queries):
            model.predict(image)
        print("rate single", queries / (time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
