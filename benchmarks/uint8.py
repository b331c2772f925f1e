"""What rounding to 8 bits leaves of adversarials found in floats, and of those searched on 8 bits.

    python benchmarks/uint8.py [--images 50] [--model small_cnn] [--queries 1000]

Left: Foolbox by itself, with its own success flags (ours: `perturb` on floats). Right: the same
attacks through `perturb(..., quantised=True)`, where the model sees rounded images throughout.
Prints a Markdown table; exits with 1 if a success counted on the right does not survive rounding.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from datetime import date
from typing import Any

import foolbox as fb
import torch
from torch import Tensor

import attacks
from attacks import Model, distance, perturb, quantise
from attacks.foolbox import FoolboxAttack
from bench.datasets import dataset
from bench.plugins import load_attack, load_model
from bench.runs import versions_text

FOOLBOX: dict[str, dict[str, Any]] = {
    "LInfFMNAttack": {},
    "L1FMNAttack": {},
    "L2DeepFoolAttack": {},
    "LinfDeepFoolAttack": {},
    "DDNAttack": {},
    "HopSkipJumpAttack": {"steps": 8},
    "PointwiseAttack": {},
    "L2BrendelBethgeAttack": {"steps": 100},
}
OURS = (
    "apgd:norm=l2,steps=40",
    "carlini_wagner",
    "fab:norm=l2",
    "boundary",
    "hop_skip_jump",
    "pointwise",
    "salt_and_pepper",
    "gaussian_noise",
    "blended_noise",
)


def described(
    model: Model, images: Tensor, labels: Tensor, found: Tensor, away: Tensor
) -> tuple[str, int]:
    """Cells for what was found (success, median distance, share kept), and how many are lost.

    Args:
        model: the victim.
        images, labels: (n, C, H, W) what it gets right, and (n,).
        found: (n, C, H, W), whatever where nothing was found.
        away: (n,) distances, infinite where nothing was found.
    """
    hits = away.isfinite()
    with torch.no_grad():
        sent = model(quantise(found[hits], model.bounds)).argmax(1)
    kept = sent != labels[hits]
    share = f"{float(kept.float().mean()):.2f}" if len(kept) else ""
    median = float(away.quantile(0.5, interpolation="higher"))
    return f"{float(hits.float().mean()):.2f} | {median:.3g} | {share}", int((~kept).sum())


def by_itself(raw: Any, model: Model, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What a Foolbox attack returns (n, C, H, W), and its own success flags (n,).

    Where it raises for the batch (one starting point that isn't found is enough), each image is run
    alone, and those that raise then are failures.
    """
    victim = attacks.foolbox.export_model(model)
    try:
        found, _, flags = raw(victim, images, labels, epsilons=None)
    except (AssertionError, ValueError):
        if len(images) == 1:
            return images, torch.tensor([False])
        alone = [by_itself(raw, model, images[[i]], labels[[i]]) for i in range(len(images))]
        return torch.cat([one for one, _ in alone]), torch.cat([flag for _, flag in alone])
    return found, flags


def main() -> None:
    """Play both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--model", default="small_cnn")
    parser.add_argument("--queries", type=int, default=1000, help="an image, for ours")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = load_model(chosen.model, dataset="mnist5k")
    data = dataset("mnist5k", split="test").take(chosen.images)
    with torch.no_grad():
        right = model(data.images).argmax(1) == data.targets
    images, labels = data.images[right], data.targets[right]

    lost = 0
    print("| attack | norm | success | median | kept | success on 8 bits | median | kept | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in [*(f"foolbox:{n}" for n in FOOLBOX), *OURS]:
        started = time.process_time()
        attack = load_attack(name)
        theirs = name.partition(":")[2]
        if isinstance(attack, FoolboxAttack):
            attack = attacks.create(name, **FOOLBOX[theirs])
            torch.manual_seed(chosen.seed)
            raw = getattr(fb.attacks, theirs)(**FOOLBOX[theirs])
            found, flags = by_itself(raw, model, images, labels)
            away = distance(attack.norm, images, found).where(flags, torch.inf)
        else:
            played = perturb(attack, model, images, labels, seed=chosen.seed, budget=chosen.queries)
            found, away = played.images, played.distance
        budget = None if isinstance(attack, FoolboxAttack) else chosen.queries
        result = perturb(
            attack, model, images, labels, seed=chosen.seed, budget=budget, quantised=True
        )
        floats, _ = described(model, images, labels, found, away)
        bytes_, missing = described(model, images, labels, result.images, result.distance)
        lost += missing
        print(
            f"| {name} | {attack.norm} | {floats} | {bytes_} "
            f"| {time.process_time() - started:.1f} |",
            flush=True,
        )
    print(f"\n{len(images)} images, {date.today()}, {platform.machine()}, {versions_text()}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
