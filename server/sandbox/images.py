"""`docker save` tarballs: checked before the engine sees them, and rewritten on the way in.

Of an upload only the config and the layers reach the engine, under names and a tag of ours: its own
tags (which could be `debian:bookworm-slim` or our gateway's) never do.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from .errors import PackageRefused
from .streams import CHUNK, GZIP, MIB, OTHERS, Bounded, Capped, escapes, members, plain_tar, tar

LAYERS = 127
"""The engine's own limit."""
OUTER_MEMBERS = 4096
LAYER_MEMBERS = 500_000
JSON_BYTES = MIB
REPOSITORY = "tiltyard/entry"

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """What a tarball holds.

    Attributes:
        digest: of the config: Docker's image id.
        config: as the engine will read it.
        architecture: "amd64", "arm64", ...
        unpacked: bytes of all files in all layers.
    """

    digest: str
    architecture: str
    unpacked: int

    @property
    def tag(self) -> str:
        """Where it is found once loaded."""
        return tag(self.digest)


def tag(digest: str) -> str:
    """The engine's name of the image with this digest."""
    return f"{REPOSITORY}:{digest.removeprefix('sha256:')}"


def check(path: Path, image_mib: int) -> Image:
    """Check a tarball without unpacking it to disk.

    Raises:
        PackageRefused: with the reason and the mend.
    """
    with plain_tar(path, image_mib * MIB) as file:
        contents = _Contents(file)
        unpacked = entries = 0
        for name in sorted(set(contents.layers)):
            size, count = _check_layer(contents, name, image_mib * MIB - unpacked)
            unpacked, entries = unpacked + size, entries + count
            if entries > LAYER_MEMBERS:
                raise _refused(f"the layers hold more than {LAYER_MEMBERS} files")
        return Image(contents.digest, contents.architecture, unpacked)


def rewritten(path: Path, image_mib: int) -> Iterator[bytes]:
    """The tarball for the engine: our manifest with our tag, the config, the layers."""
    with plain_tar(path, image_mib * MIB) as file:
        contents = _Contents(file)
        hexadecimal = contents.digest.removeprefix("sha256:")
        names = {
            name: f"layer-{number:03}.tar"
            for number, name in enumerate(dict.fromkeys(contents.layers))
        }
        manifest = {
            "Config": f"{hexadecimal}.json",
            "RepoTags": [tag(contents.digest)],
            "Layers": [names[name] for name in contents.layers],
        }
        yield from _member(f"{hexadecimal}.json", contents.config)
        for name, ours in names.items():
            source, size = contents.open(name)
            yield _header(ours, size)
            left = size
            while left and (data := source.read(min(CHUNK, left))):
                left -= len(data)
                yield data
            yield b"\0" * (-size % tarfile.BLOCKSIZE)
        yield from _member("manifest.json", json.dumps([manifest]).encode())
        yield b"\0" * (2 * tarfile.BLOCKSIZE)


class _Contents:
    """The outer archive: where each member is, the manifest and the config."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._scan()
        if "manifest.json" not in self._places:
            if any(posixpath.basename(name) == "tiltyard.toml" for name in self._places):
                raise _refused(
                    "it is a source package, and this server never builds a submission",
                    "send an image: `tiltyard submit DIR` builds it where Docker is installed",
                )
            raise _refused("it has no manifest.json, so it is not the output of `docker save`")
        manifest = self._json("manifest.json")
        if not isinstance(manifest, list) or len(manifest) != 1:
            raise _refused("it holds several images", "save exactly one: `docker save NAME`")
        entry = manifest[0] if isinstance(manifest[0], dict) else {}
        self.layers = [self._resolve(name) for name in _strings(entry.get("Layers"))]
        self.config = self._small(self._resolve(str(entry.get("Config"))))
        self.digest = f"sha256:{hashlib.sha256(self.config).hexdigest()}"
        self.architecture = self._check_config()

    def open(self, name: str) -> tuple[IO[bytes], int]:
        """A member's bytes and their number."""
        offset, size = self._places[name]
        self._file.seek(offset)
        return cast("IO[bytes]", self._file), size

    def _scan(self) -> None:
        with tar(Bounded(self._file)) as archive:
            for member in members(archive, OUTER_MEMBERS):
                name = posixpath.normpath(member.name)
                if escapes(member.name):
                    raise _refused(f"it holds the path {member.name!r}, which leads outside")
                if member.issym():
                    link = posixpath.normpath(
                        posixpath.join(posixpath.dirname(name), member.linkname)
                    )
                    if escapes(link):
                        raise _refused(f"it holds a link to {member.linkname!r}, outside of it")
                    self._links[name] = link
                elif member.isfile() and not member.issparse():
                    self._places[name] = (member.offset_data, member.size)
                elif not member.isdir():
                    raise _refused(f"it holds {name!r}, which is neither a file nor a folder")

    def _resolve(self, name: str) -> str:
        found = posixpath.normpath(name)
        found = self._links.get(found, found)
        if found not in self._places:
            raise _refused(f"its manifest names {name[:80]!r}, which is not in it")
        return found

    def _small(self, name: str) -> bytes:
        source, size = self.open(name)
        if size > JSON_BYTES:
            raise _refused(f"{name} has {size} bytes, wanted {JSON_BYTES} at most")
        return source.read(size)

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._small(name))
        except (ValueError, RecursionError) as error:
            raise _refused(f"{name} is not JSON") from error

    def _check_config(self) -> str:
        try:
            config = json.loads(self.config)
            layers = config["rootfs"]["diff_ids"]
            system, architecture = config["os"], config["architecture"]
            command = config["config"].get("Entrypoint") or config["config"].get("Cmd")
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise _refused("its config is not that of a Docker image") from error
        if len(layers) != len(self.layers) or len(layers) > LAYERS:
            raise _refused(
                f"it has {len(self.layers)} layers and its config names {len(layers)}; "
                f"wanted the same number, {LAYERS} at most"
            )
        if system != "linux":
            raise _refused(f"it is an image for {system}", "build for linux")
        if not command:
            raise _refused(
                "it names no command to run", 'end the Dockerfile with CMD ["python3", "model.py"]'
            )
        return str(architecture)


def _check_layer(contents: _Contents, name: str, most: int) -> tuple[int, int]:
    """Bytes and number of the files in a layer."""
    source, size = contents.open(name)
    start = source.read(6)
    source, size = contents.open(name)
    for mark, kind in OTHERS.items():
        if start.startswith(mark):
            raise _refused(f"a layer is packed with {kind}", "save it with a current Docker")
    window = _Window(source, size)
    packed = size if start.startswith(GZIP) else None
    inner = gzip.GzipFile(fileobj=window) if packed is not None else window
    stream = Capped(cast("IO[bytes]", inner), most + MIB, packed)
    total = count = 0
    with tar(stream) as archive:
        for member in members(archive, LAYER_MEMBERS):
            if ".." in member.name.split("/"):
                raise _refused(f"a layer holds the path {member.name!r}, which leads outside")
            count += 1
            total += member.size if member.isfile() else 0
            if total > most:
                raise _refused(
                    "its layers unpack to more than the track takes",
                    "make it smaller: fewer packages, smaller weights, a slimmer base image",
                )
    return total, count


class _Window(io.RawIOBase):
    """The next `size` bytes of a file, and no more."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source = source
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data + b"\0" * (-len(data) % tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _refused("its manifest is not that of `docker save`")
    return value


def _refused(reason: str, mend: str = "make it with `docker save NAME`") -> PackageRefused:
    return PackageRefused(f"the image can't be taken: {reason}", mend)
