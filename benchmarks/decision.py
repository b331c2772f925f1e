"""Decision-based attacks against Foolbox's, both sides in one run, with quality, queries and CPU.

    python benchmarks/decision.py [pointwise] [boundary] [hop_skip_jump] [biased] [--seeds 3]

Without names all four tables are printed. CPU seconds are those of this process; use one thread
(OMP_NUM_THREADS=1) for figures that compare. Distances are medians over the images that the model
gets right; every adversarial is judged again on a fresh forward pass. Foolbox's side runs on its
own, without our meter around it.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import eagerpy as ep
import foolbox as fb
import numpy as np
import torch
from torch import Tensor

import attacks
import bench
import models
from attacks import Attack, Model, Oracle
from bench.runs import versions_text


class Counting:
    """A model that counts the images it is asked."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.bounds = model.bounds
        self.asked = 0

    def __call__(self, images: Tensor, /) -> Tensor:
        self.asked += len(images)
        return self._model(images)


@dataclass(frozen=True)
class Side:
    """What one attack reached: adversarials (N, C, H, W), queries of all images, CPU seconds."""

    images: Tensor
    queries: int
    seconds: float


@dataclass(frozen=True)
class Given:
    """Starts that were found beforehand, for both sides alike."""

    images: Tensor
    norm: attacks.Norm = "l0"
    access: attacks.Access = "decision"

    def run(self, model: Oracle, images: Tensor, criterion: object, **_: Any) -> Tensor:
        return self.images


@dataclass(frozen=True)
class Samples:
    """A model with images that it gets right."""

    model: Model
    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, model: str, dataset: str, n: int) -> Samples:
        """The first n images of the test split that the model gets right."""
        made = models.create(model, dataset=dataset)
        data = bench.dataset(dataset, split="test")
        images, labels = data.images, data.targets
        with torch.no_grad():
            predicted = torch.cat([made(part) for part in images[: 4 * n].split(100)]).argmax(1)
        right = (predicted == labels[: len(predicted)]).nonzero().flatten()[:n]
        return cls(made, images[right], labels[right])

    def ours(self, attack: Attack, *, seed: int, budget: int | None = None) -> Side:
        """Play one of our attacks."""
        started = time.process_time()
        found = attacks.perturb(
            attack, self.model, self.images, self.labels, seed=seed, budget=budget
        )
        return Side(found.images, int(found.queries.sum()), time.process_time() - started)

    def foolbox(self, attack: Any, *, seed: int, size: int | None = None, **more: Any) -> Side:
        """Play a Foolbox attack in batches of a size (all images at once when not given)."""
        counting = Counting(self.model)
        torch.manual_seed(seed)
        np.random.seed(seed)
        found = []
        started = time.process_time()
        for rows in torch.arange(len(self.images)).split(size or len(self.images)):
            given = {k: ep.astensor(v[rows]) for k, v in more.items()}
            goal = fb.criteria.Misclassification(ep.astensor(self.labels[rows]))
            result = attack.run(
                attacks.foolbox.export_model(counting),
                ep.astensor(self.images[rows]),
                goal,
                **given,
            )
            found.append(result.raw)
        return Side(torch.cat(found), counting.asked, time.process_time() - started)

    def median(self, norm: attacks.Norm, side: Side) -> float:
        """Median distance; an image that is not adversarial on a fresh pass counts as infinite."""
        measured = attacks.distance(norm, self.images, side.images)
        with torch.no_grad():
            fooled = self.model(side.images).argmax(1) != self.labels
        return float(np.median(torch.where(fooled, measured, math.inf).numpy()))


def pointwise(seeds: int, n: int = 100) -> None:
    """Foolbox's PointwiseAttack and ours from the same salt-and-pepper starts."""
    on = Samples.of("small_cnn", "mnist5k", n)
    header("pointwise", f"{n} MNIST images, small_cnn, starts given to both", "L0", "L2")
    for seed in range(seeds):
        starts = on.foolbox(fb.attacks.SaltAndPepperNoiseAttack(steps=500), seed=seed).images
        theirs = on.foolbox(fb.attacks.PointwiseAttack(), seed=seed, starting_points=starts)
        row(on, f"Foolbox, seed {seed}", theirs, theirs, "l0", "l2")
        for norm in ("l0", "l2"):
            attack = attacks.create("pointwise", norm=norm, start=Given(starts))
            row(on, f"pointwise:norm={norm}", on.ours(attack, seed=seed), theirs, "l0", "l2")


