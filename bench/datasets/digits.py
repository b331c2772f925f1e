"""scikit-learn's 1,797 handwritten digits, 8x8x1: 1,438 train and 359 test (Alpaydin, Kaynak 1998).

The published values 0 to 16 are spread over 0 to 255. The split is Tiltyard's own and fixed: of
every digit the fifth whose sha256(id) is smallest is test. An id is the line of the file.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .cache import folders, gunzip, package_folder, verified
from .types import Dataset, select, split_by_hash

FILE = "digits.csv.gz"
SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""Of the unpacked file."""
SIZE = 264_712
"""Bytes of the unpacked file."""
MEND = "pip install scikit-learn"


def create(*, split: str = "test") -> Dataset:
    """1,438 (`train`) or 359 (`test`) digits; pixels uint8 (N,8,8,1), labels 0 to 9.

    Raises `UserError` when scikit-learn is not installed or its file is another one.
    """
    if split not in ("train", "test"):
        raise UserError(f"digits has no split {split!r}; wanted 'train' or 'test'")
    package = package_folder("sklearn")
    places = folders("digits", *([package / "datasets" / "data"] if package else []))
    path = next((place / FILE for place in places if (place / FILE).is_file()), None)
    if path is None:
        raise UserError(
            f"digits: {FILE} is in none of {', '.join(map(str, places))}; "
            f"install the package that has it: {MEND}"
        )
    mend = f"bring the published one: {MEND}"
    text = verified(gunzip(path, size=SIZE), SHA256, source=f"{path}, unpacked,", mend=mend)
    table = np.loadtxt(text.decode("ascii").splitlines(), delimiter=",", dtype=np.int64)
    values, labels = table[:, :64].reshape(-1, 8, 8, 1), table[:, 64]
    ids = tuple(f"digits-{line:04d}" for line in range(len(labels)))
    train, test = split_by_hash(ids, labels, test_fraction=0.2)
    return select(
        train if split == "train" else test,
        name="digits",
        split=split,
        ids=ids,
        pixels=((values * 255 + 8) // 16).astype(np.uint8),
        labels=labels,
        class_names=tuple("0123456789"),
    )
