"""How a model answers distorted images: facts first, then accuracy and entropy by level.

The facts are each image's predicted class at each level of each distortion; every figure is
computed from them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .score import Interval, wilson

if TYPE_CHECKING:
    from attacks import Model

    from .datasets import Dataset
    from .distortions import Distortion, Level

ANSWERS_FILE = "distortions.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model said of images at one level of one distortion.

    Attributes:
        distortion, title, unit: of the distortion.
        level, value: its label and number.
        predicted: class of each image, (N,).
    """

    distortion: str
    title: str
    unit: str
    level: str
    value: float
    predicted: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LevelScore:
    """Of one level.

    Attributes:
        level: its label.
        accuracy: share of images that are right, in [0,1].
        interval: 95 % of it.
        entropy: of the answers' distribution in bits; log2 of the number of classes means that all
            are given equally often, 0 that one is always given.
    """

    level: str
    accuracy: float
    interval: Interval
    entropy: float


@dataclass(frozen=True, kw_only=True)
class DistortionScore:
    """Of one distortion: its levels, and the mean accuracy over them."""

    name: str
    title: str
    unit: str
    levels: tuple[LevelScore, ...]
    mean_accuracy: float

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard distort --json`."""
        return {
            "distortion": self.name,
            "unit": self.unit,
            "mean_accuracy": self.mean_accuracy,
            "levels": [{**vars(level), "interval": list(level.interval)} for level in self.levels],
        }


@dataclass(frozen=True, kw_only=True)
class Distorted:
    """The facts of a model under distortions.

    Attributes:
        model: its specification.
        dataset, split: of the images.
        seed: of the distortions.
        classes: how many there are.
        ids, labels: of the images, (N,).
        answers: by distortion and level, in the order asked.
        skipped: {distortion: why it was not applied}.
        versions: of what was at work.
    """

    model: str
    dataset: str
    split: str
    seed: int
    classes: int
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    answers: tuple[Answers, ...]
    skipped: dict[str, str]
    versions: dict[str, str]

    def scores(self) -> tuple[DistortionScore, ...]:
        """A score for each distortion, in the order of the answers."""
        by_name: dict[str, list[Answers]] = {}
        for answers in self.answers:
            by_name.setdefault(answers.distortion, []).append(answers)
        return tuple(self._score(found) for found in by_name.values())

    @property
    def mean_accuracy(self) -> float:
        """The mean over distortions of their mean over levels: what the track ranks by."""
        return fmean(score.mean_accuracy for score in self.scores())

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard distort --json`."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            "images": len(self.labels),
            "seed": self.seed,
            "mean_accuracy": self.mean_accuracy,
            "chance": 1 / self.classes,
            "distortions": [score.to_json() for score in self.scores()],
            "skipped": self.skipped,
            "versions": self.versions,
        }

    def _score(self, found: Sequence[Answers]) -> DistortionScore:
        levels = []
        for answers in found:
            right = sum(p == t for p, t in zip(answers.predicted, self.labels, strict=True))
            levels.append(
                LevelScore(
                    level=answers.level,
                    accuracy=right / len(self.labels),
                    interval=wilson(right, len(self.labels)),
                    entropy=entropy(answers.predicted),
                )
            )
        return DistortionScore(
            name=found[0].distortion,
            title=found[0].title,
            unit=found[0].unit,
            levels=tuple(levels),
            mean_accuracy=fmean(level.accuracy for level in levels),
        )

    def write(self, folder: Path) -> Path:
        """As distortions.json in the folder, whole or not at all; returns its path."""
        from models.weights import write_whole

        answers = [{**vars(a), "value": str(a.value)} for a in self.answers]
        document = {"version": VERSION, **vars(self), "answers": answers}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ANSWERS_FILE
        write_whole(path, (json.dumps(document, ensure_ascii=False) + "\n").encode())
        return path

    @staticmethod
    def load(folder: Path) -> Distorted:
        """From a folder that `write` wrote.

        Raises:
            UserError: there is none, or it can't be read.
        """
        path = folder / ANSWERS_FILE
        if not path.is_file():
            raise UserError(f"there is no {path}; `tiltyard distort --out {folder}` writes one")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("version") != VERSION:
                raise ValueError("another version")
            answers = tuple(
                Answers(**{**a, "value": float(a["value"]), "predicted": tuple(a["predicted"])})
                for a in document.pop("answers")
            )
            ids, labels = tuple(document.pop("ids")), tuple(document.pop("labels"))
            if any(len(a.predicted) != len(labels) for a in answers) or len(ids) != len(labels):
                raise ValueError("answers are missing")
            return Distorted(ids=ids, labels=labels, answers=answers, **document)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"can't read {path} ({error}); wanted what `tiltyard distort --out` wrote"
            ) from error