def boundary(seeds: int, n: int = 50) -> None:
    """Foolbox's BoundaryAttack, default and tuned steps, and ours at a share of its queries."""
    on = Samples.of("small_cnn", "mnist5k", n)
    header("boundary", f"{n} MNIST images, small_cnn", "L2")
    for seed in range(seeds):
        default = on.foolbox(fb.attacks.BoundaryAttack(steps=2000), seed=seed)
        row(on, f"Foolbox, default steps, seed {seed}", default, default, "l2")
        few = default.queries // len(on.images) // 7
        row(on, "boundary, 1/7 of its queries", _decision(on, "boundary", seed, few), default, "l2")
        tuned = on.foolbox(
            fb.attacks.BoundaryAttack(
                steps=2000, spherical_step=0.1, source_step=0.1, update_stats_every_k=5
            ),
            seed=seed,
        )
        row(on, f"Foolbox, tuned steps, seed {seed}", tuned, tuned, "l2")
        equal = tuned.queries // len(on.images)
        for name in ("boundary", "biased_boundary"):
            row(on, f"{name}, equal queries", _decision(on, name, seed, equal), tuned, "l2")


def hop_skip_jump(seeds: int, n: int = 20) -> None:
    """Foolbox's HopSkipJump with all images at once and one by one, and ours."""
    on = Samples.of("small_cnn", "mnist5k", n)
    header("hop_skip_jump", f"{n} MNIST images, small_cnn", "L2")
    theirs = fb.attacks.HopSkipJumpAttack(steps=8)
    for seed in range(seeds):
        together = on.foolbox(theirs, seed=seed)
        row(on, f"Foolbox, batch of {n}, seed {seed}", together, together, "l2")
        equal = together.queries // n
        ours = _decision(on, "hop_skip_jump", seed, equal)
        row(on, f"hop_skip_jump, batch of {n}, equal queries", ours, together, "l2")
        alone = on.foolbox(theirs, seed=seed, size=1)
        row(on, "Foolbox, one by one", alone, alone, "l2")
        row(on, f"hop_skip_jump, batch of {n}, against that", ours, alone, "l2")
        fewer = _decision(on, "hop_skip_jump", seed, alone.queries // n)
        row(on, f"hop_skip_jump, batch of {n}, equal queries", fewer, alone, "l2")


def biased(seeds: int, n: int = 8, budget: int = 1000) -> None:
    """biased_boundary against boundary at equal queries on photographs."""
    on = Samples.of("efficientnet_lite0", "tiny-imagenet-avc", n)
    header("biased", f"{n} challenge images, efficientnet_lite0, {budget} queries", "L2")
    for seed in range(seeds):
        plain = _decision(on, "boundary", seed, budget)
        row(on, f"boundary, seed {seed}", plain, plain, "l2")
        for name in ("biased_boundary", "hop_skip_jump"):
            row(on, name, _decision(on, name, seed, budget), plain, "l2")
        smooth = on.ours(attacks.create("hop_skip_jump", cells=16), seed=seed, budget=budget)
        row(on, "hop_skip_jump:cells=16", smooth, plain, "l2")


def _decision(on: Samples, name: str, seed: int, budget: int) -> Side:
    return on.ours(attacks.create(name), seed=seed, budget=budget)


def header(name: str, what: str, *norms: str) -> None:
    """Begin a table."""
    medians = " | ".join(f"median {norm}" for norm in norms)
    print(f"\n### {name}: {what}\n\n| attack | queries an image | CPU s | {medians} | ratios |")
    print("|---" * (4 + len(norms)) + "|", flush=True)


def row(on: Samples, name: str, side: Side, against: Side, *norms: attacks.Norm) -> None:
    """One side, with its ratios to another: how many times fewer queries and seconds."""
    medians = [on.median(norm, side) for norm in norms]
    ratios = (
        ""
        if side is against
        else (
            f"{against.queries / side.queries:.1f}x fewer queries, "
            f"{against.seconds / side.seconds:.1f}x less CPU, distance "
            + ", ".join(
                f"{m / on.median(norm, against):.2f}"
                for m, norm in zip(medians, norms, strict=True)
            )
        )
    )
    print(
        f"| {name} | {side.queries / len(on.images):.0f} | {side.seconds:.2f} | "
        + " | ".join(f"{m:.3f}" for m in medians)
        + f" | {ratios} |",
        flush=True,
    )


TABLES: dict[str, Callable[[int], None]] = {
    "pointwise": pointwise,
    "boundary": boundary,
    "hop_skip_jump": hop_skip_jump,
    "biased": biased,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.tables) - set(TABLES)
    if unknown:
        parser.error(f"no table {', '.join(sorted(unknown))}; there are: {', '.join(TABLES)}")
    for name in chosen.tables or TABLES:
        TABLES[name](chosen.seeds)
    print(
        f"\n{date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), "
        + versions_text()
    )


if __name__ == "__main__":
    main()
