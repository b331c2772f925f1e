"""Train the autoencoders of ABS, one a class, and set its constants by data (arXiv 1805.09190)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from models import abs as zoo
from models.abs_vae.bank import SAMPLES
from models.abs_vae.confidence import floor_for, modified_softmax
from models.abs_vae.decoder import PIXELS
from models.abs_vae.network import LATENTS, VAE, Autoencoders

from ..datasets import Dataset
from ..errors import UserError
from .augment import moved
from .recipes import VAERecipe

CONFIDENCE = 0.9
"""The median of the confidences on the test images, which sets the floor of the softmax (paper)."""

SCALES = tuple(round(0.9 + 0.005 * k, 3) for k in range(41))
"""Factors of a class's cost that the line search tries."""

NOISE = 0.001
"""Share of the images by which a factor has to be better than one nearer to 1."""

CALIBRATED = 10_000
"""Training images, at most, on which the scales of the classes are searched."""

ROUNDS = 3
"""Of the line search over the classes."""


def fit(
    network: Autoencoders,
    data: Dataset,
    recipe: VAERecipe,
    *,
    seed: int,
    report: Callable[[str], None],
) -> list[float]:
    """Train in place, each autoencoder on the images of its class; their last mean losses in nats.

    Reports a line for each class.

    Raises:
        UserError: a class has no images.
    """
    images, labels = data.images, torch.from_numpy(data.labels)
    if missing := sorted(set(range(len(network.vaes))) - set(labels.tolist())):
        raise UserError(
            f"{data.name} ({data.split}) has no images of class {', '.join(map(str, missing))}; "
            "wanted some of every class, since each has an autoencoder of its own"
        )
    generator = torch.Generator().manual_seed(seed)
    network.train().to(memory_format=torch.channels_last)
    losses = []
    for label, vae in enumerate(network):
        losses.append(_fit_one(vae, images[labels == label], recipe, generator))
        report(f"class {label + 1}/{len(network.vaes)}: loss {losses[-1]:.2f} nats an image")
    network.eval()
    return losses


def _fit_one(vae: VAE, images: Tensor, recipe: VAERecipe, generator: torch.Generator) -> float:
    """Train on images (N, 1, 28, 28); the mean loss of the last epoch."""
    optimiser = torch.optim.Adam(vae.parameters(), lr=recipe.learning_rate)
    batches = math.ceil(len(images) / recipe.batch_size)
    mean = math.nan
    for epoch in range(recipe.epochs):
        total = 0.0
        order = torch.randperm(len(images), generator=generator)
        # Equal parts: a last batch of a few images would upset the batch norm.
        for place, rows in enumerate(order.tensor_split(batches)):
            done = (epoch * batches + place) / (recipe.epochs * batches)
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * _rate(done, recipe)
            inputs = moved(images[rows], recipe, generator)
            noise = torch.randn(len(rows), LATENTS, generator=generator)
            again, mean_code, log_variance = vae(inputs, noise)
            error = (again - inputs).square().sum()
            divergence = (mean_code.square() + log_variance.exp() - 1 - log_variance).sum() / 2
            loss = (error + _weight(done, recipe) * divergence) / len(rows)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        mean = total / len(images)
    return mean


def calibrate(network: Autoencoders, train: Dataset, test: Dataset) -> dict[str, dict[str, Any]]:
    """The constants of ABS ("plain") and Binary ABS ("binary"), with their accuracy on test.

    The scales of the classes are those of the highest accuracy on the training images; the floor
    of the softmax makes the median confidence on the test images 0.9. Where it is lower without any
    floor, as after a short training, the floor is 0.
    """
    return {
        "plain": _constants(network, train, test, binary=False),
        "binary": _constants(network, train, test, binary=True),
    }


def _constants(
    network: Autoencoders, train: Dataset, test: Dataset, *, binary: bool
) -> dict[str, Any]:
    seen = train.take(min(len(train), CALIBRATED))
    scales = class_scales(_costs(network, seen, "fast", binary), seen.targets)
    logits = _costs(network, test, "full", binary) * scales * (-zoo.PUBLISHED_SCALE / PIXELS)
    accuracy = float((logits.argmax(1) == test.targets).double().mean())
    unsure = float(modified_softmax(logits, 0.0).amax(1).median()) < CONFIDENCE
    floor = 0.0 if unsure else floor_for(logits, CONFIDENCE)
    return {
        "accuracy": accuracy,
        "class_scales": scales.tolist(),
        "scale": zoo.PUBLISHED_SCALE,
        "floor": floor,
        "median_confidence": round(float(modified_softmax(logits, floor).amax(1).median()), 4),
    }


def class_scales(costs: Tensor, labels: Tensor) -> Tensor:
    """Factors (K,) of costs (N, K) under which most of labels (N,) have the lowest: float64.

    A line search over one class at a time; of factors that are about as good as the best one the
    nearest to 1.
    """
    scales = torch.ones(costs.shape[1], dtype=torch.float64)
    tried = sorted(SCALES, key=lambda factor: abs(factor - 1))
    for _ in range(ROUNDS):
        for label in range(len(scales)):
            right = []
            for factor in tried:
                scales[label] = factor
                right.append(int(((costs * scales).argmin(1) == labels).sum()))
            enough = max(right) - NOISE * len(labels)
            scales[label] = next(
                factor for factor, count in zip(tried, right, strict=True) if count >= enough
            )
    return scales


def _costs(
    network: Autoencoders, data: Dataset, inference: Literal["full", "fast"], binary: bool
) -> Tensor:
    """(N, K) float64, in nats."""
    model = zoo.assemble(network, {}, binary=binary, inference=inference, samples=SAMPLES)
    parts = [model.explain(images).costs for _, images, _ in data.batches(200)]
    return torch.cat(parts).double()


def _weight(done: float, recipe: VAERecipe) -> float:
    fallen = min(1.0, done / recipe.falling)
    return recipe.first_weight + (recipe.last_weight - recipe.first_weight) * fallen


def _rate(done: float, recipe: VAERecipe) -> float:
    late = max(0.0, (done - recipe.falling) / (1 - recipe.falling))
    return 0.5 * (1 + math.cos(math.pi * late))
