"""Data sets, matches, scores, reports and the command line.

data = bench.dataset("mnist5k", split="test")
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .datasets import dataset
    from .match import Match, Outcome, ThreatModel, play

__all__ = ["Match", "Outcome", "ThreatModel", "dataset", "play"]

_HOME = {
    "Match": "match",
    "Outcome": "match",
    "ThreatModel": "match",
    "dataset": "datasets",
    "play": "match",
}


def _refuse_shadows() -> None:
    """A participant's own models.py must not be taken for ours: say which file is in the way."""
    home = Path(__file__).resolve().parent.parent
    for sibling in ("attacks", "models"):
        spec = importlib.util.find_spec(sibling)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve().parent.parent != home:
            raise ImportError(
                f"'import {sibling}' finds {origin}, not Tiltyard's own {home / sibling}; "
                "rename that file or start Tiltyard from another folder"
            )


_refuse_shadows()


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
