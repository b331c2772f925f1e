"""Where files of data sets are looked for, downloaded to, and verified.

Looked for, in this order: `$TILTYARD_DATA/<data set>/`, the folders that an installed package
owns, and the user's cache folder (`$TILTYARD_CACHE`, else `$XDG_CACHE_HOME/tiltyard`, else
`~/.cache/tiltyard`) under `datasets/<data set>/`. Nothing unverified is ever read.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import urllib.request
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import UserError

DOWNLOAD_SECONDS = 60
"""Seconds without an answer after which a mirror is given up."""


def cache_dir() -> Path:
    """The user's cache folder; it need not exist yet."""
    if own := os.environ.get("TILTYARD_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "tiltyard"
    return Path.home() / ".cache" / "tiltyard"


def folders(dataset: str, *installed: Path | str) -> list[Path]:
    """Where files of `dataset` may lie, best first; the last one is where downloads go."""
    own = os.environ.get("TILTYARD_DATA")
    first = [Path(own).expanduser() / dataset] if own else []
    return [*first, *(Path(p) for p in installed), cache_dir() / "datasets" / dataset]


def own_folder(dataset: str, what: str, hint: str) -> Path:
    """The folder of `dataset` that the user fills; `UserError` with `hint` where there is none."""
    tried = folders(dataset)
    found = next((path for path in tried if path.is_dir()), None)
    if found is None:
        raise UserError(f"there is no {what} at {' or '.join(map(str, tried))}; {hint}")
    return found


def package_folder(package: str) -> Path | None:
    """Where an installed package's files lie, found without importing it; None: not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def sha256_of(data: bytes) -> str:
    """sha256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def verified(data: bytes, sha256: str, *, source: str, mend: str) -> bytes:
    """`data` itself when its sha256 is the one wanted, else a `UserError`."""
    if (got := sha256_of(data)) != sha256:
        raise UserError(f"{source} has sha256 {got}, wanted {sha256}; {mend}")
    return data


def gunzip(path: Path, *, size: int) -> bytes:
    """The contents of a .gz file that holds `size` bytes; more than that is never unpacked."""
    try:
        with gzip.open(path) as file:
            return file.read(size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be unpacked ({error}); wanted a .gz file: delete it and try again"
        ) from error


def fetch(urls: Sequence[str], target: Path, *, size: int) -> None:
    """Download the first of `urls` that answers to `target`, which appears whole or not at all.

    More than `size` bytes are refused. Raises `UserError` that names the addresses and `target`,
    so that somebody without a network can bring the file another way.
    """
    failures: list[str] = []
    if os.environ.get("TILTYARD_OFFLINE") == "1":
        raise UserError(
            f"{target.name} is not here, and TILTYARD_OFFLINE forbids to download it; unset that, "
            f"or get it from {urls[0]} and put it at {target}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {target.parent} ({error.strerror}); "
            "set TILTYARD_CACHE to a folder that can be written"
        ) from error
    for url in urls:
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
            try:
                request = urllib.request.Request(url, headers={"User-Agent": "tiltyard"})
                with urllib.request.urlopen(request, timeout=DOWNLOAD_SECONDS) as answer:
                    body: bytes = answer.read(size + 1)
                if len(body) > size:
                    raise ValueError(f"it holds more than the {size} bytes expected")
                part.write(body)
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(target)
                return
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {error}")
            finally:
                Path(part.name).unlink(missing_ok=True)
    raise UserError(
        f"{target.name} is not here and could not be downloaded ({'; '.join(failures)}); "
        f"download it from one of these addresses and put it at {target}"
    )
