"""Where trials are found, fetched from and verified.

The authors publish them as many csv files in their repositories (Geirhos et al. 2018: CC BY 4.0);
an archive of a repository has no lasting checksum, so that what is verified is the content.
"""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..datasets import cache
from ..errors import UserError
from .trials import COLUMNS, Column, Trials, parse

Which = Literal["humans", "networks", "trained-networks", "model-vs-human"]

ARCHIVE = "https://codeload.github.com/{repository}/zip/refs/heads/master"
MOST_BYTES = 2**31
"""Of an archive."""


@dataclass(frozen=True)
class Source:
    """A collection of trials.

    Attributes:
        file: its name as one csv.gz.
        repository: on GitHub, where the csv files lie.
        folder: in there.
        fingerprint: sha256 of the sorted rows, see `bench.observers.trials.parse`.
        trials: how many.
    """

    file: str
    repository: str
    folder: str
    fingerprint: str
    trials: int


_FIRST = "rgeirhos/generalisation-humans-DNNs"

SOURCES: dict[Which, Source] = {
    "humans": Source(
        "geirhos2018-human-trials.csv.gz",
        _FIRST,
        "raw-data/humans",
        "87bb315dc759707e73200cb519ba2f7a5a67706b383d9aa650e503500b923222",
        82_880,
    ),
    "networks": Source(
        "geirhos2018-network-trials.csv.gz",
        _FIRST,
        "raw-data/TF",
        "28261808d894189bb9e224542d66962a1c6eeb75bd9180c39ca5c380a6e690fa",
        260_160,
    ),
    "trained-networks": Source(
        "geirhos2018-trained-network-trials.csv.gz",
        _FIRST,
        "raw-data/fine-tuning",
        "a339db505509db6a014b8eea524002deb07dbc8ca20515fc0f0d675c16df3f48",
        1_490_880,
    ),
    "model-vs-human": Source(
        "model-vs-human-trials.csv.gz",
        "bethgelab/model-vs-human",
        "raw-data",
        "1e0dce4ce63472755f85ad0d1e5772968c075e8019d46dd12fd19c654093be00",
        85_120,
    ),
}

NAME = "geirhos2018"
"""Of the folder in `$TILTYARD_DATA` and in the user's cache."""


def load(which: Which, folder: Path | None = None) -> Trials:
    """The trials of a collection, verified.

    Looked for as one csv.gz, as an unpacked repository, or as its zip archive (`REPOSITORY.zip`) in
    `folder`, in `$TILTYARD_DATA/geirhos2018` and in the user's cache folder; else downloaded there.
    What was parsed once is kept in the cache as .npz.

    Raises:
        UserError: nowhere to be had, unreadable, or not the published trials; says how to mend it.
    """
    source = SOURCES[which]
    kept = cache.cache_dir() / "datasets" / NAME / f"{which}-{source.fingerprint[:16]}.npz"
    places = [folder] if folder is not None else cache.folders(NAME)
    usable = folder is None or any(_there(path) for path in _candidates(source, places))
    if usable and (found := _from_npz(kept, source)) is not None:
        return found
    path = next((path for path in _candidates(source, places) if _there(path)), None)
    if path is None:
        if folder is not None:
            raise UserError(
                f"{folder} has no {source.file}, no {_archive(source)} and no copy of "
                f"https://github.com/{source.repository}; put one of them there"
            )
        path = places[-1] / _archive(source)
        cache.fetch([ARCHIVE.format(repository=source.repository)], path, size=MOST_BYTES)
    trials, fingerprint = parse(_texts(source, path), source=str(path))
    if fingerprint != source.fingerprint:
        raise UserError(
            f"{path} holds {len(trials)} trials with fingerprint {fingerprint[:16]}; wanted the "
            f"{source.trials} published ones, {source.fingerprint[:16]}; remove it and get it "
            f"again from https://github.com/{source.repository}"
        )
    _to_npz(kept, trials)
    return trials


def _archive(source: Source) -> str:
    return f"{source.repository.rpartition('/')[2]}.zip"


def _candidates(source: Source, places: list[Path]) -> list[Path]:
    name = source.repository.rpartition("/")[2]
    return [
        path
        for place in places
        for path in (
            place / source.file,
            place / source.folder,
            place / name / source.folder,
            place / _archive(source),
        )
    ]


def _there(path: Path) -> bool:
    """A file, or a folder of experiments: other repositories have a raw-data folder as well."""
    return path.is_file() or next(path.glob("*/*.csv"), None) is not None


def _texts(source: Source, path: Path) -> Iterator[tuple[str, str | None]]:
    """The csv texts with their experiment, where the text doesn't have it as a column."""
    try:
        if path.name.endswith(".csv.gz"):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield file.read(), None
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    inside = name.partition("/")[2]  # the archive has the repository's name on top
                    if (experiment := _experiment(source, inside)) is not None:
                        with archive.open(name) as member:
                            yield io.TextIOWrapper(member, "utf-8").read(), experiment
        else:
            for file_path in sorted(path.rglob("*.csv")):
                inside = f"{source.folder}/{file_path.relative_to(path).as_posix()}"
                if (experiment := _experiment(source, inside)) is not None:
                    yield file_path.read_text(encoding="utf-8"), experiment
    except (OSError, EOFError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"can't read {path} ({error}); remove it and get it again") from error


def _experiment(source: Source, inside: str) -> str | None:
    """The experiment of a csv file of the repository; None for files that don't belong."""
    match = re.fullmatch(re.escape(source.folder) + r"/([^/]+)/([^/]+)\.csv", inside)
    if match is None:
        return None
    experiment, name = match[1].removesuffix("-experiment"), match[2]
    human = "_subject-" in name
    wanted = source.folder.endswith("humans") or source.repository != _FIRST
    return experiment if human == wanted else None  # networks' folders hold copies of humans' files


def _to_npz(path: Path, trials: Trials) -> None:
    from models.weights import write_whole

    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for name in COLUMNS:
        column: Column = getattr(trials, name)
        arrays[f"{name}_names"] = np.array(column.names)
        arrays[f"{name}_codes"] = column.codes
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, packed.getvalue())
    except OSError:
        return  # a cache that can't be written only costs time


def _from_npz(path: Path, source: Source) -> Trials | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            columns = {
                name: Column(tuple(str(n) for n in kept[f"{name}_names"]), kept[f"{name}_codes"])
                for name in COLUMNS
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, zlib.error):
        return None  # it is made again
    trials = Trials(**columns)
    return trials if len(trials) == source.trials else None
