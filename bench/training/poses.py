"""How a pose network learns: frames with labelled joints, turned, scaled, lit and with noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .tasks import read, written

if TYPE_CHECKING:
    from torch import Tensor

NAME = "pose"
DATASETS = ("generated-mice", "dlc-openfield")


@dataclass(frozen=True, kw_only=True)
class PoseRecipe:
    """Adam; the rate rises over a tenth of the steps, then falls to 0 along a cosine."""

    training: str = "plain"
    frames: int = 200
    """From the first of the training split; fewer where it has fewer."""
    steps: int = 2500
    batch_size: int = 16
    learning_rate: float = 4e-3
    """The highest."""
    rotation: float = 180.0
    """Frames are turned by up to so many degrees either way."""
    smallest: float = 0.7
    largest: float = 1.25
    """Frames are scaled by a factor between these."""
    brightness: float = 0.15
    """Is added to or taken from a frame, at most."""
    noise: float = 0.05
    """Standard deviation of the noise, at most."""
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
    """As `bench.training.train`, for pose; `epochs` are hundreds of steps.

    Raises `UserError` for another data set, an unknown parameter, or a file it can't write.
    """
    from models.pose import PoseEstimator, build

    from ..datasets import task_set

    name = dataset.replace("_", "-")
    if name not in DATASETS:
        raise UserError(f"pose is trained on {' or '.join(DATASETS)}; got {dataset!r}")
    hundreds, tiny = read(NAME, PoseRecipe.training, params)
    recipe = PoseRecipe()
    if hundreds is not None:
        recipe = replace(recipe, steps=100 * hundreds)
    samples = task_set(name, "train")
    kept = samples.rows(0, recipe.frames)
    return written(
        NAME,
        name,
        recipe,
        build=build,
        fit=lambda network: fit(
            network, kept.images, kept.targets["joints"], recipe, seed=seed, report=report
        ),
        model=PoseEstimator,
        splits={"train": kept, "test": task_set(name, "test")},
        params=params,
        tiny=tiny,
        out=out,
        seed=seed,
        report=report,
    )


def fit(
    network: Any,
    frames: Tensor,
    joints: Tensor,
    recipe: PoseRecipe,
    *,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Train a `models.pose.Network` in place; reports every hundred steps.

    Frames are (N, 3, H, W) in [0, 1], joints (N, K, 2) in their pixels.
    """
    import torch

    from models.pose import pose_loss

    generator = torch.Generator().manual_seed(seed)
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(recipe.steps, 2), pct_start=0.1
    )
    for step in range(recipe.steps):
        rows = torch.randint(len(frames), (recipe.batch_size,), generator=generator)
        images, places = moved(frames[rows], joints[rows], recipe, generator)
        scores, offsets = network(images)
        loss = pose_loss(scores, offsets, places).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            report(f"step {step + 1}: loss {loss.item():.4f}")


def moved(
    frames: Tensor, joints: Tensor, recipe: PoseRecipe, generator: Any
) -> tuple[Tensor, Tensor]:
    """Frames turned, scaled, lit and with noise, and their joints with them.

    What comes in from outside the frame repeats its edge; joints that leave it are nan.
    """
    import torch
    import torch.nn.functional as F

    count, _, height, width = frames.shape
    angle, factor, light, spread = torch.rand(4, count, generator=generator)
    angle = (2 * angle - 1) * torch.pi * recipe.rotation / 180
    factor = recipe.smallest + (recipe.largest - recipe.smallest) * factor
    turn = torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin()], -1),
            torch.stack([angle.sin(), angle.cos()], -1),
        ],
        1,
    )
    size = torch.tensor([width, height], dtype=torch.float32)
    places = (factor[:, None, None] * turn @ (joints - size / 2).mT).mT + size / 2
    back = turn.mT / factor[:, None, None]
    # The grid counts in halves of the frame, along x and y apart.
    scaled = back * (size[None, :] / size[:, None])
    grid = F.affine_grid(
        torch.cat([scaled, torch.zeros(count, 2, 1)], 2), [count, 3, height, width], False
    )
    images = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
    images = images + recipe.brightness * (2 * light - 1).view(-1, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator)
    images = images + recipe.noise * spread.view(-1, 1, 1, 1) * noise
    outside = ((places < 0) | (places > size)).any(-1, keepdim=True)
    return images.clamp(0, 1), places.masked_fill(outside, torch.nan)
