"""Data sets: one file each, found by its name; the same images in the same order every time.

A file with `create(*, split)` here is a data set: `tiny_imagenet_avc.py` is asked for as
`tiny-imagenet-avc`. Nothing heavy is imported before one is.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, cast

from ..errors import UserError
from ..plugins import plugins

if TYPE_CHECKING:
    from .task_sets import TaskSet
    from .types import Batch, Dataset

__all__ = ["Batch", "Dataset", "dataset", "names", "task_set"]


def dataset(name: str, split: str = "test") -> Dataset:
    """The data set of that name, such as `mnist5k`; dashes and underscores are the same.

    Raises `UserError` for an unknown name or split, and when the files are missing or wrong
    (the message says how to get them).
    """
    from .types import Dataset

    made = _made(name, split)
    if not isinstance(made, Dataset):
        raise UserError(
            f"{name} holds a task's samples, not images of classes; `tiltyard task` plays it"
        )
    return made


def task_set(name: str, split: str = "test") -> TaskSet:
    """The samples of that name, such as `texture-collages`, for models that are no classifiers.

    Raises `UserError` as `dataset` does, and for a data set of classes.
    """
    from .task_sets import TaskSet

    made = _made(name, split)
    if not isinstance(made, TaskSet):
        raise UserError(f"{name} holds images of classes, not a task's samples; `play` takes it")
    return made


def _made(name: str, split: str) -> object:
    known = names()
    asked = name.replace("_", "-")
    if asked not in known:
        near = get_close_matches(asked, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"there is no data set {name!r}; {hint}")
    module = import_module(f".{asked.replace('-', '_')}", __name__)
    return cast("object", module.create(split=split))


def names() -> list[str]:
    """The names of all data sets, sorted, found by reading this folder."""
    return sorted(plugin.name for plugin in plugins("datasets"))


def __getattr__(name: str) -> object:
    if name in ("Batch", "Dataset"):
        return getattr(import_module(".types", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
