"""A submission's folder: made from a template, read and checked, packed or built into an image.

The kit and its templates are data here: they are copied, never imported.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.errors import UserError

from . import manifest_2018
from .manifest import MANIFEST, Manifest, check_kind, check_name, read_manifest, slug

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = [
    "Manifest",
    "build_image",
    "docker_client",
    "image_tag",
    "new",
    "read_manifest",
    "save_image",
    "source_package",
    "submission_files",
]

Report = Callable[[str], None]
Origin = Path | bytes
"""A file of a package: one of the folder's, or the content of one that is made."""

KIT = Path(__file__).resolve().parent.parent / "kit"
REPOSITORY = "tiltyard/submission"
MIB = 1 << 20
BUILD_SECONDS = 1800  # between two lines of a build's output

LEFT_OUT = {"venv", "node_modules", "__pycache__", "__MACOSX", "Thumbs.db"}
"""Names that are no part of a submission, besides hidden ones and compiled Python."""


def new(
    kind: str, directory: Path, name: str | None = None, *, template: str = "numpy"
) -> list[Path]:
    """Write a submission that runs, with its own copy of the kit; returns the files written.

    Args:
        name: of the submission; the folder's name by default.
        template: what it is written with: "numpy", "pytorch" (models) or "foolbox" (attacks).

    Raises:
        UserError: an unknown kind or template, a name that can't be one, or a folder that is not
            empty.
    """
    checked = check_kind(kind)
    source = _template(checked, template)
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise UserError(f"{directory} exists and is not an empty folder; name one that is new")
    name = slug(directory.resolve().name) if name is None else name
    check_name(name)
    files = _contents(source) | _kit()
    manifest = files[MANIFEST].read_text(encoding="utf-8")
    for path, origin in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(origin.read_bytes())
    filled = re.sub(r'(?m)^name = ".*"$', f'name = "{name}"', manifest)
    (directory / MANIFEST).write_text(filled, encoding="utf-8")
    return [directory / path for path in files]


def _template(kind: str, template: str) -> Path:
    stem = kind.replace("-", "_")
    folders = {path.name: path for path in (KIT / "templates").iterdir() if path.is_dir()}
    of_kind = {"numpy": folders[stem]} | {
        name.removeprefix(f"{stem}_"): path
        for name, path in folders.items()
        if name.startswith(f"{stem}_")
    }
    if template not in of_kind:
        raise UserError(
            f"there is no template {template!r} for a {kind}; there are: {', '.join(of_kind)}"
        )
    return of_kind[template]


def source_package(directory: Path, out: Path, track: str | None = None) -> Path:
    """Pack a checked folder as .tar.gz: the same bytes for the same files; the kit is added.

    For servers with the process sandbox. Returns ``out``. ``track``: see `read_manifest`.

    Raises:
        UserError: a bad manifest, a link in the folder, or more than the track's image_mib.
    """
    files = submission_files(read_manifest(directory, track))
    with _written(out) as file, gzip.GzipFile("", "wb", 6, fileobj=file, mtime=0) as packed:
        _write_tar(cast("io.BufferedIOBase", packed), files)
    return out


def build_image(
    directory: Path, tag: str | None = None, report: Report = print, track: str | None = None
) -> str:
    """Build the folder's Dockerfile on this machine; returns the image's id, "sha256:...".

    Args:
        tag: ``image_tag(directory)`` by default.
        report: gets the lines of the build, one at a time.
        track: see `read_manifest`.

    Raises:
        UserError: a bad manifest, no Dockerfile, no Docker, or a build that fails.
    """
    manifest = read_manifest(directory, track)
    files = submission_files(manifest)
    if "Dockerfile" not in files:
        if manifest.of_2018:
            raise manifest_2018.no_dockerfile(directory)
        raise UserError(
            f"{directory} has no Dockerfile; `tiltyard new {manifest.kind} DIR` makes one to copy"
        )
    context = io.BytesIO()
    _write_tar(context, files)
    context.seek(0)
    tag = image_tag(directory, track) if tag is None else tag
    lines: list[str] = []
    with docker_client() as client:
        steps = client.api.build(
            fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, decode=True
        )
        with _docker_errors("the image was not built"):
            for step in steps:
                for line in str(step.get("stream") or step.get("status") or "").splitlines():
                    if line.strip():
                        lines.append(line.rstrip())
                        report(lines[-1])
                if "error" in step:
                    shown = "\n".join(lines[-12:])
                    raise UserError(f"the image was not built: {step['error']}\n{shown}")
            return str(client.images.get(tag).id)


