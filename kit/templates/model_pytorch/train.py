"""Train the weights of model.py: `python train.py`, a few minutes on one core.

Every image is shifted by up to two pixels and nudged by up to 2 (L2, values in [0,1]) in the
direction that raises the loss most: training on its own worst cases makes a model robust.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from model import network  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor, nn
from torch.nn import functional as F

from bench.datasets import dataset

BATCH = 100
NUDGE = 2.0
RATE = 4e-3


def main() -> None:
    """Train, store, and say how good it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights.npz"))
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    mine = network()
    data = dataset("mnist5k", split="train")
    train(mine, data.images, data.targets, options.epochs)
    values = {name: value.numpy() for name, value in mine.state_dict().items()}
    np.savez_compressed(options.out, **values)
    test = dataset("mnist5k", split="test")
    with torch.no_grad():
        right = (mine(test.images).argmax(1) == test.targets).float().mean()
    print(f"accuracy on the test split: {float(right):.3f}")
    print(f"written: {options.out}")


def train(mine: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Images (N,1,28,28) in [0,1] and labels (N,): cross-entropy by Adam, rate along a cosine."""
    optimiser = torch.optim.Adam(mine.parameters(), lr=RATE)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(images)).split(BATCH):
            asked = nudged(mine, shifted(images[rows]), labels[rows])
            optimiser.zero_grad()
            F.cross_entropy(mine(asked), labels[rows]).backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch} of {epochs}", flush=True)


def nudged(mine: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Move each image by a random length up to NUDGE where the loss rises most."""
    asked = images.clone().requires_grad_(True)
    loss = F.cross_entropy(mine(asked), labels, reduction="sum")
    slope: Tensor = torch.autograd.grad(loss, asked)[0]
    length = slope.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    moved: Tensor = images + NUDGE * torch.rand(len(images), 1, 1, 1) * slope / length
    return moved.clamp(0, 1)


def shifted(images: Tensor) -> Tensor:
    """Shift each image (N,1,28,28) by up to two pixels each way, black where nothing was."""
    padded = F.pad(images, (2, 2, 2, 2))
    moves = torch.randint(0, 5, (len(images), 2)).tolist()
    moved = [p[:, d : d + 28, r : r + 28] for p, (d, r) in zip(padded, moves, strict=True)]
    return torch.stack(moved)


if __name__ == "__main__":
    main()
