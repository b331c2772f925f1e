"""Fashion-MNIST, 28x28x1: 60,000 train and 10,000 test images of clothes (arXiv 1708.07747).

Read from Debian's package dataset-fashion-mnist where installed, else downloaded from the
authors. The published split; an id is the image's place in the published file.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .cache import folders
from .idx import IdxFile
from .types import Dataset, interleaved, select

DEBIAN = "/usr/share/datasets/fashion-mnist"
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
FILES = {
    "train": (
        IdxFile(
            "train-images-idx3-ubyte.gz",
            (60000, 28, 28),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        IdxFile(
            "train-labels-idx1-ubyte.gz",
            (60000,),
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    "test": (
        IdxFile(
            "t10k-images-idx3-ubyte.gz",
            (10000, 28, 28),
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte.gz",
            (10000,),
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def create(*, split: str = "test") -> Dataset:
    """60,000 (`train`) or 10,000 (`test`) images; pixels uint8 (N,28,28,1), labels 0 to 9.

    Raises `UserError` when the files are neither installed nor to be downloaded, or are others.
    """
    if split not in FILES:
        raise UserError(f"fashion-mnist has no split {split!r}; wanted 'train' or 'test'")
    places = folders("fashion-mnist", DEBIAN)
    pixels, labels = (file.read(places, MIRRORS) for file in FILES[split])
    ids = tuple(f"fashion-mnist-{split}-{place:05d}" for place in range(len(labels)))
    targets = labels.astype(np.int64)
    return select(
        interleaved(ids, targets),
        name="fashion-mnist",
        split=split,
        ids=ids,
        pixels=pixels[..., None],
        labels=targets,
        class_names=CLASSES,
    )
