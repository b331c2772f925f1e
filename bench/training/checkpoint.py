"""From a model's name and a data set's to weights on disk with a card beside them."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..datasets import dataset as load_dataset
from ..errors import UserError
from . import tasks
from .recipes import (
    ClassifierRecipe,
    DistortionRecipe,
    InvertibleRecipe,
    Recipe,
    VAERecipe,
    recipes,
)

if TYPE_CHECKING:
    from ..datasets import Dataset

PARAMETERS = {
    "training": "plain, pgd, vae, uniform-noise, ...",
    "epochs": "a number >= 1",
    "tiny": "true or false",
}
"""What `-M key=value` may set for a training, and to what."""


def parameters() -> dict[str, str]:
    """The parameters of a training: name -> what it may be."""
    return dict(PARAMETERS)


def train(
    model: str,
    dataset: str,
    *,
    out: Path | None = None,
    params: Mapping[str, object] | None = None,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train `model` on `dataset`'s train split, measure it on the test split, write both files.

    `params`: `training` ("plain", "pgd", for abs "vae"; `recipes` has all of a model), `epochs`,
    `tiny` (the model's dwarf), as text or as values. `out` is the safetensors file; without it the
    user's cache folder is written to, where `models.create` finds it. `report` gets a line for
    every epoch, or class. The same arguments give the same weights. Returns the path of the
    weights; the card lies beside it as `.json`.

    Raises `UserError` for an unknown name or parameter, a model that can't be trained here, a data
    set that doesn't fit it, or an `out` that is no .safetensors file.
    """
    name = model.replace("-", "_")
    zoo = _trainable(name)
    if name in tasks.MODULES:
        module = import_module(f".{tasks.MODULES[name]}", __package__)
        made: Path = module.train(dataset, out=out, params=params or {}, seed=seed, report=report)
        return made
    recipe, tiny = _read(params or {}, name, dataset, zoo)
    target = checkpoint_file(out, name, dataset, recipe.training, tiny=tiny)
    train_data, test_data = load_dataset(dataset, "train"), load_dataset(dataset, "test")
    if isinstance(recipe, DistortionRecipe):
        train_data = train_data.take(recipe.images)
    _check_fit(name, zoo, train_data)

    import torch

    from models.weights import write_whole
    from models.wrappers import seeded

    from .cards import Card, packed
    from .classifier import one_thread

    network = seeded(seed, lambda: zoo.build(tiny=tiny))
    report(f"training {name} ({recipe.training}) on {len(train_data)} images of {train_data.name}")
    with one_thread():
        start = time.process_time()
        _fit(network, train_data, recipe, seed, report)
        seconds = time.process_time() - start
        network.requires_grad_(False)
        kept = getattr(torch, recipe.stored)
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.to(kept))
        measured = _measured(network, train_data, test_data, recipe, seed, report)

    state = {
        key: value.to(kept if value.is_floating_point() else value.dtype)
        for key, value in network.state_dict().items()
    }
    data, facts = packed(state)
    card = Card(
        model=name,
        dataset=train_data.name,
        training=recipe.training,
        seed=seed,
        command=_command(name, train_data.name, params or {}, seed),
        recipe=asdict(recipe),
        train_split=train_data.split,
        train_images=len(train_data),
        train_sha256=train_data.fingerprint(),
        test_split=test_data.split,
        test_images=len(test_data),
        torch=str(torch.__version__).partition("+")[0],
        seconds=round(seconds, 1),
        **facts,
        **measured,
    )
    write_whole(target, data)
    card.write(target.with_suffix(".json"))
    return target


def _fit(
    network: Any, data: Dataset, recipe: Recipe, seed: int, report: Callable[[str], None]
) -> None:
    if isinstance(recipe, VAERecipe):
        from . import autoencoders

        autoencoders.fit(network, data, recipe, seed=seed, report=report)
    elif isinstance(recipe, DistortionRecipe):
        from . import distorted

        distorted.fit(network, data, recipe, seed=seed, report=report)
    elif isinstance(recipe, InvertibleRecipe):
        from . import invertible

        invertible.fit(network, data, recipe, seed=seed, report=report)
    elif isinstance(recipe, ClassifierRecipe):
        from . import classifier

        classifier.fit(network, data, recipe, seed=seed, report=report)
    else:
        raise TypeError(f"nothing trains by a {type(recipe).__name__}")


