"""1804.03142: error against frames that were labelled, confidence, and attacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import task_set
from ..reports.blocks import Block, Heading, Paragraph, Pictures, Table
from ..reports.components import Picture
from ..reports.images import data_uri, to_pixels
from ..reports.levels import Line, figure_block
from ..tasks.attacking import Ascent, Changed, attacked, noisy
from ..tasks.playing import load_task
from ._jobs import side_by_side
from ._seeds import Cells
from .types import Claim, Report

FRAMES = (10, 50, 200)
ATTACKED = 60
"""Test frames that are attacked."""
RADII = (1, 2, 4, 8)
"""Linf, in 255ths."""
DATA = "generated-mice"
SHOWN = 6


@dataclass(frozen=True)
class Job:
    """One network: trained on the first `frames` frames for `steps` steps."""

    folder: Path
    frames: int
    seed: int
    steps: int
    samples: int | None

    @property
    def name(self) -> str:
        return f"frames{self.frames}-seed{self.seed}"


@dataclass(frozen=True)
class Grid:
    """Figures in pixels (shares in [0, 1]) by (frames, what), one value for each seed.

    `people` is the distance between the two labellers on the same frames.
    """

    cells: Mapping[tuple[int, str], Cells]
    people: float
    samples: int
    steps: int


def run(jobs: Sequence[Job], processes: int, report: Report) -> Grid:
    """Train and measure every network, or take what its folder holds of it."""
    found: dict[Job, dict[str, float]] = {}
    missing = []
    for job in jobs:
        place = job.folder / f"{job.name}.json"
        kept = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        if (kept.get("steps"), kept.get("samples")) == (job.steps, job.samples):
            found[job] = kept["figures"]
        else:
            missing.append(job)
    for job, figures in side_by_side(measured, missing, processes):
        report(job.name)
        found[job] = figures
    test = task_set(DATA, "test")
    test = test.rows(0, jobs[0].samples or len(test))
    people = (test.targets["joints"] - test.targets["second"]).norm(dim=-1).mean()
    cells = {
        (frames, what): Cells(tuple(found[job][what] for job in jobs if job.frames == frames))
        for frames in dict.fromkeys(job.frames for job in jobs)
        for what in found[jobs[0]]
    }
    return Grid(cells, float(people), len(test), jobs[0].steps)


def measured(job: Job) -> dict[str, float]:
    """The figures of one network, which are also written to the job's folder."""
    from models.pose import PoseEstimator, build, confident_error, decode, distances
    from models.weights import write_whole
    from models.wrappers import seeded

    from ..training.classifier import one_thread
    from ..training.poses import PoseRecipe, fit

    train, test = task_set(DATA, "train").rows(0, job.frames), task_set(DATA, "test")
    test = test.rows(0, job.samples or len(test))
    network = seeded(job.seed, build)
    recipe = replace(PoseRecipe(), frames=job.frames, steps=job.steps)
    with one_thread():
        fit(network, train.images, train.targets["joints"], recipe, seed=job.seed)
        model = PoseEstimator(network.eval().requires_grad_(False))
        maps = network(test.images)
        answers, rough = decode(*maps), decode(*maps, refined=False)
        exact = {**test.targets, "joints": test.targets["exact"]}
        confident, kept = confident_error(answers, test.targets)
        figures = {
            "train": float(model.quality(model.answer(train.images, None), train.targets).mean()),
            "test": float(distances(answers, test.targets).mean()),
            "exact": float(distances(answers, exact).mean()),
            "without offsets": float(distances(rough, test.targets).mean()),
            "confident": confident,
            "kept": kept,
        }
        part = test.rows(0, ATTACKED)
        for radius in RADII:
            epsilon = radius / 255
            hit = attacked(
                model,
                part,
                norm="linf",
                epsilon=torch.full((len(part),), epsilon),
                surface="scene",
                ascent=Ascent(restarts=1),
                seed=job.seed,
            )
            control = noisy(
                model, part, norm="linf", epsilon=epsilon, surface="scene", seed=job.seed
            )
            figures[f"attack {radius}"] = float(hit.qualities.mean())
            figures[f"noise {radius}"] = float(control.qualities.mean())
            found = model.answer(hit.images, None)
            error, share = confident_error(found, part.targets)
            figures[f"attack {radius}, confident"] = error
            figures[f"attack {radius}, kept"] = share
    text = json.dumps({"steps": job.steps, "samples": job.samples, "figures": figures}, indent=2)
    job.folder.mkdir(parents=True, exist_ok=True)
    write_whole(job.folder / f"{job.name}.json", f"{text}\n".encode())
    return figures


