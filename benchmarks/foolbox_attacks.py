"""Every attack of Foolbox 3, through the bridge: which work today, how well, and at what cost.

    python benchmarks/foolbox_attacks.py [--images 50] [--model small_cnn] [--out docs/foolbox.md]

Runs each attack that Foolbox exports on the first images of mnist5k's test split and writes a page
with a table of what came of it. An attack that crashes is a row with its error. What every result
is worth was judged by `perturb`, never by Foolbox.
"""

from __future__ import annotations

import argparse
import inspect
import platform
import shlex
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import foolbox as fb
import torch
from foolbox.attacks import base
from torch import Tensor

import attacks
from attacks import Access, Attack, Criterion, ImageRandom, Model, Norm, Oracle, Pool, perturb
from attacks.foolbox import MENDED, REFUSED, FoolboxAttack
from bench.datasets import dataset
from bench.plugins import load_model
from bench.runs import versions_text

RADII: dict[Norm, float] = {"linf": 0.3, "l2": 3.0, "l1": 40.0}
"""For attacks that stay within a radius."""

QUERIES = 20_000
"""That an image may cost, so that no loop is endless; no attack of the page comes near it."""

POOL = 500
"""Images of other samples for the attacks that want some."""

CUTS: dict[str, dict[str, Any]] = {
    "BoundaryAttack": {"steps": 2000},
    "EADAttack": {"steps": 100},
    "HopSkipJumpAttack": {"steps": 8},
    "L0BrendelBethgeAttack": {"steps": 100},
    "L1BrendelBethgeAttack": {"steps": 100},
    "L2BrendelBethgeAttack": {"steps": 100},
    "L2CarliniWagnerAttack": {"steps": 100},
    "LinearSearchBlendedUniformNoiseAttack": {"steps": 100},
    "LinfinityBrendelBethgeAttack": {"steps": 100},
    "SaltAndPepperNoiseAttack": {"steps": 500},
    "VirtualAdversarialAttack": {"steps": 20},
}
"""Parameters that are not Foolbox's defaults: fewer steps, to spare time (the last has none)."""

THRESHOLDED = "BinarizationRefinementAttack"
"""For models that threshold their input: played against the model behind a threshold of 0.5."""

HEAD = """# Foolbox's attacks

`foolbox:NAME` is any attack of Foolbox {foolbox} (see [attacks](attacks.md)). A run wrote this
page; its command stands at the end. {n} images of mnist5k that `{model}` gets right.

- *works*: "yes"; "mended", where the bridge goes around a defect of Foolbox named below;
  "refused", with the reason below; or the error.
- *success*: images with an adversarial that we verified: finite, within bounds and radius, and
  adversarial on a fresh forward pass, which is not counted. Radii of the attacks that stay within
  one: Linf 0.3, L2 3, L1 40.
- *median*: of the distance in the attack's own norm, a failure counting as infinite.
- *8 bits*: the share of successes that are still adversarial after rounding to 8 bits. On a
  quantised track the search itself runs on rounded images, and all survive
  (`benchmarks/uint8.py`).
- *calls*: forward passes of whatever size. *queries*, *gradients*: images asked forwards and
  backwards, for each image attacked. *CPU s*: of one thread, for all of them together.

| {columns} |
|{rules}|
"""

COLUMNS = (
    "attack",
    "parameters",
    "norm",
    "works",
    "success",
    "median",
    "8 bits",
    "calls",
    "queries",
    "gradients",
    "CPU s",
)

NOTES = """
Attacks through Foolbox ask whole batches: an image that is done goes on being asked, as Foolbox
has no active set. Random numbers are drawn for a batch from the stream of its first image, and the
early abort of L2CarliniWagnerAttack and EADAttack looks at the batch's summed loss: but for
HopSkipJumpAttack, which runs image by image, another batch can give an image another result.
Neither is so with our own attacks.

The four BrendelBethgeAttacks need numba (`pip install 'tiltyard[bb]'`) and compile themselves at
their first use in a process, 20 to 60 CPU seconds for each norm, which the table holds. Their
solver is compiled code that nothing can interrupt; an endless loop in it is known
([foolbox#583](https://github.com/bethgelab/foolbox/issues/583)) and was not met here.

BinarizationRefinementAttack was played against the model behind a threshold of 0.5, as it is made
for such models. It puts pixels on the threshold itself and just below it, which rounding cannot
tell apart: it is of no use on a quantised track.
"""


@dataclass
class Counted:
    """A model that counts its forward passes."""

    model: Model
    calls: int = 0

    @property
    def bounds(self) -> tuple[float, float]:
        return self.model.bounds

    def __call__(self, images: Tensor, /) -> Tensor:
        self.calls += 1
        return self.model(images)