def _measured(
    network: Any,
    train_data: Dataset,
    test_data: Dataset,
    recipe: Recipe,
    seed: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """The card's fields that are measured after the training."""
    if isinstance(recipe, VAERecipe):
        from . import autoencoders

        calibration = autoencoders.calibrate(network, train_data, test_data)
        clean = {kind: constants["accuracy"] for kind, constants in calibration.items()}
        report(f"accuracy {clean['plain']:.1%}, with binarised images {clean['binary']:.1%}")
        return {"clean_accuracy": clean["plain"], "calibration": calibration}
    if isinstance(recipe, DistortionRecipe):
        from .distorted import accuracies

        found = accuracies(network, test_data)
        report(", ".join(f"{name} {accuracy:.1%}" for name, accuracy in found.items()))
        return {"clean_accuracy": found["plain"], "distorted_accuracy": found}
    from .classifier import EVALUATION_RADIUS, evaluate, evaluation_attack

    facts: dict[str, Any] = {}
    if isinstance(recipe, InvertibleRecipe):
        from .invertible import inversion

        facts["inversion"] = inversion(network, test_data, recipe)
    trained_at = recipe.epsilon if isinstance(recipe, ClassifierRecipe) else 0.0
    epsilon = trained_at or EVALUATION_RADIUS
    accuracy, robust = evaluate(network, test_data, seed=seed, epsilon=epsilon)
    attack = evaluation_attack(epsilon)
    report(f"accuracy {accuracy:.1%} clean, {robust:.1%} after {attack}")
    return {
        **facts,
        "clean_accuracy": accuracy,
        "robust_accuracy": robust,
        "robust_attack": attack,
    }


def _read(
    params: Mapping[str, object], name: str, dataset: str, zoo: ModuleType
) -> tuple[Recipe, bool]:
    for key in params:
        if key not in PARAMETERS:
            near = get_close_matches(key, PARAMETERS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PARAMETERS)}"
            raise UserError(f"a training has no parameter {key!r}; {hint}")
    known = recipes(name, dataset.replace("_", "-"))
    training = str(params.get("training", _usual(zoo, known)))
    if training not in known:
        raise UserError(f"training is {training!r}; wanted {' or '.join(known)}")
    recipe = known[training]
    if (epochs := params.get("epochs")) is not None:
        if not str(epochs).isdecimal() or int(str(epochs)) < 1:
            raise UserError(f"epochs is {epochs!r}; wanted a whole number >= 1")
        recipe = replace(recipe, epochs=int(str(epochs)))
    tiny = str(params.get("tiny", "false")).lower()
    if tiny not in ("true", "false"):
        raise UserError(f"tiny is {params['tiny']!r}; wanted true or false")
    return recipe, tiny == "true"


def _usual(zoo: ModuleType, known: Mapping[str, Recipe]) -> str:
    """The training that the model is loaded with when none is named."""
    parameter = inspect.signature(zoo.create).parameters.get("training")
    return str(parameter.default) if parameter is not None else next(iter(known))


def _trainable(name: str) -> ModuleType:
    import models

    if name not in models.names():
        near = get_close_matches(name, models.names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(models.names())}"
        raise UserError(f"there is no model {name!r}; {hint}")
    zoo = import_module(f"models.{name}")
    if "build" not in vars(zoo):
        raise UserError(
            f"{name} cannot be trained here: it comes with published weights only; "
            "small_cnn is one that can"
        )
    return zoo


def checkpoint_file(
    out: Path | None, name: str, dataset: str, training: str, *, tiny: bool
) -> Path:
    """Where the weights go: `out`, or a name of theirs in the user's folder.

    Raises `UserError` where `out` is no .safetensors file, or can't be written to.
    """
    target = _target(out, name, dataset, training, tiny)
    _check_writable(target)
    return target


def _target(out: Path | None, name: str, dataset: str, training: str, tiny: bool) -> Path:
    from models.weights import stem, user_folder

    if out is None:
        size = "-tiny" if tiny else ""
        return (
            user_folder() / f"{stem(name, dataset.replace('_', '-'), training)}{size}.safetensors"
        )
    if out.suffix != ".safetensors":
        raise UserError(f"--out is {out}; wanted a file that ends in .safetensors")
    return out


def _check_writable(target: Path) -> None:
    """Before minutes of training, not after."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to {target.parent} ({error.strerror}); give another file by --out"
        ) from error


def _check_fit(name: str, zoo: ModuleType, data: Dataset) -> None:
    channels, height, width = zoo.IMAGE_SHAPE
    shape = data.pixels.shape[1:]
    if shape != (height, width, channels) or len(data.class_names) != zoo.CLASSES:
        raise UserError(
            f"{name} takes images of {height}x{width}x{channels} in {zoo.CLASSES} classes; "
            f"{data.name} has {'x'.join(map(str, shape))} in {len(data.class_names)}"
        )


def _command(name: str, dataset: str, params: Mapping[str, object], seed: int) -> str:
    parts = ["tiltyard", "train", name, "--dataset", dataset]
    for key, value in params.items():
        parts += ["-M", f"{key}={str(value).lower()}"]
    return " ".join(parts + (["--seed", str(seed)] if seed else []))