def claims(grid: Grid) -> tuple[Claim, ...]:
    """What the paper says, and what an attack adds to it."""
    most = max(frames for frames, _ in grid.cells)
    test = {frames: grid.cells[frames, "test"] for frames in FRAMES}
    how = f"{grid.samples} test frames, {len(test[most].values)} networks for each number of frames"
    ends = test[most].interval
    made = [
        Claim(
            id="frames",
            claim="the test error falls with the number of labelled frames",
            published="about 200 frames are enough (abstract)",
            measured="; ".join(f"{frames}: {cells.text(2)} px" for frames, cells in test.items()),
            holds=all(_below(test[more], test[less]) for less, more in pairwise(FRAMES)),
            how=f"{how}; the interval of each difference, seed by seed, lies above 0",
        ),
        Claim(
            id="people",
            claim=f"with {most} frames the error is within twice the distance of two labellers",
            published="comparable to human accuracy (abstract)",
            measured=f"{test[most].text(2)} px; labellers {grid.people:.2f} px",
            holds=(test[most].mean if ends is None else ends[1]) < 2 * grid.people,
            how=f"{how}; simulated labellers; the upper end of the interval counts",
        ),
    ]
    pairs = (
        ("cutoff", "the confidence cutoff lowers the error", "confident", "test"),
        ("offsets", "offsets lower the error", "test", "without offsets"),
    )
    for name, claim, lower, higher in pairs:
        made.append(
            Claim(
                id=name,
                claim=f"{claim} ({most} frames)",
                published=None,
                measured=f"{grid.cells[most, lower].text(2)} px, without "
                f"{grid.cells[most, higher].text(2)} px",
                holds=_below(grid.cells[most, lower], grid.cells[most, higher]),
                how=f"{how}; likelihood at least 0.6"
                if name == "cutoff"
                else f"{how}; the centre of the best cell instead",
            )
        )
    attack, noise = grid.cells[most, "attack 8"], grid.cells[most, "noise 8"]
    made.append(
        Claim(
            id="attack",
            claim="Linf 8/255: PGD makes the error at least three times that under noise",
            published=None,
            measured=f"{attack.text(2)} px, under noise {noise.text(2)} px",
            holds=_below(Cells(tuple(3 * value for value in noise.values)), attack),
            how=f"10 steps up the training's loss, {ATTACKED} test frames at most",
        )
    )
    kept = grid.cells[most, "attack 8, kept"]
    confident = grid.cells[most, "attack 8, confident"]
    made.append(
        Claim(
            id="confidence",
            claim="the confidence cutoff does not see it: most joints are kept, and are as wrong",
            published=None,
            measured=f"{kept.percent()} kept, with {confident.text(2)} px",
            holds=kept.mean > 0.5 and confident.mean > 0.5 * attack.mean,
            how="of the attacked joints, those with likelihood at least 0.6",
        )
    )
    return tuple(made)


