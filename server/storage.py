"""Content-addressed artefacts: a file's name is the SHA-256 of its bytes.

Written to a temporary file, synced, renamed: a killed writer leaves no half artefact under a good
name, and writing the same bytes twice is harmless.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InfrastructureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20


class Store:
    """A folder of artefacts, two levels deep: ``ab/abcdef...``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where that artefact lies or would lie; raises ValueError for anything but 64 hex."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256 in lower-case hexadecimal: {sha256!r}")
        return self.folder / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Whether the artefact is there."""
        return self.path(sha256).is_file()

    def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256. Raises InfrastructureError (disk full)."""
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path(sha256)
        if target.is_file():
            os.utime(target)  # young again: the collector must not take it before our commit
            return sha256
        try:
            target.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".new-", delete=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise InfrastructureError(f"cannot store an artefact: {error}") from error
        return sha256

    def link(self, file: Path) -> str:
        """Put a finished, synced file into the store; returns its SHA-256.

        The file stays where it is too (a hard link, or a copy where the store is on another
        disk): the caller removes it after its commit.
        """
        sha256 = hash_file(file)
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(file, target)
        except FileExistsError:
            os.utime(target)
        except OSError:  # another disk
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".new-", delete=False) as copy:
                with file.open("rb") as opened:
                    shutil.copyfileobj(opened, copy, _BLOCK)
                copy.flush()
                os.fsync(copy.fileno())
            Path(copy.name).replace(target)
        _sync_folder(target.parent)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes; raises FileNotFoundError, or InfrastructureError when they have rotted."""
        data = self.path(sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InfrastructureError(f"artefact {sha256} does not hash to its name any more")
        return data

    def put_array(self, array: NDArray[np.uint8]) -> str:
        """Store an array as ``.npy`` bytes."""
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return self.put(buffer.getvalue())

    def get_array(self, sha256: str) -> NDArray[np.uint8]:
        """An array stored by ``put_array``."""
        import numpy as np

        array: NDArray[np.uint8] = np.load(io.BytesIO(self.get(sha256)), allow_pickle=False)
        return array

    def all(self) -> Iterator[str]:
        """The SHA-256 of every artefact."""
        for folder in sorted(self.folder.iterdir()):
            if folder.is_dir():
                yield from (file.name for file in sorted(folder.iterdir()))

    def collect(self, referenced: Collection[str], older_than_seconds: float = 86400.0) -> int:
        """Delete unreferenced artefacts and abandoned temporary files; returns how many."""
        horizon = time.time() - older_than_seconds
        removed = 0
        files = [self.path(name) for name in self.all() if name not in referenced]
        for file in [*files, *self.folder.glob(".new-*")]:
            try:
                if file.stat().st_mtime < horizon:
                    file.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed


def hash_file(file: Path) -> str:
    """The SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
