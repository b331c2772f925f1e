"""Train an invertible network: cross-entropy, likelihood, independence (arXiv 1811.00401).

The loss is the sum of up to three terms, each with a weight of the recipe:

- the cross-entropy of the logits (the paper's L_sCE);
- the negative logarithm of the likelihood, in nats a dimension (L_MLE);
- independence (L_nCE): a nuisance classifier is trained on the nuisance all along, and the network
  against it. Definition 4 has the network raise the classifier's cross-entropy, which has no upper
  bound; we lower the cross-entropy between its answer and the uniform distribution instead, which
  has the same optimum, log K, and a minimum. (The public code permutes the labels of a batch; in
  expectation over permutations of a balanced batch that is the same.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.irevnet.network import InvertibleNetwork
from models.wrappers import seeded

from ..datasets import Dataset
from .augment import moved
from .recipes import InvertibleRecipe

WARM_UP = 100
"""Steps over which the learning rate rises."""

LONGEST = 5.0
"""A gradient that is longer is shortened to this."""


def fit(
    network: InvertibleNetwork,
    data: Dataset,
    recipe: InvertibleRecipe,
    *,
    seed: int,
    report: Callable[[str], None],
) -> list[float]:
    """Train `network` in place; returns the mean loss of every epoch and reports each in a line."""
    images, labels = data.images, data.targets
    game = Game(network, recipe, seed)
    parts = math.ceil(len(data) / recipe.batch_size)
    losses: list[float] = []
    network.train()
    for epoch in range(recipe.epochs):
        totals = torch.zeros(4, dtype=torch.float64)
        # Equal parts: a last batch of a few images would upset the batch norms.
        order = torch.randperm(len(data), generator=game.generator).tensor_split(parts)
        for place, rows in enumerate(order):
            step = epoch * parts + place
            inputs = images[rows]
            if recipe.moves:
                inputs = moved(inputs, recipe, game.generator)
            totals += game.step(inputs, labels[rows], step, recipe.epochs * parts) / parts
        losses.append(float(totals[0]))
        terms = ", ".join(
            f"{name} {float(value):.3f}"
            for name, value, used in zip(
                ("cross-entropy", "nats a dimension", "nuisance classifier's cross-entropy"),
                totals[1:],
                (recipe.cross_entropy, recipe.likelihood, recipe.independence),
                strict=True,
            )
            if used
        )
        report(f"epoch {epoch + 1}/{recipe.epochs}: loss {losses[-1]:.3f} ({terms})")
    network.eval()
    return losses


class Game:
    """The network, and the nuisance classifier that it is trained against."""

    def __init__(self, network: InvertibleNetwork, recipe: InvertibleRecipe, seed: int) -> None:
        self.network, self.recipe = network, recipe
        self.generator = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.Adamax(network.parameters(), lr=recipe.learning_rate)
        self.rival: nn.Module | None = None
        if recipe.independence:
            self.rival = seeded(seed, lambda: nuisance_classifier(network, recipe.rival_width))
            self.rival_optimiser = torch.optim.Adam(self.rival.parameters(), lr=recipe.rival_rate)

    def step(self, images: Tensor, labels: Tensor, step: int, steps: int) -> Tensor:
        """One update; the loss, and its three terms without weights: (4,) float64."""
        recipe, network = self.recipe, self.network
        inputs = network.pad(images)
        inputs = inputs + recipe.noise * torch.randn(inputs.shape, generator=self.generator)
        code, volume = network.encode_padded(inputs)
        zero = torch.zeros(())
        sharp = F.cross_entropy(network.logits(code), labels) if recipe.cross_entropy else zero
        nats = zero
        if recipe.likelihood:
            nats = -network.log_likelihood(code, volume).mean() / network.dimensions
        loss = recipe.cross_entropy * sharp + recipe.likelihood * nats
        read = zero
        if self.rival is not None:
            read = self._train_rival(code.nuisance.detach(), labels)
            ramp = min(1.0, (step + 1) / max(1.0, recipe.ramp * steps))
            loss = loss + recipe.independence * ramp * _confusion(self.rival, code.nuisance)
        rate = recipe.learning_rate * _rate(step, steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), LONGEST)
        self.optimiser.step()
        if recipe.weight_decay:
            with torch.no_grad():
                for weights in network.body.parameters():
                    weights.mul_(1 - rate * recipe.weight_decay)
        return torch.stack([loss.detach(), sharp.detach(), nats.detach(), read]).double()

    def _train_rival(self, nuisance: Tensor, labels: Tensor) -> Tensor:
        """Update it; its cross-entropy before, on codes that it had not yet learnt."""
        assert self.rival is not None
        losses = []
        for _ in range(self.recipe.rival_steps):
            losses.append(F.cross_entropy(self.rival(nuisance), labels))
            self.rival_optimiser.zero_grad()
            losses[-1].backward()
            self.rival_optimiser.step()
        return losses[0].detach()


@torch.no_grad()
def inversion(
    network: InvertibleNetwork, data: Dataset, recipe: InvertibleRecipe
) -> dict[str, float]:
    """Largest error of a decoded pixel, and negative log-likelihood in nats a dimension."""
    generator = torch.Generator().manual_seed(0)
    error, nats = 0.0, 0.0
    for _, images, _ in data.batches(100):
        inputs = network.pad(images)
        code, _ = network.encode_padded(inputs)
        error = max(error, float((network.decode_padded(code) - inputs).abs().max()))
        noisy = inputs + recipe.noise * torch.randn(inputs.shape, generator=generator)
        likelihood = network.log_likelihood(*network.encode_padded(noisy))
        nats -= float(likelihood.sum()) / network.dimensions
    return {"largest_error": error, "nats_a_dimension": round(nats / len(data), 4)}


def nuisance_classifier(network: InvertibleNetwork, width: int) -> nn.Module:
    """An untrained one: nuisance (N, D - K) -> logits (N, K).

    Its input is normalised over the batch, so that a network can't win by making the nuisance
    large.
    """
    entering = network.dimensions - network.classes
    return nn.Sequential(
        nn.BatchNorm1d(entering, affine=False),
        nn.Linear(entering, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, network.classes),
    )


def _confusion(rival: nn.Module, nuisance: Tensor) -> Tensor:
    """Cross-entropy between the uniform distribution and its answer; log K if these are equal."""
    rival.requires_grad_(False)
    answer = -F.log_softmax(rival(nuisance), 1).mean()
    rival.requires_grad_(True)
    return answer


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 5)))
    return warm * 0.5 * (1 + math.cos(math.pi * step / steps))
