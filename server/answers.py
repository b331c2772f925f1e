"""What the referee answers, and why it refuses: shared by its two protocols."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A request that breaks the protocol or the rules; `fields` go into the JSON body."""

    def __init__(self, status: int, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = fields


def json_answer(status: int, **fields: Any) -> Answer:
    """An answer of JSON."""
    return Answer(status, json.dumps(fields).encode())


def text_answer(text: str) -> Answer:
    """An answer of plain text."""
    return Answer(200, text.encode(), "text/plain; charset=utf-8")


def why_not_pixels(array: NDArray[Any], shape: tuple[int, ...]) -> str | None:
    """What is wrong with an array that should be uint8 of this shape, and the mend, or None."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return (
            "it holds NaN or infinite values; wanted uint8: look for a division by zero or a root "
            "of a negative number before the image is sent"
        )
    if array.dtype != np.uint8:
        scale = ""
        if array.dtype.kind == "f" and array.size and float(array.max()) <= 1.0:
            scale = "255 * "
        return (
            f"got {array.dtype.name}, wanted uint8 (values 0 to 255): send "
            f"np.clip(np.rint({scale}x), 0, 255).astype(np.uint8)"
        )
    if array.shape != shape:
        same = f": x.reshape{shape}" if array.size == math.prod(shape) else ""
        return f"got the shape {array.shape}, wanted {shape}{same}"
    return None
