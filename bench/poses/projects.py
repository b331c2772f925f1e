"""Labelled frames of a project in DeepLabCut's layout (arXiv 1804.03142).

`config.yaml` names scorer and body parts; each folder in `labeled-data` has pictures and
`CollectedData_SCORER.csv`, with three lines of header (scorer, bodyparts, coords) and a line for
each picture. The picture's path is one column, or three as newer versions write it; an empty
coordinate is a joint that was not seen.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError

HEADER = ("scorer", "bodyparts", "coords")


@dataclass(frozen=True)
class Frames:
    """Pictures and where their joints are.

    Attributes:
        parts: names of the body parts, in the file's order.
        pictures: paths, in the order of folders and lines.
        joints: for each picture and part x and y in its pixels, nan where not seen.
    """

    parts: tuple[str, ...]
    pictures: tuple[Path, ...]
    joints: tuple[tuple[tuple[float, float], ...], ...]


def read_project(folder: Path) -> Frames:
    """All labelled frames of the project in `folder`.

    Raises `UserError` for a missing or damaged file, several animals in a frame, parts that differ
    between folders, and a picture that isn't there; each says which.
    """
    config = _config(folder / "config.yaml")
    scorer = str(config.get("scorer", ""))
    name = f"CollectedData_{scorer}.csv"
    tables = sorted((folder / "labeled-data").glob(f"*/{name}"))
    if not tables:
        hdf = sorted((folder / "labeled-data").glob(f"*/CollectedData_{scorer}.h5"))
        hint = (
            f"; the labels are there as HDF5: pandas.read_hdf({str(hdf[0])!r}).to_csv(...) "
            "makes the CSV of them"
            if hdf
            else ""
        )
        raise UserError(f"there is no {name} in a folder of {folder / 'labeled-data'}{hint}")
    parts: tuple[str, ...] = ()
    pictures: list[Path] = []
    joints: list[tuple[tuple[float, float], ...]] = []
    for table in tables:
        found, rows = _table(table, folder)
        if parts and found != parts:
            raise UserError(
                f"{table} has the body parts {', '.join(found)}; the folders before it have "
                f"{', '.join(parts)}: label the same parts everywhere"
            )
        parts = found
        for picture, points in rows:
            pictures.append(picture)
            joints.append(points)
    return Frames(parts, tuple(pictures), tuple(joints))


def _config(path: Path) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"there is no {path}; wanted the folder of a DeepLabCut project, with config.yaml "
            "and labeled-data"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path} ({error}); wanted DeepLabCut's YAML") from error
    if not isinstance(read, dict) or not read.get("scorer"):
        raise UserError(f"{path} names no scorer; wanted DeepLabCut's config.yaml")
    if read.get("multianimalproject"):
        raise UserError(f"{path} is of a project with several animals; wanted one animal a frame")
    return read


def _table(
    table: Path, folder: Path
) -> tuple[tuple[str, ...], list[tuple[Path, tuple[tuple[float, float], ...]]]]:
    with table.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    if tuple(line[0] for line in lines[:3]) != HEADER:
        raise UserError(
            f"{table} begins with {', '.join(line[0] for line in lines[:3]) or 'nothing'}; "
            f"wanted lines that begin with {', '.join(HEADER)}"
        )
    first = next((i for i, cell in enumerate(lines[0]) if i and cell), len(lines[0]))
    names, axes = lines[1][first:], lines[2][first:]
    if len(names) % 2 or not names or axes != ["x", "y"] * (len(names) // 2):
        raise UserError(f"{table} has the coordinates {', '.join(axes)}; wanted x, y of each part")
    rows = []
    for number, line in enumerate(lines[3:], start=4):
        if len(line) != first + len(names):
            raise UserError(
                f"{table}, line {number}: {len(line)} columns; wanted {first + len(names)}"
            )
        picture = folder.joinpath(*"/".join(line[:first]).replace("\\", "/").split("/"))
        if not picture.is_file():
            picture = table.parent / picture.name
        if not picture.is_file():
            raise UserError(f"{table}, line {number}: there is no picture {picture}")
        rows.append((picture, _points(line[first:], f"{table}, line {number}")))
    return tuple(names[::2]), rows


def _points(cells: Sequence[str], where: str) -> tuple[tuple[float, float], ...]:
    try:
        values = [float(cell) if cell.strip() else math.nan for cell in cells]
    except ValueError as error:
        raise UserError(f"{where}: {error}; wanted pixels, or nothing where not seen") from None
    return tuple(zip(values[::2], values[1::2], strict=True))
