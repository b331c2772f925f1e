"""ABS inference beside the authors' public algorithm: CPU seconds, objectives, decisions.

    python benchmarks/abs_inference.py [--weights FILE] [--images 100] [--single 5]

Both sides explain the same images of mnist5k by the same weights, in one run: the shipped ones, or
those of a safetensors file. The public algorithm starts from 8,000 samples and takes 49 steps of
Adam for every class. Its parameters want gradients, which nobody uses, as in the public code; a row
of its own has them frozen. A third row keeps the signs that the public code drops where latents
leave the ball. Costs are in nats; logits are compared as the public code gives them, divided by the
784 pixels. Making the banks is not timed.

The second table says where our time goes, by timers around the parts.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, Literal

import torch
from torch import Tensor

import bench
from bench.runs import versions_text
from models import abs as zoo
from models.abs_vae.bank import SAMPLES, Bank
from models.abs_vae.decoder import PIXELS, Decoders
from models.abs_vae.inference import Explanation, Inference
from models.abs_vae.public_algorithm import PublicAlgorithm

PARTS: tuple[tuple[str, Any, str], ...] = (
    ("samples looked up", Bank, "nearest"),
    ("decoding", Decoders, "decode"),
    ("gradients pulled back", Decoders, "pull_back"),
)

Explain = Callable[[Tensor], Explanation]


def cpu(explain: Explain, images: Tensor) -> tuple[Explanation, float]:
    """What is found, and its CPU seconds."""
    started = time.process_time()
    found = explain(images)
    return found, time.process_time() - started


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Meanwhile every part adds its CPU seconds to its name."""
    inner = [getattr(owner, name) for _, owner, name in PARTS]

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            started = time.process_time()
            out = function(*given)
            seconds[part] = seconds.get(part, 0.0) + time.process_time() - started
            return out

        return call

    for (part, owner, name), function in zip(PARTS, inner, strict=True):
        setattr(owner, name, watched(part, function))
    try:
        yield
    finally:
        for (_, owner, name), function in zip(PARTS, inner, strict=True):
            setattr(owner, name, function)


def public(weights: str | None) -> Callable[[bool, bool], Explain]:
    """The authors' algorithm by whether it drops signs and whether its parameters are frozen."""
    made = zoo.create(weights=weights, inference="public").inference
    assert isinstance(made, PublicAlgorithm)

    def kind(drop_signs: bool, frozen: bool) -> Explain:
        def explain(images: Tensor) -> Explanation:
            made.drop_signs = drop_signs
            for vae in made.vaes:
                vae.requires_grad_(not frozen)
            return made.explain(images)

        return explain

    return kind


def ours(weights: str | None, kind: Literal["full", "fast"]) -> Inference:
    """Our own, in full or fast."""
    made = zoo.create(weights=weights, inference=kind).inference
    assert isinstance(made, Inference)
    return made


def compare(weights: str | None, images: Tensor, labels: Tensor, single: int) -> None:
    """Print the table of both sides."""
    theirs_as = public(weights)
    sides: list[tuple[str, Explain]] = [
        ("public", theirs_as(True, False)),
        ("public, parameters frozen", theirs_as(True, True)),
        ("public, signs kept", theirs_as(False, True)),
        ("ours, full", ours(weights, "full").explain),
        ("ours, fast", ours(weights, "fast").explain),
    ]
    print(
        f"| inference | CPU s, {len(images)} images | ratio | CPU s, one image | ratio "
        "| true class | all classes | right | as public | logits from public | from signs kept "
        "| evaluations |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    for name, explain in sides:
        explain(images[:1])  # whatever happens only once
        found, batch = cpu(explain, images)
        alone = [cpu(explain, image.unsqueeze(0))[1] for image in images[:single]]
        results.append((name, found, batch, sum(alone) / len(alone)))
    _, theirs, whole, one = results[0]
    kept = results[2][1]
    for name, found, batch, alone_mean in results:
        decided = found.costs.argmin(1)
        print(
            f"| {name} | {batch:.2f} | {whole / batch:.1f}x | {alone_mean:.3f} | "
            f"{one / alone_mean:.1f}x | {found.costs.gather(1, labels[:, None]).mean():.3f} | "
            f"{found.costs.mean():.3f} | {share(decided == labels)} | "
            f"{share(decided == theirs.costs.argmin(1))} | {largest(found, theirs):.1e} | "
            f"{largest(found, kept):.1e} | {found.evaluations.double().mean():.1f} |",
            flush=True,
        )


def share(holds: Tensor) -> str:
    """In per cent."""
    return f"{100 * float(holds.double().mean()):.1f} %"


def largest(found: Explanation, other: Explanation) -> float:
    """The largest difference of two logits, divided by the pixels."""
    return float((found.costs - other.costs).abs().max()) / PIXELS


def parts(weights: str | None, images: Tensor, single: int) -> None:
    """Print where our time goes."""
    inference = ours(weights, "full")
    print(f"\n| part | share, {len(images)} images | share, one image |")
    print("|---|---|---|", flush=True)
    columns: list[list[float]] = []
    for batches in ([images], [image.unsqueeze(0) for image in images[:single]]):
        seconds: dict[str, float] = {}
        started = time.process_time()
        with timed(seconds):
            for batch in batches:
                inference.explain(batch)
        total = time.process_time() - started
        inside = [seconds[part] for part, _, _ in PARTS]
        columns.append([value / total for value in (*inside, total - sum(inside))])
    for place, name in enumerate([*(part for part, _, _ in PARTS), "the rest"]):
        print(f"| {name} | {columns[0][place]:.0%} | {columns[1][place]:.0%} |")
    whole = len(inference.bank.energies) * SAMPLES * PIXELS * 4 / 1e6
    print(f"\nbank: {inference.bank.megabytes:.1f} MB; whole images: {whole:.0f} MB")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="a safetensors file with its card; the shipped one")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--single", type=int, default=5, help="images explained one by one")
    chosen = parser.parse_args()
    data = bench.dataset("mnist5k", split="test").take(chosen.images)
    images = data.images.flatten(1)
    compare(chosen.weights, images, data.targets, chosen.single)
    parts(chosen.weights, images, chosen.single)
    print(
        f"\n{date.today()}, {platform.machine()}, {torch.get_num_threads()} thread(s), "
        + versions_text()
    )


if __name__ == "__main__":
    main()
