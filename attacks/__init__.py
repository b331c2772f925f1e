"""Adversarial attacks: the public nouns, and `create` to make an attack by name.

    adversarials = attacks.perturb(attacks.create("boundary"), model, images, labels, seed=0)

A file in this folder that ends in `create` is an attack of that name; `foolbox:NAME` is any attack
of Foolbox 3. Nothing here imports torch until it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import foolbox
    from .criteria import Criterion, Misclassification, Targeted
    from .distances import all_distances, distance, project
    from .errors import BudgetExhausted, UsageError
    from .oracle import Oracle, Verdict, quantise
    from .perturbation import Adversarials, perturb
    from .random import ImageRandom, image_seed
    from .types import Access, Attack, Bounds, Model, Norm, Pool, Status

__all__ = [
    "Access",
    "Adversarials",
    "Attack",
    "Bounds",
    "BudgetExhausted",
    "Criterion",
    "ImageRandom",
    "Misclassification",
    "Model",
    "Norm",
    "Oracle",
    "Pool",
    "Status",
    "Targeted",
    "UsageError",
    "Verdict",
    "all_distances",
    "create",
    "distance",
    "foolbox",
    "image_seed",
    "perturb",
    "project",
    "quantise",
]

_HOME = {
    "Access": "types",
    "Adversarials": "perturbation",
    "Attack": "types",
    "Bounds": "types",
    "BudgetExhausted": "errors",
    "Criterion": "criteria",
    "ImageRandom": "random",
    "Misclassification": "criteria",
    "Model": "types",
    "Norm": "types",
    "Oracle": "oracle",
    "Pool": "types",
    "Status": "types",
    "Targeted": "criteria",
    "UsageError": "errors",
    "Verdict": "oracle",
    "all_distances": "distances",
    "distance": "distances",
    "image_seed": "random",
    "perturb": "perturbation",
    "project": "distances",
    "quantise": "oracle",
}


def create(name: str, /, **parameters: Any) -> Attack:
    """Make an attack by name, for instance `create("boundary")` or `create("foolbox:L2PGD")`.

    Raises:
        UsageError: no attack has that name; the message lists the near ones.
        TypeError: a parameter that the attack does not have.
    """
    from .errors import UsageError

    stem, _, rest = name.partition(":")
    module_name = stem.replace("-", "_")
    try:
        module = importlib.import_module(f".{module_name}", __name__)
        make = module.create
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != f"{__name__}.{module_name}":
            raise
        raise UsageError(
            f"no attack is called {name!r}; `tiltyard list attacks` shows those there are"
        ) from None
    attack: Attack = make(rest, **parameters) if rest else make(**parameters)
    return attack


def __getattr__(name: str) -> object:
    if name == "foolbox":
        return importlib.import_module(".foolbox", __name__)
    if name in _HOME:
        value: object = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
