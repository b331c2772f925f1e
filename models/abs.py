"""ABS and Binary ABS: classify by the class that explains an image best (arXiv 1805.09190).

One variational autoencoder a class. An image's label is the class whose decoder comes closest to
it, over all latents, weighed by how likely those are. Robust in L2 and, binarised, in L0; not in
Linf.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch

from .abs_vae.bank import SAMPLES, bank_of
from .abs_vae.classifier import AnalysisBySynthesis
from .abs_vae.convert import PUBLISHED_FLOOR, PUBLISHED_SCALE, convert
from .abs_vae.decoder import Decoders
from .abs_vae.inference import Inference
from .abs_vae.network import CLASSES, IMAGE_SHAPE, Autoencoders
from .abs_vae.public_algorithm import PublicAlgorithm
from .errors import UsageError
from .weights import card, fill, find, load_verified
from .wrappers import seeded

__all__ = ["CLASSES", "IMAGE_SHAPE", "PUBLISHED_SCALE", "assemble", "build", "convert", "create"]

Kinds = Literal["full", "fast", "public"]
"""Of inference; see `create`."""

FAST_MARGIN = 10.0
"""Of inference="fast", in nats: classes whose sample costs at most that much more are refined."""

TINY_SAMPLES = 64


def create(
    *,
    dataset: str = "mnist5k",
    binary: bool = False,
    inference: Literal["full", "fast", "public"] = "full",
    samples: int | None = None,
    weights: str | None = None,
    tiny: bool = False,
    seed: int = 0,
) -> AnalysisBySynthesis:
    """The trained model: images float32 (N,1,28,28) in [0,1] -> logits (N,10), float32.

    Args:
        dataset: that it was trained on.
        binary: binarise images at 0.5 (Binary ABS); the weights are the same.
        inference: "full" refines every class until it has converged, and is what scores are made
            with. "fast" refines only classes that can still win, those as far: for searches whose
            finds are verified by the full one. "public" is the authors' public algorithm to the
            letter, loops and dropped signs included, 10 to 30 times slower.
        samples: of the prior, to start from; 8,000, or 64 of a dwarf.
        weights: a safetensors file with a card, instead of `dataset`.
        tiny: a dwarf with narrow layers; without `weights` it has random ones from `seed`.
        seed: of an untrained dwarf.

    Raises:
        UsageError: weights are missing, changed, or another network's; fewer than 1 sample; an
            unknown inference.
    """
    if samples is not None and samples < 1:
        raise UsageError(f"got samples={samples}; wanted at least 1")
    if inference not in get_args(Kinds):
        raise UsageError(f"got inference={inference!r}; wanted {', '.join(get_args(Kinds))}")
    network = seeded(seed, lambda: build(tiny=tiny))
    calibration: dict[str, object] = {}
    if weights is not None or not tiny:
        path = Path(weights) if weights is not None else find("abs", dataset, "vae")
        fill(network, load_verified(path), source=path)
        calibration = _calibration(path, "binary" if binary else "plain")
    return assemble(
        network,
        calibration,
        binary=binary,
        inference=inference,
        samples=samples or (TINY_SAMPLES if tiny else SAMPLES),
    )


def assemble(
    network: Autoencoders,
    calibration: dict[str, object],
    *,
    binary: bool,
    inference: Kinds,
    samples: int,
) -> AnalysisBySynthesis:
    """The classifier of trained autoencoders, which are frozen.

    `calibration` may have `scale`, `floor` and `class_scales`; else they are the published
    constants, and ones.
    """
    network.eval().requires_grad_(False)
    scales = calibration.get("class_scales", [1.0] * len(network.vaes))
    return AnalysisBySynthesis(
        inference=_inference(network, inference, samples),
        class_scales=torch.tensor(scales, dtype=torch.float32),
        scale=float(str(calibration.get("scale", PUBLISHED_SCALE))),
        floor=float(str(calibration.get("floor", PUBLISHED_FLOOR))),
        binary=binary,
    )


def build(*, tiny: bool = False) -> Autoencoders:
    """The untrained autoencoders, in training mode, as `bench.training` wants them."""
    return Autoencoders(narrow=8 if tiny else 1)


def _inference(network: Autoencoders, kind: Kinds, samples: int) -> Inference | PublicAlgorithm:
    vaes = list(network)
    if kind == "public":
        return PublicAlgorithm(vaes, samples=samples)
    decoders = Decoders.of(vaes)
    bank = bank_of(decoders, samples)
    if kind == "fast":
        return Inference(decoders, bank, margin=FAST_MARGIN)
    return Inference(decoders, bank)


def _calibration(path: Path, kind: str) -> dict[str, object]:
    """What the card says of it, {"plain": {...}, "binary": {...}}; nothing if it says nothing.

    Raises:
        UsageError: it says something else; the published constants would be silently wrong.
    """
    found = card(path).get("calibration")
    if found is None:
        return {}
    chosen = found.get(kind) if isinstance(found, dict) else None
    numbers = [chosen.get("scale"), chosen.get("floor")] if isinstance(chosen, dict) else [None]
    scales = chosen.get("class_scales") if isinstance(chosen, dict) else None
    numbers += scales if isinstance(scales, list) and len(scales) == CLASSES else [None]
    if not isinstance(chosen, dict) or not all(isinstance(n, int | float) for n in numbers):
        raise UsageError(
            f"the calibration of {path.with_suffix('.json')} can't be read; wanted numbers scale "
            f"and floor and {CLASSES} class_scales under {kind!r}: train or convert again"
        )
    return dict(chosen)
