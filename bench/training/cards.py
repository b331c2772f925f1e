"""The card of a checkpoint: what it is, how it was made and how good it is; JSON beside it.

`Card` is that of a training, `ConvertedCard` that of weights which others trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from models.weights import write_whole


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
    robust_accuracy: float | None = None
    """Fraction right both before and after `robust_attack`; None where it was not measured."""
    robust_attack: str | None = None
    distorted_accuracy: dict[str, float] | None = None
    """Fraction right under each of `bench.training.distorted.CONDITIONS`."""
    inversion: dict[str, float] | None = None
    """Of invertible networks, on the test images: the largest error of a pixel that was encoded and
    decoded again, and nats a dimension with the training's noise."""
    calibration: dict[str, Any] | None = None
    """What was set by data after the training, for models that have such constants."""

    def write(self, path: Path) -> None:
        """As JSON to `path`, whole or not at all; without what is None."""
        _write(asdict(self), path)


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """As `Card`, of a model that is no classifier."""

    model: str
    dataset: str
    training: str
    seed: int
    command: str
    """The exact command that makes it again."""
    recipe: dict[str, Any]
    """Every number of the training."""
    measure: str
    """What the qualities are."""
    quality: dict[str, float]
    """{split: mean over its samples}."""
    chance: dict[str, float]
    """{split: of an uninformed model on the same samples}."""
    samples: int
    """Of the test split."""
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
        _write(asdict(self), path)


@dataclass(frozen=True, kw_only=True)
class ConvertedCard:
    """What is known of weights that others trained."""

    model: str
    source: str
    """Where they are from."""
    parameters: int
    """Numbers in the network."""
    calibration: dict[str, Any]
    """The constants that their authors use with them."""
    sha256: str
    """Of the safetensors file."""
    date: str
    """Day of the conversion, ISO 8601."""

    def write(self, path: Path) -> None:
        """As JSON to `path`, whole or not at all."""
        _write(asdict(self), path)


def packed(state: Mapping[str, Tensor]) -> tuple[bytes, dict[str, Any]]:
    """Tensors as safetensors, and what every card says of them: parameters, sha256, date."""
    data: bytes = save({key: value.contiguous() for key, value in state.items()})
    return data, {
        "parameters": sum(value.numel() for value in state.values()),
        "sha256": hashlib.sha256(data).hexdigest(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _write(fields: dict[str, Any], path: Path) -> None:
    stated = {key: value for key, value in fields.items() if value is not None}
    text = json.dumps(stated, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, text.encode())
