"""Train texture_seg: first to tell textures apart, then to find one in a collage (1807.02654).

The first part stands for the ImageNet weights that the paper's encoder starts from. Without it
the network ignores its reference: both halves of the balanced loss stay at chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError

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
    import torch

    from models.texture_seg import TASK_SET, TextureSegmenter, build
    from models.weights import write_whole
    from models.wrappers import seeded

    from ..datasets import task_set
    from ..tasks.facing import measure
    from .cards import TaskCard, packed
    from .checkpoint import checkpoint_file
    from .classifier import one_thread

    if dataset.replace("_", "-") != TASK_SET:
        raise UserError(f"texture_seg is trained on {TASK_SET}; got {dataset!r}")
    recipe, tiny = _read(params)
    target = checkpoint_file(out, NAME, TASK_SET, recipe.training, tiny=tiny)
    network = seeded(seed, lambda: build(tiny=tiny))
    with one_thread():
        start = time.process_time()
        fit(network, recipe, seed, report)
        seconds = time.process_time() - start
        network.eval().requires_grad_(False)
        state = {
            key: value.half() if value.is_floating_point() else value
            for key, value in network.state_dict().items()
        }
        network.load_state_dict(state)
        model = TextureSegmenter(network)
        found = {
            split: measure(model, task_set(TASK_SET, split))
            for split in ("train", "new", "test", "photographs")
        }
    data, facts = packed(state)
    settings = "".join(f" -M {key}={str(value).lower()}" for key, value in params.items())
    card = TaskCard(
        model=NAME,
        dataset=TASK_SET,
        training=recipe.training,
        seed=seed,
        command=f"tiltyard train {NAME} --dataset {TASK_SET}{settings}"
        + (f" --seed {seed}" if seed else ""),
        recipe=asdict(recipe),
        measure=model.measure,
        quality={split: round(one.figure, 4) for split, one in found.items()},
        chance={split: round(one.chance, 4) for split, one in found.items()},
        samples=len(found["test"].qualities),
        torch=str(torch.__version__).partition("+")[0],
        seconds=round(seconds, 1),
        **facts,
    )
    report(", ".join(f"{split}: IoU {iou:.3f}" for split, iou in card.quality.items()))
    write_whole(target, data)
    card.write(target.with_suffix(".json"))
    return target


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


def _read(params: Mapping[str, object]) -> tuple[TextureRecipe, bool]:
    recipe = TextureRecipe()
    for key, value in params.items():
        text = str(value).lower()
        if key == "epochs" and text.isdecimal() and int(text) > 0:
            hundreds = 100 * int(text)
            recipe = replace(recipe, contrast_steps=hundreds, steps=hundreds)
        elif key == "training" and text != recipe.training:
            raise UserError(f"training is {value!r}; texture_seg knows {recipe.training}")
        elif key not in ("training", "tiny") or (key == "tiny" and text not in ("true", "false")):
            raise UserError(
                f"can't use {key}={value}; wanted training=plain, tiny=true or false, or "
                "epochs, a whole number >= 1 of hundreds of steps"
            )
    return recipe, str(params.get("tiny", "false")).lower() == "true"
