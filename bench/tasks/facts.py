"""What was found of a task's model: a line for each sample and condition; scores come from them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..score import Interval, finite

FACTS_FILE, HEAD_FILE = "task.jsonl", "task.json"
VERSION = 1
RESAMPLES = 1000

Kind = Literal["clean", "chance", "attack", "noise", "distortion", "smallest"]
Aggregate = Callable[[Tensor], float]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One sample under one condition.

    Attributes:
        sample: its id.
        kind: of the condition.
        surface: what was changed: scene, reference, both, or "" for nothing.
        name: the norm or the distortion; "" for neither.
        level: radius or level, as printed.
        quality: of the answer, in the measure's units; of "smallest" the radius, perhaps infinite.
        broken: whether an adversary would have what it wants.
    """

    sample: str
    kind: Kind
    surface: str
    name: str
    level: str
    quality: float
    broken: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """The score of a condition.

    Attributes:
        figure: the measure over the samples; of "smallest" the median radius.
        interval: 95 %, by resampling the samples.
        retention: (figure - chance) / (clean - chance), cut to [0, 1]; None of "smallest".
        broken: share of samples.
    """

    kind: Kind
    surface: str
    name: str
    level: str
    figure: float
    interval: Interval
    retention: float | None
    broken: float

    def to_json(self) -> dict[str, Any]:
        """With None for infinity."""
        low, high = self.interval
        return {
            **asdict(self),
            "figure": finite(self.figure),
            "interval": [finite(low), finite(high)],
        }


@dataclass(frozen=True, kw_only=True)
class Found:
    """The facts of one model on one split, and what they are facts of."""

    model: str
    task: str
    measure: str
    dataset: str
    split: str
    seed: int
    settings: dict[str, float]
    skipped: dict[str, str]
    """{distortion: why it was left out}."""
    versions: dict[str, str]
    facts: tuple[Fact, ...]
    higher_is_better: bool = True
    """Of the measure."""

    def rows(self, aggregate: Aggregate = lambda values: float(values.mean())) -> tuple[Row, ...]:
        """A score for each condition, in the order of the facts.

        `aggregate` makes one figure of qualities (N,); that of the model where it isn't the mean.
        """
        groups: dict[tuple[Kind, str, str, str], list[Fact]] = {}
        for fact in self.facts:
            groups.setdefault((fact.kind, fact.surface, fact.name, fact.level), []).append(fact)
        figures = {
            key: _median(group) if key[0] == "smallest" else aggregate(_qualities(group))
            for key, group in groups.items()
        }
        clean, chance = (figures[(kind, "", "", "")] for kind in ("clean", "chance"))
        informed = clean > chance if self.higher_is_better else clean < chance
        rows = []
        for key, group in groups.items():
            kept = None
            if key[0] != "smallest" and informed:
                kept = min(1.0, max(0.0, (figures[key] - chance) / (clean - chance)))
            rows.append(
                Row(
                    kind=key[0],
                    surface=key[1],
                    name=key[2],
                    level=key[3],
                    figure=figures[key],
                    interval=_interval(group, aggregate),
                    retention=kept,
                    broken=sum(fact.broken for fact in group) / len(group),
                )
            )
        return tuple(rows)

    def to_json(self, aggregate: Aggregate = lambda values: float(values.mean())) -> dict[str, Any]:
        """As in `tiltyard task --json`."""
        head = {key: value for key, value in vars(self).items() if key != "facts"}
        samples = len({fact.sample for fact in self.facts})
        rows = [row.to_json() for row in self.rows(aggregate)]
        return {**head, "samples": samples, "rows": rows}

    def write(self, folder: Path) -> Path:
        """As task.json and task.jsonl in the folder; returns the path of the facts."""
        from models.weights import write_whole

        head = {key: value for key, value in vars(self).items() if key != "facts"}
        lines = [
            json.dumps({**asdict(fact), "quality": finite(fact.quality)}) for fact in self.facts
        ]
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FACTS_FILE, ("\n".join(lines) + "\n").encode())
        text = json.dumps({"version": VERSION, **head}, indent=2, ensure_ascii=False) + "\n"
        write_whole(folder / HEAD_FILE, text.encode())
        return folder / FACTS_FILE

    @staticmethod
    def load(folder: Path) -> Found:
        """From a folder that `write` wrote; `UserError` where there is none, or a damaged one."""
        try:
            head = json.loads((folder / HEAD_FILE).read_text(encoding="utf-8"))
            lines = (folder / FACTS_FILE).read_text(encoding="utf-8").splitlines()
            if head.pop("version") != VERSION:
                raise ValueError("another version")
            facts = []
            for line in lines:
                read = json.loads(line)
                if read["quality"] is None:
                    read["quality"] = math.inf
                facts.append(Fact(**read))
            return Found(**head, facts=tuple(facts))
        except FileNotFoundError:
            raise UserError(
                f"there is no {folder / HEAD_FILE}; `tiltyard task --out {folder}` writes one"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"can't read the facts in {folder} ({error}); wanted what `tiltyard task` wrote"
            ) from error


def _qualities(facts: Iterable[Fact]) -> Tensor:
    return torch.tensor([fact.quality for fact in facts], dtype=torch.float64)


def _median(facts: Iterable[Fact]) -> float:
    ordered = sorted(fact.quality for fact in facts)
    return ordered[(len(ordered) - 1) // 2]


def _interval(group: list[Fact], aggregate: Aggregate) -> Interval:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(group), (RESAMPLES, len(group)))
    values = _qualities(group)
    if group[0].kind == "smallest":
        ordered = np.sort(values.numpy()[drawn], axis=1)
        figures = ordered[:, (len(group) - 1) // 2]
    else:
        figures = np.array([aggregate(values[rows]) for rows in torch.from_numpy(drawn)])
    figures.sort()
    return float(figures[int(0.025 * RESAMPLES)]), float(figures[int(0.975 * RESAMPLES) - 1])
