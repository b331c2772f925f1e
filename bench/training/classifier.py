"""Train a classifier by a recipe, on one thread, so that the same seed gives the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets import Dataset
from .augment import moved
from .pgd import linf_pgd
from .recipes import ClassifierRecipe, Recipe

EVALUATION_RADIUS = 0.3
"""Where a network is attacked that was not trained against attacks of another radius."""
EVALUATION_STEPS = 40


def evaluation_attack(epsilon: float = EVALUATION_RADIUS) -> str:
    """What robust accuracy is measured with, in words."""
    step = _evaluation_step(epsilon)
    return f"PGD, Linf {epsilon:g}, {EVALUATION_STEPS} steps of {step:.3g}, one random start"


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread meanwhile: sums in another order would give other weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit(
    network: nn.Module,
    data: Dataset,
    recipe: ClassifierRecipe,
    *,
    seed: int,
    report: Callable[[str], None],
) -> list[float]:
    """Train `network` in place; returns the mean loss of every epoch and reports each in a line."""
    images, labels = data.images, torch.from_numpy(data.labels)
    generator = torch.Generator().manual_seed(seed)

    def order(epoch: int) -> Sequence[Tensor]:
        rows: Sequence[Tensor] = torch.randperm(len(data), generator=generator).split(
            recipe.batch_size
        )
        return rows

    def batch(rows: Tensor, done: float) -> tuple[Tensor, Tensor]:
        inputs, targets = moved(images[rows], recipe, generator), labels[rows]
        if recipe.noise:
            inputs = _noisy(inputs, recipe.noise, generator)
        if recipe.epsilon:
            inputs = _attacked(network, inputs, targets, recipe, done, generator)
        return inputs, targets

    return descend(network, recipe, order, batch, report)


def descend(
    network: nn.Module,
    recipe: Recipe,
    order: Callable[[int], Sequence[Tensor]],
    batch: Callable[[Tensor, float], tuple[Tensor, Tensor]],
    report: Callable[[str], None],
) -> list[float]:
    """Minimise the cross-entropy by Adam; the mean loss of every epoch, each reported in a line.

    Args:
        network: trained in place, in evaluation mode afterwards.
        recipe: epochs and highest learning rate; it rises over the first 5 % of the steps and
            falls to 0 along a cosine.
        order: the batches of an epoch as indices (n,), as many in each epoch.
        batch: inputs and labels of some indices, given the fraction of all steps that is done.
        report: told the loss.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    losses: list[float] = []
    network.train()
    for epoch in range(recipe.epochs):
        total = count = 0.0
        batches = order(epoch)
        for place, rows in enumerate(batches):
            done = (epoch * len(batches) + place) / (recipe.epochs * len(batches))
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * one_cycle(done)
            inputs, targets = batch(rows, done)
            loss = F.cross_entropy(network(inputs), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
            count += len(rows)
        losses.append(total / count)
        report(f"epoch {epoch + 1}/{recipe.epochs}: loss {losses[-1]:.3f}")
    network.eval()
    return losses


def evaluate(
    network: Callable[[Tensor], Tensor],
    data: Dataset,
    *,
    seed: int,
    epsilon: float = EVALUATION_RADIUS,
) -> tuple[float, float]:
    """(clean accuracy, robust accuracy) on all images of `data`.

    Robust means right on the image and after `evaluation_attack(epsilon)`.
    """
    step = _evaluation_step(epsilon)
    generator = torch.Generator().manual_seed(seed)
    clean = robust = 0
    for _, images, targets in data.batches(100):
        adversarials = linf_pgd(
            network,
            images,
            targets,
            epsilon=epsilon,
            step=step,
            steps=EVALUATION_STEPS,
            generator=generator,
        )
        with torch.no_grad():
            right = network(images).argmax(dim=1) == targets
            still = network(adversarials).argmax(dim=1) == targets
        clean += int(right.sum())
        robust += int((right & still).sum())
    return clean / len(data), robust / len(data)


def _evaluation_step(epsilon: float) -> float:
    return epsilon / 30


def _noisy(images: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise on images (N,C,H,W), its size drawn for each from 0 to `largest`."""
    sizes = torch.rand(len(images), 1, 1, 1, generator=generator) * largest
    noise = torch.randn(images.shape, generator=generator)
    return (images + sizes * noise).clamp(0.0, 1.0)


def _attacked(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: ClassifierRecipe,
    done: float,
    generator: torch.Generator,
) -> Tensor:
    grown = min(1.0, done / recipe.warm_up) if recipe.warm_up else 1.0
    epsilon = recipe.epsilon * grown
    return linf_pgd(
        network,
        images,
        labels,
        epsilon=epsilon,
        step=epsilon * recipe.relative_step,
        steps=recipe.attack_steps,
        generator=generator,
    )


def one_cycle(done: float) -> float:
    """Factor of the learning rate when this fraction of all steps is done."""
    return min(1.0, done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))
