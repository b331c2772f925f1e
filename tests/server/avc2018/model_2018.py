# mypy: ignore-errors
"""An entry of 2018, as its author would have written it: a Foolbox 1.8 model behind model_server.

The class is the best of 200 templates of whole numbers, over every eighth pixel: all sums are
exact, so that the same function elsewhere gives the same labels.
"""

import numpy as np
from adversarial_vision_challenge import model_server
from foolbox.models import Model


class Templates(Model):
    def __init__(self):
        super().__init__(bounds=(0, 255), channel_axis=3)
        self.weights = np.random.RandomState(2018).randint(-8, 9, (8 * 8 * 3, 200))

    def batch_predictions(self, images):
        pixels = images[:, ::8, ::8].astype(np.int64)
        return pixels.reshape(len(images), -1) @ self.weights

    def num_classes(self):
        return 200


if __name__ == "__main__":
    model_server(Templates())
