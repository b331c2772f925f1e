from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kit

Array = np.ndarray[Any, Any]
FOLDER = Path(kit.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))
PAGE = FOLDER.parent / "docs" / "participate.md"
DARK = np.full((28, 28, 1), 40, dtype=np.uint8)


def bright(images: Array) -> Array:
    return np.asarray((images > 150).mean(axis=(1, 2, 3)) > 0.01, dtype=np.int64)


def imported(path: Path) -> set[str]:
    """The packages that a file imports when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_what_participants_get_is_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_the_kit_needs_numpy_and_nothing_else() -> None:
    names = set().union(*(imported(path) for path in FOLDER.glob("*.py")))
    assert names - set(sys.stdlib_module_names) == {"numpy"}


def test_the_docstring_teaches_a_model_and_an_attack_that_run() -> None:
    assert kit.__doc__ is not None
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", kit.__doc__)
    handed: list[Any] = []
    for block in blocks:
        namespace = {"np": np, "kit": SimpleNamespace(serve=handed.append, attack=handed.append)}
        exec(textwrap.dedent(block), namespace)
    model, attack = handed
    model.scores = lambda images: np.eye(10)[[3] * len(images)]
    assert model.predict(DARK[None]).tolist() == [3]
    found = attack.attack_image(bright, DARK, 0, np.random.default_rng(0))
    assert found.dtype == np.uint8
    assert bright(found[None]).tolist() == [1]


def test_the_functions_of_the_participants_page_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    namespace: dict[str, Any] = {"np": np}
    for block in blocks:
        exec(block, namespace)
    found = namespace["attack_image"](None, bright, DARK, 0, np.random.default_rng(0))
    assert bright(found[None]).tolist() == [1]
    scorer = SimpleNamespace(scores=lambda images: np.eye(10)[[3] * len(images)])
    assert namespace["predict"](scorer, DARK[None]).tolist() == [3]
