"""From weights that others published to a checkpoint of ours, with a card beside it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from .errors import UserError


def convert(model: str, folder: Path, out: Path) -> Path:
    """Read the authors' files of `model` in `folder`; write `out` and its card, `.json`.

    A model can be converted when its file has, beside `create`, a function `convert` that takes
    the folder and returns a state dict of ours and the constants that belong to it. Nothing is
    written unless all could be read. Returns `out`.

    Raises:
        UserError: an unknown model or one without `convert`, or an `out` that is no .safetensors
            file or can't be written. What is wrong with the files is a `models.UsageError`.
    """
    name = model.replace("-", "_")
    zoo = _convertible(name)
    if out.suffix != ".safetensors":
        raise UserError(f"--out is {out}; wanted a file that ends in .safetensors")

    from models.weights import write_whole

    from .training.cards import ConvertedCard, packed

    state, calibration = zoo.convert(folder)
    data, facts = packed(state)
    card = ConvertedCard(
        model=name,
        source=f"{folder.resolve().name}: weights as their authors publish them",
        calibration=calibration,
        **facts,
    )
    try:
        write_whole(out, data)
        card.write(out.with_suffix(".json"))
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); give another --out") from error
    return out


def _convertible(name: str) -> ModuleType:
    import models

    from .plugins import unknown_name

    if name not in models.names():
        raise unknown_name("models", name)
    zoo = import_module(f"models.{name}")
    if "convert" not in vars(zoo):
        able = [n for n in models.names() if "convert" in vars(import_module(f"models.{n}"))]
        raise UserError(
            f"{name} has no published weights that can be converted; {', '.join(able)} has"
        )
    return zoo
