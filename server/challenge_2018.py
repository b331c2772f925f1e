"""What was spoken and stored in 2018 (arXiv 1808.01976; adversarial-vision-challenge 1.0.5).

Requests and replies are BSON, images travel one at a time and without a name; an attack reads its
images and stores its adversarials as .npy files. docs/design/challenge-2018.md says how this meets
our own rules.
"""

from __future__ import annotations

import pickletools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import bson
from .sandbox import wire
from .sandbox.environment import LABELS

BSON: Final = "application/bson"
GREETING: Final = "NIPS 2018 Adversarial Vision Challenge Model Server\n"
VERSION: Final = "1.0.5"
SECRET: Final = "Evaluator-Secret"
"""A request with it is not counted by a model's own server: the referee counts."""

NONE_BYTES: Final = 1024
"""A pickled None has some 200 bytes."""

MEMO: Final = frozenset({"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
NONE_END: Final = ["EMPTY_LIST", "NONE", "APPEND", "TUPLE", "BUILD", "STOP"]
"""How the pickle of an array ends whose only object is None, without the operations of MEMO."""


def request(pixels: NDArray[np.uint8]) -> bytes:
    """The body of POST /predict for one image uint8 (H, W, C)."""
    return bson.dumps({"image": bson.as_document(pixels)})


def image(body: bytes) -> NDArray[Any]:
    """The array of such a body, of any shape and plain type.

    Raises:
        bson.NotBson: with the reason.
    """
    document = bson.loads(body)
    if "image" not in document:
        raise bson.NotBson('it has no "image"')
    return bson.array(document["image"])


def reply(label: int) -> bytes:
    """The body of the answer."""
    return bson.dumps({"prediction": label})


def label(body: bytes) -> int:
    """The label in the body of an answer.

    Raises:
        bson.NotBson: with the reason.
    """
    found = bson.loads(body).get("prediction")
    if type(found) is not int:
        raise bson.NotBson(f'"prediction" is {str(found)[:40]!r}, wanted a whole number')
    return found


class Nearest:
    """Finds the clean image that a query is nearest to (L2 on 8-bit values, exactly).

    Args:
        pixels: the clean images, uint8 (S, H, W, C), at least one.
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        # Sums of squares of bytes are whole numbers, which float64 holds without rounding.
        self._clean = pixels.reshape(len(pixels), -1).astype(np.float64)
        self._norms = np.einsum("ij,ij->i", self._clean, self._clean)

    def __call__(self, pixels: NDArray[np.uint8]) -> int:
        """The sample of one image uint8 (H, W, C); the first one of several equally near."""
        asked = pixels.reshape(-1).astype(np.float64)
        return int(np.argmin(self._norms - 2 * (self._clean @ asked)))


def file_name(row: int) -> str:
    """The name of a sample's image, and of its adversarial."""
    return f"{row:05d}.npy"


def input_files(pixels: NDArray[np.uint8], labels: list[int]) -> dict[str, bytes]:
    """What an attack finds in INPUT_IMG_PATH: the images, and labels.yml.

    Args:
        pixels: the clean images, uint8 (S, H, W, C).
        labels: the true label of each, or the target where the attack is targeted.
    """
    files = {file_name(row): wire.dumps(image) for row, image in enumerate(pixels)}
    lines = [f"{file_name(row)}: {label}\n" for row, label in enumerate(labels)]
    return files | {LABELS: "".join(lines).encode()}


def is_none(body: bytes) -> bool:
    """Whether a .npy file is a saved None, by which an attack of 2018 says that it found nothing.

    `numpy.save` pickles it. The pickle's operations are listed and compared; none is ever run.
    """
    if len(body) > NONE_BYTES or body[:8] != b"\x93NUMPY\x01\x00":
        return False
    start = 10 + int.from_bytes(body[8:10], "little")
    header = body[10:start]
    if b"'descr': '|O'" not in header or b"'shape': ()" not in header:
        return False
    try:
        steps = [step.name for step, _, _ in pickletools.genops(body[start:])]
    except Exception:  # whatever a damaged pickle makes it raise
        return False
    return [name for name in steps if name not in MEMO][-len(NONE_END) :] == NONE_END
