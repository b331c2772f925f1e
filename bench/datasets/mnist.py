"""MNIST, 28x28x1: 60,000 train and 10,000 test digits (LeCun, Bottou, Bengio, Haffner 1998).

Downloaded on first use to the user's cache folder. The published split; an id is the image's
place in the published file.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .cache import folders
from .idx import IdxFile
from .types import Dataset, interleaved, select

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = {
    "train": (
        IdxFile(
            "train-images-idx3-ubyte.gz",
            (60000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        IdxFile(
            "train-labels-idx1-ubyte.gz",
            (60000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    "test": (
        IdxFile(
            "t10k-images-idx3-ubyte.gz",
            (10000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte.gz",
            (10000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}


def create(*, split: str = "test") -> Dataset:
    """60,000 (`train`) or 10,000 (`test`) digits; pixels uint8 (N,28,28,1), labels 0 to 9.

    Raises `UserError` when the files cannot be downloaded or are others.
    """
    if split not in FILES:
        raise UserError(f"mnist has no split {split!r}; wanted 'train' or 'test'")
    pixels, labels = (file.read(folders("mnist"), MIRRORS) for file in FILES[split])
    ids = tuple(f"mnist-{split}-{place:05d}" for place in range(len(labels)))
    targets = labels.astype(np.int64)
    return select(
        interleaved(ids, targets),
        name="mnist",
        split=split,
        ids=ids,
        pixels=pixels[..., None],
        labels=targets,
        class_names=tuple("0123456789"),
    )
