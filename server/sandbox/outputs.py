"""The files that an attack has left, read with suspicion: plain ones, few enough, small enough."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from .errors import PackageRefused
from .streams import Capped, members, tar
from .types import Files, Outputs

BLOCK = 65536
TAR_OVERHEAD = 4096
"""Headers and padding of one file in an archive."""

FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def from_folder(folder: Path, files: Files) -> Outputs:
    """Read a folder that nobody writes to any more.

    Raises:
        OSError: the folder can't be read.
    """
    found: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count >= files.most:
                refused[entry.name] = _too_many(files)
                break
            content = _read(entry.path, files)
            if isinstance(content, str):
                refused[entry.name] = content
            else:
                found[entry.name] = content
    return Outputs(found, refused)


def from_tar(chunks: Iterable[bytes], files: Files) -> Outputs:
    """Read the archive of a folder, as an engine gives it."""
    found: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    most = (files.most + 2) * (files.largest + TAR_OVERHEAD) + (1 << 20)
    stream = Capped(cast("IO[bytes]", _Stream(chunks)), most)
    try:
        with tar(stream) as archive:
            for member in members(archive, files.most + 1):  # the folder itself is one
                _, slash, name = member.name.partition("/")
                if not slash or not name:
                    continue
                if not member.isreg() or member.issparse():
                    refused[name] = "it is no plain file"
                    continue
                if member.size > files.largest:
                    refused[name] = _too_large(member.size, files)
                    continue
                reader = archive.extractfile(member)
                assert reader is not None
                parts = []
                while part := reader.read(BLOCK):
                    parts.append(part)
                found[name] = b"".join(parts)
    except PackageRefused as error:
        refused["."] = error.reason
    except (tarfile.TarError, EOFError) as error:
        refused["."] = f"the archive is damaged: {error}"
    return Outputs(found, refused)


def _read(path: str, files: Files) -> bytes | str:
    """A file's content, or why it is not read."""
    try:
        descriptor = os.open(path, FLAGS)
    except OSError as error:
        return f"it can't be opened: {error.strerror}"
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "it is no plain file"
        if status.st_size > files.largest:
            return _too_large(status.st_size, files)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(files.largest)
    finally:
        os.close(descriptor)


def _too_large(size: int, files: Files) -> str:
    return f"it has {size} bytes, wanted {files.largest} at most: one uint8 image, by numpy.save"


def _too_many(files: Files) -> str:
    return f"there are more than {files.most} files"


class _Stream(io.RawIOBase):
    """Chunks of bytes as a file that is read forwards."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        parts, wanted = [], size
        while wanted > 0:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            parts.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)