@dataclass(frozen=True)
class Thresholded:
    """A model behind a threshold of 0.5."""

    model: Model

    @property
    def bounds(self) -> tuple[float, float]:
        return self.model.bounds

    def __call__(self, images: Tensor, /) -> Tensor:
        return self.model((images >= 0.5).float())


@dataclass
class Watched:
    """An attack, with the forward passes and CPU seconds of its run alone."""

    attack: FoolboxAttack
    model: Counted
    calls: int = 0
    seconds: float = 0.0

    @property
    def norm(self) -> Norm:
        return self.attack.norm

    @property
    def access(self) -> Access:
        return self.attack.access

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`."""
        calls, started = self.model.calls, time.process_time()
        try:
            return self.attack.run(model, images, criterion, epsilon=epsilon, random=random)
        finally:
            self.calls = self.model.calls - calls
            self.seconds = time.process_time() - started


def exported() -> list[str]:
    """Every attack class that Foolbox exports, by its own name, in Foolbox's order."""
    return [
        name
        for name, value in vars(fb.attacks).items()
        if inspect.isclass(value)
        and issubclass(value, base.Attack)
        and value is not base.Attack
        and value.__name__ == name
    ]


def play(name: str, model: Model, images: Tensor, labels: Tensor, pool: Pool, seed: int) -> str:
    """One row of the table."""
    parameters = CUTS.get(name, {})
    shown = ", ".join(f"{key}={value}" for key, value in parameters.items())
    if name in REFUSED:
        return f"| {name} | {shown} | | refused |" + " |" * 7
    if name == THRESHOLDED:
        model = Thresholded(model)
    try:
        attack = attacks.foolbox.create(name, **parameters)
        counted = Counted(model)
        watched = Watched(attack, counted)
        checked: Attack = watched
        result = perturb(
            checked,
            counted,
            images,
            labels,
            epsilon=RADII[attack.norm] if attack.fixed_epsilon else None,
            seed=seed,
            budget=QUERIES,
            pool=pool,
        )
    except Exception as error:  # whatever it is, it is this attack's row and no other's
        text = f"{type(error).__name__}: {error}".replace("|", "/").replace("\n", " ")
        return f"| {name} | {shown} | | {text[:200]} |" + " |" * 7
    attacked = result.predicted == labels
    n, successes = int(attacked.sum()), result.success[attacked]
    found = (result.success & attacked).nonzero().flatten()
    with torch.no_grad():
        sent = model(attacks.quantise(result.images[found], model.bounds)).argmax(1)
    kept = f"{float((sent != labels[found]).float().mean()):.2f}" if len(found) else ""
    raised = Counter(reason for reason in result.reasons if reason and "raised" in reason)
    works = "mended" if name in MENDED else "yes"
    if raised:
        works = f"{raised.total()} of {n} images: {raised.most_common(1)[0][0]}"
    median = float(result.distance[attacked].quantile(0.5, interpolation="higher"))
    return (
        f"| {name} | {shown} | {attack.norm} | {works} | {float(successes.float().mean()):.2f} "
        f"| {median:.3g} | {kept} | {watched.calls} "
        f"| {float(result.queries[attacked].float().mean()):.0f} "
        f"| {float(result.gradients[attacked].float().mean()):.0f} | {watched.seconds:.2f} |"
    )


def grouped(notes: dict[str, str]) -> str:
    """Names and texts as a list; those with the same text share an entry."""
    names: dict[str, list[str]] = {}
    for name, text in notes.items():
        names.setdefault(text, []).append(name)
    return "".join(f"- {', '.join(alike)}: {text}.\n" for text, alike in names.items())


def main() -> None:
    """Play every attack and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--model", default="small_cnn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/foolbox.md"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # Foolbox's own: slow compilation, meshgrid, unlucky noise
    torch.set_num_threads(1)
    model = load_model(chosen.model, dataset="mnist5k")
    data = dataset("mnist5k", split="test")
    images, labels = data.images[: chosen.images], data.targets[: chosen.images]
    rest = slice(chosen.images, chosen.images + POOL)
    pool = Pool(data.images[rest], data.targets[rest])
    with torch.no_grad():
        right = int((model(images).argmax(1) == labels).sum())
    page = HEAD.format(
        foolbox=fb.__version__,
        n=right,
        model=chosen.model,
        columns=" | ".join(COLUMNS),
        rules="|".join("---" for _ in COLUMNS),
    )
    for name in exported():
        row = play(name, model, images, labels, pool, chosen.seed)
        print(row, flush=True)
        page += row + "\n"
    page += "\n## What is broken in Foolbox and mended here\n\n"
    page += grouped(MENDED)
    page += "\n## What is refused, and what to use instead\n\n"
    page += grouped(REFUSED)
    page += "\n## What to know\n" + NOTES
    command = shlex.join(["python", *sys.argv])
    page += f"\n{date.today()}, {platform.machine()}, seed {chosen.seed}, {versions_text()}:\n\n"
    page += f"    {command}\n"
    chosen.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
