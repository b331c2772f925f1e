"""Reading archives that nobody trusts: caps on sizes, counts and ratios while the bytes pass."""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from .errors import PackageRefused

MIB = 1 << 20
CHUNK = 1 << 20

HEADER_BYTES = 1 << 20
"""tarfile reads a long-name or pax header as a whole into memory: such a read is refused above."""

RATIO = 200
"""Unpacked to packed bytes; honest layers stay below 20."""

FREE_BYTES = 64 * MIB
"""Up to here the ratio does not matter: a small file of zeros packs well."""

GZIP = b"\x1f\x8b"
OTHERS = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}


class Capped:
    """A readable, forward-only view of a stream that refuses to give more than it may.

    Args:
        source: what is read.
        most: bytes in all.
        packed: the size before unpacking, for the ratio; None where there was none.
    """

    def __init__(self, source: IO[bytes], most: int, packed: int | None = None) -> None:
        self._source = source
        self._most = most
        self._packed = packed
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > HEADER_BYTES:
            raise PackageRefused(
                f"the archive has a header of {size} bytes", "pack it with ordinary tools"
            )
        return self._take(size)

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or position < self._at:
            raise PackageRefused("the archive is malformed", "pack it with ordinary tools")
        while self._at < position and self._take(min(CHUNK, position - self._at)):
            pass
        return self._at

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        self._at += len(data)
        if self._at > self._most:
            raise PackageRefused(
                f"it unpacks to more than {self._most // MIB} MiB",
                "make it smaller: fewer packages, smaller weights, a slimmer base image",
            )
        if self._packed is not None and self._at > FREE_BYTES and self._at > RATIO * self._packed:
            raise PackageRefused(
                f"it unpacks to more than {RATIO} times its packed size",
                "leave out large files of zeros",
            )
        return data


@contextmanager
def plain_tar(path: Path, most: int) -> Iterator[BinaryIO]:
    """The file itself, or what its gzip holds, as a file that can be read at any place."""
    packed = path.stat().st_size
    if packed > most:
        raise PackageRefused(
            f"the file has {packed // MIB} MiB, the track takes {most // MIB} MiB",
            "make it smaller: fewer packages, smaller weights, a slimmer base image",
        )
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if not start.startswith(GZIP):
            for mark, name in OTHERS.items():
                if start.startswith(mark):
                    raise PackageRefused(
                        f"the file is packed with {name}", "send a plain tar or a .tar.gz"
                    )
            yield cast(BinaryIO, file)
            return
        with tempfile.TemporaryFile() as unpacked:
            reader = Capped(cast("IO[bytes]", gzip.GzipFile(fileobj=file)), most, packed)
            try:
                while data := reader.read(CHUNK):
                    unpacked.write(data)
            except (OSError, EOFError) as error:
                raise PackageRefused(f"the gzip is damaged: {error}", "send it again") from error
            unpacked.seek(0)
            yield cast(BinaryIO, unpacked)


class Bounded:
    """A file that can be read at any place, in pieces of at most HEADER_BYTES."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > HEADER_BYTES:
            raise PackageRefused(
                f"the archive has a header of {size} bytes", "pack it with ordinary tools"
            )
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(position, whence)


@contextmanager
def tar(stream: Capped | Bounded) -> Iterator[tarfile.TarFile]:
    """The stream as a tar archive."""
    try:
        archive = tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:")  # noqa: SIM115
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PackageRefused(f"it is not a tar archive ({error})", "send it again") from error
    with archive:
        yield archive


def members(archive: tarfile.TarFile, most: int) -> Iterator[tarfile.TarInfo]:
    """The members, at most so many; a damaged archive is refused. Memory stays flat."""
    count = 0
    while True:
        try:
            member = archive.next()
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise PackageRefused(f"the archive is damaged: {error}", "send it again") from error
        if member is None:
            return
        count += 1
        if count > most:
            raise PackageRefused(
                f"the archive has more than {most} files", "leave out what is not needed"
            )
        archive.members = []  # type: ignore[attr-defined]  # tarfile keeps them all
        yield member


def escapes(name: str) -> bool:
    """Whether a member's name leads out of the folder that it is unpacked into."""
    return name.startswith("/") or ".." in name.split("/")
