"""1808.08750, parts (b) and (c): our small networks train by test, a network on photographs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..distort import Distorted
from ..reports.blocks import Block, Heading, Paragraph, Table
from ..reports.distortions import blocks as distortion_blocks
from ._jobs import side_by_side
from ._seeds import Cells
from .types import Claim, Report

MODEL, DATASET = "distortion_resnet", "fashion-mnist"
PHOTOGRAPHS, NETWORK = "tiny-imagenet-avc", "efficientnet_lite0"

GOOD = 0.75
"""Accuracy that a network has to reach on the distortion that it was trained on."""

NEAR = 0.1
"""Share of the images by which an accuracy may be off and still be "near"."""

CHANCE = 0.1


Grid = dict[str, dict[str, Cells]]
"""{training: {condition: accuracies}}."""


def train_all(folder: Path, seeds: Sequence[int], processes: int, report: Report) -> Grid:
    """Accuracies of every training and seed under every condition.

    Seed 0 is the shipped checkpoint, whose accuracies stand on its card; the others are trained
    here and kept in `folder`, so that a second call goes on.
    """
    from ..training.recipes import recipes

    trainings = list(recipes(MODEL))
    found: dict[tuple[str, int], dict[str, float]] = {}
    jobs = [(training, seed, folder) for seed in seeds for training in trainings]
    for number, (job, accuracies) in enumerate(side_by_side(_accuracies, jobs, processes), 1):
        training, seed, _ = job
        found[training, seed] = accuracies
        report(f"{number} of {len(jobs)} networks: {training}, seed {seed}")
    return {
        training: {
            condition: Cells(tuple(found[training, seed][condition] for seed in seeds))
            for condition in found[training, seeds[0]]
        }
        for training in trainings
    }


def _accuracies(job: tuple[str, int, Path]) -> dict[str, float]:
    """Of one training and seed, trained where it isn't yet; facts and weights are in the folder."""
    from models.weights import find, stem

    from ..training import train

    training, seed, folder = job
    if seed == 0:
        path = find(MODEL, DATASET, training)
    else:
        path = folder / "networks" / f"{stem(MODEL, DATASET, training)}-{seed}.safetensors"
        if not path.with_suffix(".json").is_file():
            train(MODEL, DATASET, out=path, params={"training": training}, seed=seed)
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    accuracies: dict[str, float] = card["distorted_accuracy"]
    return accuracies


def grid_claims(grid: Grid) -> list[Claim]:
    """On training by test, as the paper's figure 4."""
    own = {name: grid[name][name] for name in grid if name in grid[name] and name != "plain"}
    seeds = len(next(iter(own.values())).values)
    how = f"{seeds} seeds, 10,000 test images of {DATASET}, 95 % intervals over seeds"
    others = [
        (grid[name][condition].mean, grid["plain"][condition].mean)
        for name in own
        for condition in grid[name]
        if condition not in (name, "plain")
    ]
    gain = fmean(a for a, _ in others) - fmean(b for _, b in others)
    return [
        Claim(
            id="own-specialised",
            claim="A network trained on a distortion copes with it (ours)",
            published="76 to 93 % in their networks A3 to A9 (figure 4)",
            measured=_listed(own),
            holds=all(cells.mean >= GOOD for cells in own.values()),
            how=f"{how}; holds if each is at least {GOOD:.0%}",
        ),
        Claim(
            id="own-elsewhere",
            claim="It copes with others hardly better than one trained on plain images (ours)",
            published="no network is good at what it was not trained on (figure 4)",
            measured=f"mean {fmean(a for a, _ in others):.1%} on the others; "
            f"the plain network {fmean(b for _, b in others):.1%} on the same",
            holds=abs(gain) <= NEAR,
            how=f"{how}; {len(others)} pairs of training and other distortion; holds if the "
            f"difference is at most {NEAR:.0%}",
        ),
        _near_chance(
            grid, "uniform-noise", "salt-and-pepper", "6.2 % (chance) after uniform noise", how
        ),
        _near_chance(
            grid, "salt-and-pepper", "uniform-noise", "10.2 % after salt-and-pepper noise", how
        ),
        _near_chance(
            grid, "all-but-uniform-noise", "uniform-noise", "11.0 % after all the others", how
        ),
        _near_chance(
            grid, "all-but-salt-and-pepper", "salt-and-pepper", "13.6 % after all the others", how
        ),
    ]


def _near_chance(grid: Grid, training: str, tested: str, published: str, how: str) -> Claim:
    cells = grid[training][tested]
    ends = cells.interval
    return Claim(
        id=f"own-{training}-to-{tested}",
        claim=f"Training on {training.replace('-', ' ')} does not help against "
        f"{tested.replace('-', ' ')} (ours, accuracy in %)",
        published=f"{published} (figure 4)",
        measured=100 * cells.mean,
        interval=None if ends is None else (100 * ends[0], 100 * ends[1]),
        holds=cells.mean <= CHANCE + NEAR,
        how=f"{how}; holds if at most {CHANCE + NEAR:.0%}; the plain network has "
        f"{grid['plain'][tested].mean:.1%}, "
        f"and what was trained on it {grid[tested][tested].mean:.1%}",
    )


def _listed(own: dict[str, Cells]) -> str:
    texts = []
    for name, cells in own.items():
        low, high = cells.interval or (cells.mean, cells.mean)
        texts.append(f"{name} {cells.mean:.1%} [{low:.1%}, {high:.1%}]")
    return ", ".join(texts)


def grid_blocks(grid: Grid) -> list[Block]:
    conditions = tuple(next(iter(grid.values())))
    return [
        Heading("The same with our small networks"),
        Paragraph(
            "Residual networks of 78,000 numbers, each trained on 20,000 images of Fashion-MNIST, "
            "28x28, with levels drawn at random. Conditions are the paper's, with low-pass 15 for "
            "7 and an unscaled high-pass (0.7 pixels), which are of use at this size. No human "
            "saw these images. Noise comes after a reduction to 30 % contrast, which by itself "
            "takes the plain network to chance: its low accuracy under noise is not all noise."
        ),
        Table(
            "Accuracy in %, mean over seeds; rows are trainings, columns what they are tested on",
            "trained on",
            conditions,
            tuple(
                (name, tuple(f"{100 * cells[c].mean:.1f}" for c in conditions))
                for name, cells in grid.items()
            ),
        ),
    ]


def photographs(folder: Path, images: int, report: Report) -> Distorted:
    """A pretrained network on real photographs under every distortion; kept in `folder`."""
    from .. import plugins
    from ..datasets import dataset
    from ..distort import ANSWERS_FILE, distort
    from ..distortions import ALL, load

    place = folder / f"photographs-{images}"
    if (place / ANSWERS_FILE).is_file():
        return Distorted.load(place)
    whole = dataset(PHOTOGRAPHS, split="test")
    found = distort(
        plugins.load_model(NETWORK, dataset=PHOTOGRAPHS),
        whole.take(images),
        [load(spec) for spec in ALL],
        name=NETWORK,
        references=whole,
        batch_size=50,
        watch=lambda line, done, total: report(f"{NETWORK}, {done} of {total} levels: {line}"),
    )
    found.write(place)
    return found


def photograph_blocks(found: Distorted) -> list[Block]:
    return [
        Heading("A pretrained network on photographs"),
        Paragraph(
            f"{NETWORK} on {len(found.labels)} photographs of 64x64 pixels in 200 classes, from "
            "the 2018 challenge: other images and classes than the observers', so that the curves "
            "are not to be laid on theirs. Lengths are scaled from 224 to 64 pixels."
        ),
        *distortion_blocks([found]),
    ]
