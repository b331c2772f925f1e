"""Weights on disk: found by name, verified by sha256, read as plain tensors.

Our own are safetensors with a card beside them, `NAME.json`, that states among other things the
sha256. Others' checkpoints are read only where our code knows their sha256. Whatever would have
to be unpickled is refused: a pickle runs code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from .errors import UsageError

SHIPPED = Path(__file__).parent / "checkpoints"
"""The checkpoints that come with Tiltyard."""

_PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".bin", ".ckpt")


def user_folder() -> Path:
    """Where `tiltyard train` puts weights and where they are found; it need not exist yet."""
    if own := os.environ.get("TILTYARD_CACHE"):
        root = Path(own).expanduser()
    elif shared := os.environ.get("XDG_CACHE_HOME"):
        root = Path(shared).expanduser() / "tiltyard"
    else:
        root = Path.home() / ".cache" / "tiltyard"
    return root / "weights"


def stem(model: str, dataset: str, training: str) -> str:
    """The file name without suffix, such as `small_cnn-mnist5k-pgd`."""
    return f"{model}-{dataset}-{training}"


def find(model: str, dataset: str, training: str) -> Path:
    """The safetensors file of that checkpoint: a shipped one first, else one that you trained.

    Raises `UsageError` that names the command which makes it.
    """
    name = f"{stem(model, dataset, training)}.safetensors"
    for folder in (SHIPPED, user_folder()):
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"there are no weights {name} in {SHIPPED} or {user_folder()}; "
        f"make them: tiltyard train {model} --dataset {dataset} -M training={training}"
    )


def card(path: Path) -> dict[str, Any]:
    """The card beside a safetensors file; `UsageError` when there is none or it is not JSON."""
    place = path.with_suffix(".json")
    try:
        read: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path} has no card {place.name} beside it, which states its sha256; "
            "bring it along, or train again: `tiltyard train` writes both"
        ) from None
    except ValueError as error:
        raise UsageError(f"the card {place} is not JSON ({error}); train again") from error
    if not isinstance(read, dict) or not isinstance(read.get("sha256"), str):
        raise UsageError(f"the card {place} states no sha256; train again")
    return read


def load_verified(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose sha256 is the one on its card.

    Raises `UsageError` for a pickle (whatever its name), a missing file or card, another sha256.
    """
    if path.suffix in _PICKLES:
        raise UsageError(
            f"{path} is a pickle by its name, and reading a pickle runs code; "
            "wanted .safetensors (save it with safetensors.torch.save_file)"
        )
    data = _read(path, card(path)["sha256"], mend="it was changed or cut off: bring it again")
    try:
        return load(data)
    except SafetensorError as error:
        raise UsageError(f"{path} is not a safetensors file ({error})") from error


def load_foreign(path: Path, sha256: str) -> dict[str, Tensor]:
    """A state dict that others published as a torch file, only if it has the sha256 we know.

    Read with `weights_only=True`, so that not even the known file can run code.
    """
    data = _read(path, sha256, mend="install the published package again")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path} holds more than plain tensors, which is never read") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"{path} holds more than plain tensors, or none; wanted a dict of them")
    return state


def fill(module: nn.Module, state: dict[str, Tensor], *, source: Path) -> None:
    """Copy `state` into `module`; `UsageError` unless names and shapes are exactly the same."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(f"{source} holds the weights of another network: {error}") from error


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256_of_tensors(tensors: Iterable[Tensor]) -> str:
    """sha256 of the numbers of some tensors, with their shapes, in hex."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)


def _read(path: Path, sha256: str, *, mend: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the weights {path}: {error.strerror}") from error
    if (got := hashlib.sha256(data).hexdigest()) != sha256:
        raise UsageError(f"{path} has sha256 {got}, wanted {sha256}; {mend}")
    return data
