"""The participants' kit of Tiltyard: NumPy and the standard library, nothing else.

A model says what it sees; whole batches come in, one label an image goes out::

    class MyModel:
        def predict(self, images):                      # uint8 (N,H,W,C)
            return self.scores(images).argmax(axis=1)   # N whole numbers from 0

    kit.serve(MyModel())                                # in model.py

An attack gets one image at a time and may ask about any it likes, 1,000 times a sample::

    class MyAttack:
        def attack_image(self, predict, image, label, rng):     # uint8 (H,W,C), int
            for size in range(8, 256, 8):
                noisy = image + rng.uniform(-size, size, image.shape)
                noisy = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
                if predict(noisy[None])[0] != label:            # one query an image
                    return noisy        # or return None: the best one asked is handed in

    kit.attack(MyAttack())                              # in attack.py

``predict`` takes several images in one call, which is faster; each still is one query. When the
budget is spent it raises ``kit.BudgetExhausted``: let it escape, and the best adversarial asked
so far counts. Draw randomness from ``rng`` only, and the same match gives the same score.
"""

from __future__ import annotations

from .attack import attack
from .bridge import foolbox_model, from_foolbox, to_foolbox
from .errors import BudgetExhausted, RefereeError, RefereeGoneError, WireError
from .model import serve

__all__ = [
    "BudgetExhausted",
    "RefereeError",
    "RefereeGoneError",
    "WireError",
    "attack",
    "foolbox_model",
    "from_foolbox",
    "serve",
    "to_foolbox",
]
