"""Train texture_seg: first to tell textures apart, then to find one in a collage (1807.02654).

The first part stands for the ImageNet weights that the paper's encoder starts from. Without it
the network ignores its reference: both halves of the balanced loss stay at chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from .tasks import read, written

NAME = "texture_seg"


@dataclass(frozen=True, kw_only=True)
class TextureRecipe:
    """Adam, twice; of the second part the rate rises over a tenth of the steps, then falls."""

    training: str = "plain"
    instances: int = 24
    """Textures of each training family."""
    contrast_steps: int = 350
    """Of the first part: cuts of textures, sorted by which texture they are of."""
    contrast_batch: int = 32
    sharpness: float = 16.0
    """Factor on the cosines of the first part's softmax."""
    steps: int = 500
    """Of the second part: collages."""
    batch_size: int = 8
    learning_rate: float = 2e-3
    """The highest."""
    stored: str = "float16"
    """Weights are rounded to this before anything is measured, and kept so on disk."""


def train(
    dataset: str,
    *,
    out: Path | None,
    params: Mapping[str, object],
    seed: int,
    report: Callable[[str], None],
) -> Path:
    """As `bench.training.train`, for texture_seg; `epochs` are hundreds of steps of both parts.

    Raises `UserError` for another data set, an unknown parameter, or a file it can't write.
    """
    from models.texture_seg import TASK_SET, TextureSegmenter, build

    from ..datasets import task_set

    if dataset.replace("_", "-") != TASK_SET:
        raise UserError(f"texture_seg is trained on {TASK_SET}; got {dataset!r}")
    recipe = TextureRecipe()
    hundreds, tiny = read(NAME, recipe.training, params)
    if hundreds is not None:
        recipe = replace(recipe, contrast_steps=100 * hundreds, steps=100 * hundreds)
    return written(
        NAME,
        TASK_SET,
        recipe,
        build=build,
        fit=lambda network: fit(network, recipe, seed, report),
        model=TextureSegmenter,
        splits={
            split: task_set(TASK_SET, split) for split in ("train", "new", "test", "photographs")
        },
        params=params,
        tiny=tiny,
        out=out,
        seed=seed,
        report=report,
    )


def fit(network: Any, recipe: TextureRecipe, seed: int, report: Callable[[str], None]) -> None:
    """Train a `models.texture_seg.Network` in place; reports every hundred steps."""
    import torch
    from torch.nn import functional as F

    from models.texture_seg import REFERENCE, SCENE, balanced_loss

    from ..textures import TRAINING, cuts, draw_collages, make_bank

    bank = make_bank(TRAINING, each=recipe.instances, seed=0)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    width = network.encoder.embed[0].out_channels
    centres = (0.1 * torch.randn(len(bank), width, generator=generator)).requires_grad_()
    rate = recipe.learning_rate
    optimiser = torch.optim.Adam([*network.encoder.parameters(), centres], rate)
    for step in range(recipe.contrast_steps):
        which = torch.randint(len(bank), (recipe.contrast_batch,), generator=generator)
        _, embedded = network.encoder(cuts(bank, which, REFERENCE, generator)[:, None])
        pooled = F.normalize(embedded.mean((2, 3)), dim=1)
        cosines = pooled @ F.normalize(centres, dim=1).T
        loss = F.cross_entropy(recipe.sharpness * cosines, which)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 100 == 0:
            report(f"telling textures apart, step {step + 1}: loss {loss.item():.3f}")
    optimiser = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=max(recipe.steps, 2), pct_start=0.1
    )
    for step in range(recipe.steps):
        drawn = draw_collages(
            bank, recipe.batch_size, generator=generator, side=SCENE, patch=REFERENCE
        )
        loss = balanced_loss(network(drawn.scenes, drawn.references), drawn.masks).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            report(f"collages, step {step + 1}: loss {loss.item():.3f}")
