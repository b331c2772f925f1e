"""Plays the table of 1805.09190: every attack against every model, in processes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attacks.types import Norm

from ..score import median_interval, robust_count
from ._abs_suite import COLUMNS, NORMS, ROWS, THRESHOLD, Column, specification
from ._jobs import side_by_side
from .types import Report

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..runs import Run

BATCH = 20


@dataclass(frozen=True, kw_only=True)
class Table:
    """Distances of every image for every cell that was played.

    Attributes:
        distances: (column name, norm) -> row name -> (N,), 0 for clean errors, inf for failures.
        runs: (column name, norm) -> row name -> the folder of facts.
    """

    distances: dict[tuple[str, str], dict[str, NDArray[np.float64]]]
    runs: dict[tuple[str, str], dict[str, Run]]

    def least(self, column: str, norm: str) -> NDArray[np.float64]:
        """The smallest distance over all attacks for each image, (N,)."""
        every: NDArray[np.float64] = np.stack(list(self.distances[column, norm].values()))
        return np.asarray(every.min(axis=0))


@dataclass(frozen=True)
class _Job:
    """Every row of one norm against one model: what a process does at a time."""

    column: str
    norm: Norm
    model: str
    rows: tuple[str, ...]
    attacks: tuple[str, ...]
    dataset: str
    images: int
    seed: int
    folder: Path


def play_table(folder: Path, data: Dataset, seed: int, processes: int, report: Report) -> Table:
    images = len(data)
    jobs = [
        _job(column, norm, data.name, images, seed, folder / f"{images}-images")
        for column in reversed(COLUMNS)  # the slow ones first
        for norm in NORMS
    ]
    done: dict[tuple[str, str], dict[str, Run]] = {}
    for job, folders in side_by_side(_do, jobs, processes):
        done[job.column, job.norm] = _loaded(job, folders)
        report(f"{len(done)} of {len(jobs)}: {job.column} in {job.norm}, {len(job.rows)} attacks")
    place = {image_id: index for index, image_id in enumerate(data.ids)}
    distances = {
        key: {
            row: np.array(
                [o.distance for o in sorted(run.outcomes, key=lambda o: place[o.image_id])]
            )
            for row, run in runs.items()
        }
        for key, runs in done.items()
    }
    return Table(distances=distances, runs=done)


def _job(
    column: Column,
    norm: Norm,
    dataset: str,
    images: int,
    seed: int,
    folder: Path,
) -> _Job:
    cells = [
        (row.name, attack)
        for row in ROWS
        if row.norm == norm and (attack := specification(row, column)) is not None
    ]
    return _Job(
        column.name,
        norm,
        column.model,
        tuple(name for name, _ in cells),
        tuple(attack for _, attack in cells),
        dataset,
        images,
        seed,
        folder / f"{column.name.lower().replace(' ', '-').replace('.', '')}-{norm}",
    )


def _do(job: _Job) -> list[Path]:
    """Play a job on one thread; the folders of its runs, in the order of its attacks."""
    from ..playing import Plan, play_matrix
    from ..training.classifier import one_thread

    plan = Plan(
        models=(job.model,),
        attacks=job.attacks,
        model_parameters={},
        attack_parameters={},
        dataset=job.dataset,
        split="test",
        images=job.images,
        norm=job.norm,
        epsilon=None,
        max_queries=None,
        targeted=False,
        quantised=False,
        seed=job.seed,
        batch_size=BATCH,
        checks=False,
    )
    with one_thread():
        played = play_matrix(
            plan, job.folder, resume=True, watch=lambda title, total, outcomes: outcomes
        )
        return [run.folder for run, _ in played]


def _loaded(job: _Job, folders: Sequence[Path]) -> dict[str, Run]:
    from ..runs import Run

    return {name: Run.load(folder) for name, folder in zip(job.rows, folders, strict=True)}


def median(values: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """The median of distances (N,) and its 95 % interval."""
    return float(np.median(values)), median_interval(values)


def accuracy(values: NDArray[np.float64], norm: str) -> float:
    """The share of distances (N,) beyond the paper's threshold."""
    return robust_count(values, THRESHOLD[norm]) / len(values)
