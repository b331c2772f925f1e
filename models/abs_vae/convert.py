"""The authors' published weights of ABS, `ABS_0.net` to `ABS_9.net`, as ours.

Each is a state dict of torch, read with `weights_only=True`: whatever holds more than tensors is
refused. Names and shapes are those of their code, `Encoder.conv_0.weight` and so on.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .network import CLASSES, VAE

PUBLISHED_SCALE, PUBLISHED_FLOOR = 440.0, 3.9e-5
"""Of the modified softmax, in the public code."""

CLASS_SCALES = (1.0, 0.96, 1.001, 1.06, 0.98, 0.96, 1.03, 1.0, 1.0, 1.0)
"""Of Binary ABS, in the public code; ABS has none."""


def convert(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Our state dict of the authors' files, and their constants as on a card.

    Raises:
        UsageError: a file is missing, holds more than tensors, or has other names or shapes.
    """
    state: dict[str, Tensor] = {}
    for label in range(CLASSES):
        for name, tensor in _one(folder / f"ABS_{label}.net").items():
            state[f"vaes.{label}.{name}"] = tensor
    constants = {"scale": PUBLISHED_SCALE, "floor": PUBLISHED_FLOOR}
    return state, {
        "plain": {**constants, "class_scales": [1.0] * CLASSES},
        "binary": {**constants, "class_scales": list(CLASS_SCALES)},
    }


def _one(path: Path) -> dict[str, Tensor]:
    wanted = VAE().state_dict()
    found = {_our_name(name): tensor for name, tensor in _read(path).items()}
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked"):  # PyTorch 0.4.0 did not count them
            found.setdefault(name, torch.zeros_like(tensor))
    for name in sorted(wanted.keys() | found.keys()):
        got = tuple(found[name].shape) if name in found else "nothing"
        meant = tuple(wanted[name].shape) if name in wanted else "nothing"
        if got != meant:
            raise UsageError(
                f"{path}: {name} is {got}, wanted {meant}; it is no published VAE of ABS"
            )
    return {name: found[name].to(tensor.dtype) for name, tensor in wanted.items()}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"there is no {path}; wanted a folder with ABS_0.net to ABS_{CLASSES - 1}.net, as the "
            "authors publish them"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise UsageError(f"{path} is not a state dict of tensors alone: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"{path} holds more than tensors by name; wanted a state dict")
    return state


def _our_name(name: str) -> str:
    part, dot, rest = name.partition(".")
    return f"{part.lower()}{dot}{rest}"