def entropy(answers: Iterable[int]) -> float:
    """Shannon entropy of the distribution of the answers, in bits (1808.08750, figure 4)."""
    counts = Counter(answers)
    n = counts.total()
    return -sum(c / n * math.log2(c / n) for c in counts.values()) + 0.0


def distort(
    model: Model,
    data: Dataset,
    distortions: Sequence[Distortion],
    *,
    name: str,
    levels: Sequence[str] | None = None,
    references: Dataset | None = None,
    batch_size: int = 64,
    seed: int = 0,
    watch: Callable[[str, int, int], None] = lambda line, done, total: None,
) -> Distorted:
    """Ask the model about every image at every level.

    Args:
        model: images float32 (N,C,H,W) in [0,1] -> logits (N,K), K the classes of the data.
        data: the images, 1 or 3 channels.
        distortions: what to do to them.
        name: the model's specification, for the facts.
        levels: labels or numbers, or None for the paper's; for every distortion.
        references: images that power equalisation averages over; `data` by default.
        batch_size: images at a time.
        seed: of the random numbers; an image's are the same in any batch and at any level.
        watch: told distortion and level, and how many of all levels are done.

    Raises:
        UserError: no images, a distortion twice, an unknown level, distortions that none of these
            images can have, or a model whose images don't live in [0,1].
    """
    import torch

    from .distortions import seeds
    from .runs import versions

    if not len(data):
        raise UserError("there are no images to distort; wanted one or more")
    low, high = model.bounds
    if low > 0 or high < 1:
        raise UserError(f"{name} takes images in [{low:g}, {high:g}]; wanted all of [0, 1]")
    names = [distortion.name for distortion in distortions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{', '.join(twice)} is asked for twice; wanted each distortion once")
    grey = data.pixels.shape[-1] == 1
    skipped = {d.name: f"{data.name} has no colour" for d in distortions if d.needs_colour and grey}
    applied = [d for d in distortions if d.name not in skipped]
    if not applied:
        raise UserError(
            f"{data.name} is grey, and {' and '.join(skipped)} would leave grey images as they "
            "are; ask for another distortion, or a data set of colour images"
        )
    chosen = [(d, _levels(d, levels)) for d in applied]
    whole = (references or data).images if any(d.needs_references for d in applied) else None
    total = sum(len(found) for _, found in chosen)
    own = seeds(data.ids, seed=seed)
    answers: list[Answers] = []
    for distortion, found in chosen:
        ready = distortion
        if distortion.needs_references and whole is not None:
            ready = distortion.prepared(whole)
        for level in found:
            watch(f"{distortion.name} {level.label}".strip(), len(answers), total)
            predicted: list[int] = []
            for batch in data.batches(batch_size):
                place = slice(len(predicted), len(predicted) + len(batch.ids))
                with torch.no_grad():
                    logits = model(ready(batch.images, level.value, own[place]))
                predicted += logits.argmax(1).tolist()
            answers.append(
                Answers(
                    distortion=distortion.name,
                    title=distortion.title,
                    unit=distortion.unit,
                    level=level.label,
                    value=level.value,
                    predicted=tuple(predicted),
                )
            )
    watch("", total, total)
    return Distorted(
        model=name,
        dataset=data.name,
        split=data.split,
        seed=seed,
        classes=len(data.class_names),
        ids=data.ids,
        labels=tuple(int(label) for label in data.labels),
        answers=tuple(answers),
        skipped=skipped,
        versions=versions(),
    )


def _levels(distortion: Distortion, wanted: Sequence[str] | None) -> list[Level]:
    """The levels that are asked for: by their labels, else as numbers."""
    from .distortions import Level

    if wanted is None:
        return list(distortion.levels)
    known = {level.label: level for level in distortion.levels}
    found = []
    for text in wanted:
        if text in known:
            found.append(known[text])
            continue
        try:
            found.append(Level(text, float(text)))
        except ValueError:
            raise UserError(
                f"{distortion.name} has no level {text!r}; wanted a number, or one of "
                f"{', '.join(known)}"
            ) from None
    return found
