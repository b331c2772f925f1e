"""tiltyard.toml: what a folder submits, read and checked; or what a folder of 2018 says instead."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from bench.errors import UserError

from . import manifest_2018
from .schemas import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
KEYS = ("kind", "name", "track", "command")
MANIFEST = "tiltyard.toml"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?")


@dataclass(frozen=True)
class Manifest:
    """What tiltyard.toml says, checked.

    ``command`` is run in the folder; ``track`` is known here and takes entries of this ``kind``.
    ``of_2018``: the folder has a crowdai.json instead.
    """

    folder: Path
    kind: Kind
    name: str
    track: str
    command: tuple[str, ...]
    of_2018: bool = False


def read_manifest(directory: Path, track: str | None = None) -> Manifest:
    """Read and check tiltyard.toml, or crowdai.json where there is only that.

    Args:
        track: instead of the one that the folder names.

    Raises:
        UserError: what was got, what was wanted, and the mend.
    """
    path = directory / MANIFEST
    if not path.is_file() and manifest_2018.is_layout(directory):
        return _read_2018(directory, track)
    if not path.is_file():
        what = "has no " + MANIFEST if directory.is_dir() else "is no folder"
        raise UserError(f"{directory} {what}; `tiltyard new model DIR` makes a folder with one")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}") from error
    _check_keys(path, "table", document, ("submission",))
    table = document.get("submission")
    if not isinstance(table, dict):
        raise UserError(f"{path} has no [submission]; wanted one with {', '.join(KEYS)}")
    _check_keys(path, "key of [submission]", table, KEYS)
    missing = [key for key in KEYS if key not in table]
    if missing:
        raise UserError(f"{path}: [submission] lacks {', '.join(missing)}")
    kind = check_kind(_text(path, table, "kind"), f"{path}: ")
    name = _text(path, table, "name")
    check_name(name, f"{path}: ")
    track = track or _text(path, table, "track")
    _check_track(path, track, kind)
    return Manifest(directory, kind, name, track, _command(path, table["command"]))


def _read_2018(directory: Path, track: str | None) -> Manifest:
    path = directory / manifest_2018.CROWDAI
    kind = check_kind(manifest_2018.kind(directory), f"{path}: ")
    track = track or manifest_2018.track(directory, kind)
    _check_track(path, track, kind)
    name = slug(directory.resolve().name) or "entry-of-2018"
    return Manifest(directory, kind, name, track, manifest_2018.COMMAND, of_2018=True)


def check_kind(kind: str, where: str = "") -> Kind:
    """Give the kind of a submission back; UserError, with the near one, when it is none."""
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(KINDS)}"
        raise UserError(f"{where}no kind of submission is called {kind!r}; {hint}")
    return kind


def check_name(name: str, where: str = "") -> None:
    """Raise UserError unless it can name a submission."""
    if not NAME.fullmatch(name):
        near = slug(name)
        hint = f", such as {near!r}" if near else ""
        raise UserError(
            f"{where}got the name {name!r}, wanted up to 60 of a-z, 0-9 and dashes between{hint}"
        )


def _check_keys(path: Path, what: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise UserError(f"{path} has the unknown {what} {key!r}; {hint}")


def _check_track(path: Path, name: str, kind: Kind) -> None:
    from bench.plugins import load_track, tracks

    try:
        track = load_track(name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if track.kind != kind:
        fitting = ", ".join(track.name for track in tracks() if track.kind == kind)
        raise UserError(
            f"{path}: the track {name} takes kind = {track.kind!r}, got {kind!r}; "
            f"tracks for that: {fitting or 'none'}"
        )


def _text(path: Path, table: Mapping[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value:
        raise UserError(f'{path}: {key} is {value!r}, wanted a text, such as {key} = "..."')
    return value


def _command(path: Path, value: Any) -> tuple[str, ...]:
    words = isinstance(value, list) and all(isinstance(word, str) and word for word in value)
    if not words or not value:
        raise UserError(
            f'{path}: command is {value!r}, wanted a list of words: ["python3", "model.py"]'
        )
    for word in value:
        if word.endswith(".py") and not (path.parent / word).is_file():
            raise UserError(f"{path}: command names {word}, which is not in {path.parent}")
    return tuple(value)


def slug(text: str) -> str:
    """The nearest text that can name a submission; "" where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")
