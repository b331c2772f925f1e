"""Fresh classifiers on a code: how much of the class can be read from it, by whom.

A nuisance classifier that a network was trained against says little, since the network has learnt
to deceive just that one. A probe is trained afterwards, on the frozen network's codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Probe = Literal["mlp", "linear", "nearest neighbour"]
PROBES: tuple[Probe, ...] = ("mlp", "linear", "nearest neighbour")

WIDTH = 512
EPOCHS: Mapping[str, int] = {"mlp": 30, "linear": 100}
BATCH = 100


def accuracy(
    probe: Probe,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    classes: int,
    seed: int = 0,
) -> float:
    """Share of the test codes that a probe, trained on the others, gives their class.

    Codes are standardised by the training codes' mean and deviation, coordinate by coordinate.

    Args:
        probe: an MLP with two hidden layers of 512, softmax regression (by Adam, 30 and 100
            passes), or the nearest training code.
        train, test: codes (N,D) float32 and labels (N,) int64.
        classes: K.
        seed: of weights and order.
    """
    codes, labels = train
    mean, deviation = codes.mean(0), codes.std(0).clamp_min(1e-6)
    codes, asked = (codes - mean) / deviation, (test[0] - mean) / deviation
    if probe == "nearest neighbour":
        nearest = torch.cat([torch.cdist(part, codes).argmin(1) for part in asked.split(500)])
        answers = labels[nearest]
    else:
        answers = _fitted(probe, codes, labels, classes, seed)(asked).argmax(1)
    return float((answers == test[1]).double().mean())


def _fitted(probe: str, codes: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = _network(probe, codes.shape[1], classes)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(EPOCHS[probe]):
        for rows in torch.randperm(len(codes), generator=generator).split(BATCH):
            loss = F.cross_entropy(network(codes[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval().requires_grad_(False)


def _network(probe: str, entering: int, classes: int) -> nn.Module:
    if probe == "linear":
        return nn.Linear(entering, classes)
    return nn.Sequential(
        nn.Linear(entering, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, classes),
    )
