"""The idx format of MNIST and its relatives: four bytes of type and rank, the sizes, the values.

Checked by the sha256 of the *unpacked* file, because distributions pack the same bytes anew
(Debian's Fashion-MNIST differs from the authors' in the .gz only).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .cache import fetch, gunzip, verified

HEADROOM = 1024
"""Bytes by which a packed file may be larger than the unpacked one."""


@dataclass(frozen=True)
class IdxFile:
    """One published idx file."""

    name: str
    """Of the packed file, such as `t10k-images-idx3-ubyte.gz`."""
    shape: tuple[int, ...]
    """The sizes that its header must state."""
    sha256: str
    """Of the unpacked bytes, in hex."""

    def read(self, folders: Sequence[Path], mirrors: Sequence[str]) -> NDArray[np.uint8]:
        """uint8 array of `shape`, from the first folder that has it, else downloaded to the last.

        Raises `UserError` when there is none to be had or when what is there is not it.
        """
        path = next((f / self.name for f in folders if (f / self.name).is_file()), None)
        if path is None:
            path = folders[-1] / self.name
            fetch([mirror + self.name for mirror in mirrors], path, size=self._bytes + HEADROOM)
        data = verified(
            gunzip(path, size=self._bytes),
            self.sha256,
            source=f"{path}, unpacked,",
            mend="delete the file and try again, so that it is downloaded",
        )
        return parse(data, source=str(path))

    @property
    def _bytes(self) -> int:
        return 4 + 4 * len(self.shape) + int(np.prod(self.shape))


def parse(data: bytes, *, source: str) -> NDArray[np.uint8]:
    """The uint8 array in these idx bytes; `UserError` when they are something else."""
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise UserError(f"{source} is no idx file of bytes: it begins with {data[:4]!r}")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=data[3], offset=4))
    start = 4 + 4 * data[3]
    if len(data) - start != int(np.prod(shape)):
        raise UserError(f"{source} is cut off: {len(data) - start} bytes for shape {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