def save_image(tag: str, out: Path) -> Path:
    """Write what `docker save TAG` writes; returns ``out``.

    Raises:
        UserError: no Docker, or no image of that name.
    """
    with docker_client() as client, _docker_errors(f"{tag} could not be saved"):
        client.images.get(tag)
        with _written(out) as file:
            for part in client.api.get_image(tag):
                file.write(part)
    return out


def image_tag(directory: Path, track: str | None = None) -> str:
    """``tiltyard/submission:<name>-<hash of the files>``."""
    manifest = read_manifest(directory, track)
    digest = hashlib.sha256()
    for path, origin in submission_files(manifest).items():
        content = hashlib.sha256(_bytes(origin)).hexdigest()
        digest.update(f"{path}\0{content}\0".encode())
    return f"{REPOSITORY}:{manifest.name}-{digest.hexdigest()[:12]}"


def submission_files(manifest: Manifest) -> dict[str, Origin]:
    """What is submitted: {path in the package: file here}, sorted; the kit added if need be.

    A folder of 2018 gets no kit but what the server of 2018 knew by itself: the command.

    Raises:
        UserError: a link in the folder, or more bytes than the track takes.
    """
    from bench.plugins import load_track

    files: dict[str, Origin] = dict(_contents(manifest.folder))
    if manifest.of_2018:
        files[MANIFEST] = manifest_2018.source_config()
        if "Dockerfile" in files:
            files["Dockerfile"] = manifest_2018.with_command(_bytes(files["Dockerfile"]))
        files = dict(sorted(files.items()))
    elif not any(path.startswith("kit/") for path in files):
        files = dict(sorted({**files, **_kit()}.items()))
    most = load_track(manifest.track).limits.image_mib
    size = sum(_size(origin) for origin in files.values())
    if size > most * MIB:
        largest = max(files, key=lambda path: _size(files[path]))
        raise UserError(
            f"{manifest.folder} has {size // MIB} MiB, {manifest.track} takes {most} MiB at most; "
            f"the largest file is {largest}"
        )
    return files


@contextlib.contextmanager
def docker_client() -> Iterator[DockerClient]:
    """The local engine. Raises UserError with the mend when it does not answer."""
    import docker

    mend = "start Docker, or submit to a server that takes source packages"
    with contextlib.ExitStack() as stack:
        with _docker_errors("Docker does not answer", mend):
            client = docker.from_env(timeout=BUILD_SECONDS)
            stack.callback(client.close)
            client.ping()
        yield client


@contextlib.contextmanager
def _docker_errors(what: str, mend: str = "") -> Iterator[None]:
    import docker.errors
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise UserError(f"{what}: {error}{'; ' * bool(mend)}{mend}") from error


@contextlib.contextmanager
def _written(out: Path) -> Iterator[io.BufferedWriter]:
    """A file that is there as a whole or not at all."""
    partial = out.with_name(out.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _write_tar(file: io.BufferedIOBase, files: Mapping[str, Origin]) -> None:
    """Owner, times and order say nothing, so that the same files give the same bytes."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, origin in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = _size(origin), 0o644
            if isinstance(origin, bytes):
                archive.addfile(info, io.BytesIO(origin))
                continue
            if origin.stat().st_mode & 0o100:
                info.mode = 0o755
            with origin.open("rb") as content:
                archive.addfile(info, content)


def _size(origin: Origin) -> int:
    return len(origin) if isinstance(origin, bytes) else origin.stat().st_size


def _bytes(origin: Origin) -> bytes:
    return origin if isinstance(origin, bytes) else origin.read_bytes()


def _contents(folder: Path) -> dict[str, Path]:
    files = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    return dict(sorted(files.items()))


def _walk(folder: Path) -> Iterable[Path]:
    for path in folder.iterdir():
        if path.name in LEFT_OUT or path.name.startswith(".") or path.suffix == ".pyc":
            continue
        if path.is_symlink():
            raise UserError(f"{path} is a link, and a package holds files only; copy what it names")
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield path
        else:
            raise UserError(f"{path} is neither a file nor a folder; take it out")


def _kit() -> dict[str, Path]:
    files = sorted([*KIT.glob("*.py"), KIT / "py.typed"])
    return {f"kit/{path.name}": path for path in files}
