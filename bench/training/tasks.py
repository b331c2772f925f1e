"""What the trainings of models that are no classifiers share: parameters, card and files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from models.tasks import TaskModel

    from ..datasets.task_sets import TaskSet

MODULES = {"texture_seg": "textures", "pose": "poses"}
"""Model -> the module here that has its `train`."""


def read(name: str, training: str, params: Mapping[str, object]) -> tuple[int | None, bool]:
    """`epochs`, None where not given, and `tiny`, of `params`.

    Raises `UserError` for anything else, and for another training than `training`.
    """
    epochs: int | None = None
    for key, value in params.items():
        text = str(value).lower()
        if key == "epochs" and text.isdecimal() and int(text) > 0:
            epochs = int(text)
        elif key == "training" and text != training:
            raise UserError(f"training is {value!r}; {name} knows {training}")
        elif key not in ("training", "tiny") or (key == "tiny" and text not in ("true", "false")):
            raise UserError(
                f"can't use {key}={value}; wanted training={training}, tiny=true or false, or "
                "epochs, a whole number >= 1 of hundreds of steps"
            )
    return epochs, str(params.get("tiny", "false")).lower() == "true"


def written(
    name: str,
    dataset: str,
    recipe: Any,
    *,
    build: Callable[..., Any],
    fit: Callable[[Any], None],
    model: Callable[[Any], TaskModel],
    splits: Mapping[str, TaskSet],
    params: Mapping[str, object],
    tiny: bool,
    out: Path | None,
    seed: int,
    report: Callable[[str], None],
) -> Path:
    """Build a network, train it by `fit`, measure it on `splits`, write weights and card.

    `recipe` is a dataclass with `training` and `stored`; `model` makes a task of the network.
    Raises `UserError` for a file it can't write.
    """
    import torch

    from models.weights import write_whole
    from models.wrappers import seeded

    from ..tasks.facing import measure
    from .cards import TaskCard, packed
    from .checkpoint import checkpoint_file
    from .classifier import one_thread

    target = checkpoint_file(out, name, dataset, recipe.training, tiny=tiny)
    network = seeded(seed, lambda: build(tiny=tiny))
    with one_thread():
        start = time.process_time()
        fit(network)
        seconds = time.process_time() - start
        network.eval().requires_grad_(False)
        kept = getattr(torch, recipe.stored)
        state = {
            key: value.to(kept) if value.is_floating_point() else value
            for key, value in network.state_dict().items()
        }
        network.load_state_dict(state)
        task = model(network)
        found = {split: measure(task, samples) for split, samples in splits.items()}
    data, facts = packed(state)
    settings = "".join(f" -M {key}={str(value).lower()}" for key, value in params.items())
    card = TaskCard(
        model=name,
        dataset=dataset,
        training=recipe.training,
        seed=seed,
        command=f"tiltyard train {name} --dataset {dataset}{settings}"
        + (f" --seed {seed}" if seed else ""),
        recipe=asdict(recipe),
        measure=task.measure,
        quality={split: round(one.figure, 4) for split, one in found.items()},
        chance={split: round(one.chance, 4) for split, one in found.items()},
        samples=len(found["test"].qualities),
        torch=str(torch.__version__).partition("+")[0],
        seconds=round(seconds, 1),
        **facts,
    )
    report(
        ", ".join(f"{split}: {task.measure} {value:.3f}" for split, value in card.quality.items())
    )
    write_whole(target, data)
    card.write(target.with_suffix(".json"))
    return target
