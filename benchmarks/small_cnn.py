"""Robust accuracy at Linf 0.3 and median L2 of both small CNNs on mnist5k, as `play` measures them.

    python benchmarks/small_cnn.py [--images 1000] [--boundary-images 100] [--queries 1000]

Prints a Markdown table with 95 % intervals. The facts go to runs/small_cnn/, where
`tiltyard report runs/small_cnn` makes a page of them; run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import platform
from datetime import date
from pathlib import Path

from bench.playing import Plan, play_matrix
from bench.runs import versions_text

MODELS = ("small_cnn", "small_cnn:training=pgd")


def main() -> None:
    """Play both attacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="for PGD")
    parser.add_argument("--boundary-images", type=int, default=100)
    parser.add_argument("--queries", type=int, default=1000, help="for boundary, per image")
    parser.add_argument("--out", type=Path, default=Path("runs/small_cnn"))
    chosen = parser.parse_args()
    attacks = {
        "foolbox:LinfPGD:rel_stepsize=0.03333,steps=40": (chosen.images, 0.3, None),
        "boundary": (chosen.boundary_images, None, chosen.queries),
    }
    print("| model | attack | images | clean | robust at Linf 0.3 | median L2 | queries |")
    print("|---|---|---|---|---|---|---|")
    for attack, (images, epsilon, queries) in attacks.items():
        plan = Plan(
            models=MODELS,
            attacks=(attack,),
            model_parameters={},
            attack_parameters={},
            dataset="mnist5k",
            split="test",
            images=images,
            norm=None,
            epsilon=epsilon,
            max_queries=queries,
            targeted=False,
            quantised=False,
            seed=0,
            batch_size=100,
        )
        for run, score in play_matrix(plan, chosen.out, resume=True, watch=lambda *a: a[2]):
            low, high = score.clean_interval
            clean = f"{score.clean_accuracy:.1%} [{low:.1%}, {high:.1%}]"
            robust, distance = "", ""
            if epsilon is not None:
                low, high = score.robust_intervals[epsilon]
                robust = f"{score.robust_accuracy[epsilon]:.1%} [{low:.1%}, {high:.1%}]"
            else:
                low, high = score.interval
                distance = f"{score.median_distance:.3f} [{low:.3f}, {high:.3f}]"
            print(
                f"| {run.config.model} | {attack.partition(':r')[0]} | {score.n} | {clean} "
                f"| {robust} | {distance} | {score.mean_queries:.0f} |",
                flush=True,
            )
    print(f"\n{date.today()}, {platform.machine()}, {versions_text()}")


if __name__ == "__main__":
    main()
