"""What metamers cost, in forward passes of the network itself, side by side in one run.

    python benchmarks/metamers.py [--repeats 15] [--imagenet]

For each network: the median time of a forward pass over a batch, of metameric sampling of the same
batch, their ratio, and the error of what was encoded and decoded again. Weights are random: they
don't change the cost. `--imagenet` adds the bijective i-RevNet for 224x224 in full (122 million
numbers).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
from torch import nn

from attacks.metamers import metameric_sampling
from bench.runs import versions_text
from models.irevnet import architectures
from models.irevnet.classifier import InvertibleClassifier
from models.irevnet.network import InvertibleNetwork
from models.wrappers import seeded

NETWORKS: dict[str, tuple[Callable[[], InvertibleNetwork], int]] = {
    "irevnet": (architectures.small, 100),
    "fi_revnet48": (architectures.published, 100),
}
IMAGENET = ("i-RevNet, 224x224", (architectures.imagenet, 4))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--imagenet", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | numbers | images | forward, ms | metamers, ms | forward passes | error |")
    print("|---|---|---|---|---|---|---|")
    for name, (build, n) in [*NETWORKS.items(), *([IMAGENET] if chosen.imagenet else [])]:
        network = seeded(0, build)
        _randomise(network)
        model = InvertibleClassifier(network)
        images = torch.rand(n, *network.image_shape, generator=torch.Generator().manual_seed(0))
        donors = torch.arange(n).roll(1)
        forward, metamers = _alternately(
            lambda m=model, x=images: m(x),  # type: ignore[misc]
            lambda m=model, x=images, d=donors: metameric_sampling(m, x, d),  # type: ignore[misc]
            chosen.repeats,
        )
        error = float((model.decode(*model.encode(images)) - images).abs().max())
        numbers = sum(p.numel() for p in network.parameters())
        print(
            f"| {name} | {numbers:,} | {n} | {1e3 * forward:.1f} | {1e3 * metamers:.1f} "
            f"| {metamers / forward:.2f} | {error:.1g} |",
            flush=True,
        )
    print(f"\n{date.today()}, one thread, {platform.machine()}, {versions_text()}")


def _alternately(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of both, taken by turns."""
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for round_ in range(repeats + 1):
            for work, kept in zip((first, second), times, strict=True):
                started = time.perf_counter()
                work()
                if round_:  # the first round warms up
                    kept.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def _randomise(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


if __name__ == "__main__":
    main()
