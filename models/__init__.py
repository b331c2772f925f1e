"""The zoo: one file or folder for each model, found by its name.

A file with a `create` here is a model: `small_cnn.py` is `models.create("small_cnn")`. Models
know nothing of attacks. torch is imported when a model is created, not before.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import UsageError
from .types import Model

if TYPE_CHECKING:
    from .wrappers import Classifier, DecisionOnly

__all__ = ["Classifier", "DecisionOnly", "Model", "UsageError", "create", "names"]


def create(name: str, **params: Any) -> Model:
    """The model of that name, such as `small_cnn`, with `params` handed to its `create`.

    Raises `UsageError` for an unknown name or parameter, and when weights are missing or wrong.
    """
    known = names()
    asked = name.replace("-", "_")
    if asked not in known:
        near = get_close_matches(asked, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"there is no model {name!r}; {hint}")
    factory = import_module(f".{asked}", __name__).create
    takes = list(inspect.signature(factory).parameters)
    for param in params:
        if param not in takes:
            near = get_close_matches(param, takes, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(takes)}"
            raise UsageError(f"model {asked} has no parameter {param!r}; {hint}")
    return cast("Model", factory(**params))


def names() -> list[str]:
    """The names of all models, sorted, found by reading this folder."""
    here = Path(__file__).parent
    files = [*here.glob("[!_]*.py"), *here.glob("*/__init__.py")]
    plugins = (path for path in files if "\ndef create(" in path.read_text(encoding="utf-8"))
    return sorted(p.parent.name if p.stem == "__init__" else p.stem for p in plugins)


def __getattr__(name: str) -> object:
    if name in ("Classifier", "DecisionOnly"):
        return getattr(import_module(".wrappers", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
