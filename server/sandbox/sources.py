"""Source packages: the .tar.gz of a submission's folder. For the process sandbox only."""

from __future__ import annotations

import hashlib
import posixpath
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import PackageRefused
from .streams import CHUNK, MIB, Bounded, escapes, members, plain_tar, tar

FILES = 20_000
CONFIG = "tiltyard.toml"
CONFIG_BYTES = 65536


@dataclass(frozen=True)
class Source:
    """What a source package holds.

    Attributes:
        digest: of the files' names, modes and contents, whoever packed them in whatever order.
        command: what is run, in the folder.
        unpacked: bytes of all files.
    """

    digest: str
    command: tuple[str, ...]
    unpacked: int


def check(path: Path, image_mib: int) -> Source:
    """Check a source package without unpacking it.

    Raises:
        PackageRefused: with the reason and the mend.
    """
    files: dict[str, str] = {}
    total = 0
    config: bytes | None = None
    with _opened(path, image_mib) as (archive, top):
        for member in members(archive, FILES):
            name = _name(member, top)
            if name is None:
                continue
            total += member.size
            if total > image_mib * MIB:
                raise _refused(f"its files have more than {image_mib} MiB together")
            reader = archive.extractfile(member)
            assert reader is not None
            digest = hashlib.sha256()
            while data := reader.read(CHUNK):
                digest.update(data)
                if name == CONFIG and member.size <= CONFIG_BYTES:
                    config = data
            files[name] = f"{'x' if member.mode & 0o100 else '-'} {digest.hexdigest()}"
    if config is None:
        what = (
            "it is a Docker image, and this server runs source packages only"
            if "manifest.json" in files
            else f"it has no {CONFIG}"
        )
        raise _refused(what)
    whole = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    return Source(f"sha256:{whole}", _command(config), total)


def unpack(path: Path, image_mib: int, target: Path) -> None:
    """Unpack a checked package into a new folder; all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix="."))
    try:
        with _opened(path, image_mib) as (archive, top):
            for member in members(archive, FILES):
                name = _name(member, top)
                if name is not None:
                    member.name = name
                    archive.extract(member, partial, set_attrs=True, filter="data")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():  # unless somebody else was faster
            raise


def command(folder: Path) -> tuple[str, ...]:
    """The command of an unpacked package."""
    return _command((folder / CONFIG).read_bytes())


@contextmanager
def _opened(path: Path, image_mib: int) -> Iterator[tuple[tarfile.TarFile, str]]:
    """The archive at its start, and the one folder that everything is in ("" if there is none)."""
    with plain_tar(path, image_mib * MIB) as file:
        top: str | None = None
        with tar(Bounded(file)) as archive:
            for member in members(archive, FILES):
                if escapes(member.name):
                    raise _refused(f"it holds the path {member.name!r}, which leads outside")
                if not (member.isfile() or member.isdir()) or member.issparse():
                    raise _refused(f"it holds {member.name!r}, neither a plain file nor a folder")
                name = posixpath.normpath(member.name)
                first, slash, _ = name.partition("/")
                if name != "." and (member.isfile() or slash):
                    inside = first if slash else ""
                    top = inside if top in (None, inside) else ""
        file.seek(0)
        with tar(Bounded(file)) as archive:
            yield archive, top or ""


def _name(member: tarfile.TarInfo, top: str) -> str | None:
    """A file's path in the folder, None for folders."""
    if not member.isfile():
        return None
    name = posixpath.normpath(member.name)
    return posixpath.relpath(name, top) if top else name


def _command(config: bytes) -> tuple[str, ...]:
    try:
        loaded: dict[str, Any] = tomllib.loads(config.decode())
        found = loaded["submission"]["command"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _refused(f"{CONFIG} can't be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise _refused(f"{CONFIG} has no [submission] with a command") from error
    words = isinstance(found, list) and found and all(isinstance(word, str) for word in found)
    if not words or not all(found):
        raise _refused(f'{CONFIG} says command = {found!r}, wanted such as ["python3", "model.py"]')
    return tuple(found)


def _refused(reason: str) -> PackageRefused:
    return PackageRefused(
        f"the package can't be taken: {reason}",
        "make it with `tiltyard submit DIR`, from a folder that `tiltyard new` made",
    )
