"""The card of a checkpoint: what it is, how it was made and how good it is; JSON beside it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Card:
    """All that one needs to trust a checkpoint, and to make it again."""

    model: str
    dataset: str
    training: str
    seed: int
    command: str
    """The exact command that makes it again."""
    recipe: dict[str, Any]
    """Every number of the training."""
    train_split: str
    train_images: int
    train_sha256: str
    """Fingerprint of the training data: ids, labels, pixels."""
    test_split: str
    test_images: int
    """Images that both accuracies are measured on."""
    clean_accuracy: float
    robust_accuracy: float
    """Fraction right both before and after `robust_attack`."""
    robust_attack: str
    parameters: int
    """Numbers in the network."""
    sha256: str
    """Of the safetensors file."""
    torch: str
    """Version that trained it."""
    date: str
    """Day of the training, ISO 8601."""
    seconds: float
    """CPU seconds of the training, on one thread."""

    def write(self, path: Path) -> None:
        """As JSON to `path`, whole or not at all."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_whole(path, text.encode())


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
