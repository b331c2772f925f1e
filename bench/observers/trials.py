"""A table of trials: who saw what and answered what (arXiv 1808.08750, section 2.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

MISSING = "na"
"""No answer within 1.5 s: wrong in accuracies, left out of entropies and error patterns."""

FIELDS = ("experiment", "observer", "session", "trial", "answer", "category", "condition", "image")

HEADER = {
    "experiment": ("experiment", "dataset"),
    "observer": ("subj",),
    "session": ("session", "Session"),
    "trial": ("trial",),
    "answer": ("object_response",),
    "category": ("category",),
    "condition": ("condition",),
    "image": ("imagename",),
}
"""What the columns are called in the published files."""

AT_ONCE = 50_000
"""Rows that are split together."""


@dataclass(frozen=True, eq=False)
class Column:
    """Texts, each stored once.

    Attributes:
        names: those that occur, sorted.
        codes: int32 (N,), places in `names`.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]

    def equals(self, name: str) -> NDArray[np.bool_]:
        """(N,): where it is this one; nowhere if it never occurs."""
        return np.equal(self.codes, self.names.index(name) if name in self.names else -1)

    def texts(self) -> NDArray[np.str_]:
        """(N,)."""
        return np.array(self.names)[self.codes]

    def take(self, rows: NDArray[np.bool_]) -> Column:
        """Of some rows, with the names that occur there."""
        codes = self.codes[rows]
        used, again = np.unique(codes, return_inverse=True)
        return Column(tuple(self.names[k] for k in used), again.astype(np.int32))


@dataclass(frozen=True, kw_only=True, eq=False)
class Trials:
    """N trials, a column for each fact.

    Attributes:
        experiment: such as "noise"; in model-vs-human the data set, such as "uniform-noise".
        observer: "subject-01" or a network's name.
        session: its number.
        answer: a category, or "na" where none was given in time.
        category: the right one.
        condition: the distortion's level, numbers in one way of writing ("0.1", "inf").
        image: what observers saw, without who saw it and when, so that the same image reads alike.
    """

    experiment: Column
    observer: Column
    session: Column
    answer: Column
    category: Column
    condition: Column
    image: Column

    def __len__(self) -> int:
        return len(self.experiment.codes)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,): whether the answer is the category; a missing one isn't."""
        place = {name: code for code, name in enumerate(self.answer.names)}
        as_answer = np.array([place.get(name, -1) for name in self.category.names])
        return np.asarray(self.answer.codes == as_answer[self.category.codes])

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(N,): whether there is an answer."""
        return ~self.answer.equals(MISSING)

    def where(self, **names: str) -> Trials:
        """The trials whose columns hold these names, such as experiment="noise"."""
        rows = np.ones(len(self), bool)
        for column, name in names.items():
            found: Column = getattr(self, column)
            rows &= found.equals(name)
        return self.select(rows)

    def select(self, rows: NDArray[np.bool_]) -> Trials:
        """Those of some rows (N,)."""
        return Trials(**{name: getattr(self, name).take(rows) for name in COLUMNS})


COLUMNS = ("experiment", "observer", "session", "answer", "category", "condition", "image")


def parse(files: Iterable[tuple[str, str | None]], *, source: str) -> tuple[Trials, str]:
    """Read csv texts and compute their fingerprint.

    Args:
        files: (text, experiment) pairs; the experiment where no column holds it.
        source: named in errors.

    Returns:
        the trials in the order read; sha256 over the sorted rows of `FIELDS`, which is the same
        however the rows were distributed over files.

    Raises:
        UserError: a column is missing, or a row is cut off.
    """
    coded: dict[str, dict[str, int]] = {name: {} for name in COLUMNS}
    codes: dict[str, list[NDArray[np.int32]]] = {name: [] for name in COLUMNS}
    canonical: list[str] = []
    for text, experiment in files:
        for block in _blocks(text, experiment, source):
            canonical += map(",".join, zip(*block, strict=True))
            facts = dict(zip(FIELDS, block, strict=True))
            facts["image"] = [_shown(image) for image in facts["image"]]
            for name in COLUMNS:
                known = coded[name]
                found = [known.setdefault(value, len(known)) for value in facts[name]]
                codes[name].append(np.array(found, np.int32))
    if not canonical:
        raise UserError(f"{source} holds no trials")
    digest = hashlib.sha256()
    for row in sorted(canonical):
        digest.update(row.encode() + b"\n")
    columns = {name: _sorted(coded[name], np.concatenate(codes[name])) for name in COLUMNS}
    return Trials(**columns), digest.hexdigest()


def number(text: str) -> str:
    """A condition in one way of writing: "0.10" and "0.1" are "0.1", "Inf" is "inf"."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text


def _blocks(text: str, experiment: str | None, source: str) -> Iterator[list[Sequence[str]]]:
    """Rows of a csv, a column at a time in the order of `FIELDS`."""
    lines = text.splitlines()
    header = lines[0].split(",") if lines else []
    places: list[int | None] = []
    for field in FIELDS:
        place = next((header.index(name) for name in HEADER[field] if name in header), None)
        if place is None and not (field == "experiment" and experiment is not None):
            raise UserError(
                f"{source} has no column {HEADER[field][0]!r}; it has {', '.join(header)[:200]}"
            )
        places.append(place)
    for start in range(1, len(lines), AT_ONCE):
        rows = [line.split(",") for line in lines[start : start + AT_ONCE] if line]
        if any(len(row) != len(header) for row in rows):
            raise UserError(f"{source} has a row that is cut off; wanted {len(header)} values")
        if not rows:
            continue
        columns = list(zip(*rows, strict=True))
        block: list[Sequence[str]] = [
            [str(experiment)] * len(rows) if place is None else columns[place] for place in places
        ]
        condition = FIELDS.index("condition")
        written = {value: number(value) for value in set(block[condition])}
        block[condition] = [written[value] for value in block[condition]]
        yield block


def _shown(image: str) -> str:
    """0001_nse_s01_0.03_elephant_10_n02504458_7209.png: what comes after the observer."""
    return image.split("_", 3)[-1]


def _sorted(known: dict[str, int], codes: NDArray[np.int32]) -> Column:
    names = sorted(known)
    order = np.empty(len(names), np.int32)
    for place, name in enumerate(names):
        order[known[name]] = place
    return Column(tuple(names), order[codes])