def blocks(grid: Grid) -> list[Block]:
    """The curve over frames, and the table and chart of attacks."""
    frames = list(dict.fromkeys(frames for frames, _ in grid.cells))
    whats = ("train", "test", "exact", "without offsets", "confident")
    rows = tuple(
        (
            str(count),
            (
                *(grid.cells[count, what].text(2) for what in whats),
                grid.cells[count, "kept"].percent(),
            ),
        )
        for count in frames
    )
    lines = [_line(grid, what, [(count, what) for count in frames]) for what in ("train", "test")]
    most = frames[-1]
    hits = [
        _line(grid, kind, [(most, "test"), *((most, f"{kind} {radius}") for radius in RADII)])
        for kind in ("attack", "noise")
    ]
    columns = ("on its own frames", "test", "test, exact joints", "test, no offsets")
    return [
        Heading("Error and labelled frames"),
        Table(
            "Mean distance in pixels of 96x96",
            "labelled frames",
            (*columns, "test, confident joints", "share confident"),
            rows,
        ),
        figure_block(
            "Error against labelled frames",
            lines,
            [str(count) for count in frames],
            "labelled frames",
            measure="mean px error",
            reference=("two labellers", grid.people),
            caption="The dashed line is the distance between two simulated labellers.",
        ),
        Heading("Under attack, and under noise of the same size"),
        figure_block(
            f"Attacked, {most} labelled frames",
            hits,
            ["0", *(f"{radius}/255" for radius in RADII)],
            "linf radius",
            measure="mean px error",
            reference=("two labellers", grid.people),
            caption="The dashed line is the distance between two simulated labellers.",
        ),
        Paragraph(
            f"In brackets and as bands: 95 % intervals over networks, each trained for "
            f"{grid.steps} steps from nothing. DeepLabCut calls the mean distance RMSE."
        ),
    ]


def pictures() -> list[Block]:
    """Test frames with the joints that the shipped network finds, before and after an attack."""
    model, _ = load_task("pose", {}, DATA)
    part = task_set(DATA, "test").rows(0, SHOWN)
    hit: Changed = attacked(
        model,
        part,
        norm="linf",
        epsilon=torch.full((SHOWN,), 8 / 255),
        surface="scene",
        ascent=Ascent(restarts=1),
        seed=0,
    )
    rows = (
        ("labelled", part.images, part.targets["joints"]),
        ("found", part.images, model.answer(part.images, None)["joints"]),
        ("found, attacked", hit.images, model.answer(hit.images, None)["joints"]),
    )
    return [
        Heading("The first test frames"),
        Pictures(
            "Snout red, left ear green, right ear blue, base of the tail yellow; Linf 8/255",
            tuple(part.ids),
            tuple(
                (
                    name,
                    tuple(
                        Picture(
                            data_uri(to_pixels(marked(one, places).permute(1, 2, 0).numpy())), ""
                        )
                        for one, places in zip(images, joints, strict=True)
                    ),
                )
                for name, images, joints in rows
            ),
        ),
    ]


def marked(frame: Tensor, joints: Tensor) -> Tensor:
    """The frame (3, H, W) with a small cross at each of four joints (4, 2), in their colours."""
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.3, 1], [1, 1, 0]])
    drawn = frame.clone()
    height, width = frame.shape[-2:]
    for colour, (x, y) in zip(colours, joints.int().tolist(), strict=True):
        for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            if 0 <= x + dx < width and 0 <= y + dy < height:
                drawn[:, y + dy, x + dx] = colour
    return drawn


def _line(grid: Grid, name: str, keys: Sequence[tuple[int, str]]) -> Line:
    cells = [grid.cells[key] for key in keys]
    spread = [one.interval or (one.mean, one.mean) for one in cells]
    return Line(
        name,
        tuple(one.mean for one in cells),
        tuple(max(0.0, low) for low, _ in spread),
        tuple(high for _, high in spread),
    )


def _below(one: Cells, other: Cells) -> bool:
    """Whether it is lower, with an interval of the difference that excludes 0."""
    gap = other.less(one)
    ends = gap.interval
    return gap.mean > 0 and (ends is None or ends[0] > 0)
