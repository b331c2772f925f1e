"""What this machine can do, and what to install for the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench import datasets
from bench.errors import TiltyardError


@dataclass(frozen=True)
class Check:
    """One line of `tiltyard doctor`.

    Attributes:
        part: what was looked at.
        ok: whether it is there.
        required: whether Tiltyard can do its main job without it.
        detail: a version or a place, or what to do about it.
    """

    part: str
    ok: bool
    required: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def examine() -> list[Check]:
    """Look at everything; nothing is changed, started or downloaded."""
    os.environ["TILTYARD_OFFLINE"] = "1"
    return [
        Check("python", sys.version_info >= (3, 11), True, platform.python_version()),
        _check("torch", True, _torch),
        _check("docker", False, _docker),
        _check("postgresql driver", False, _postgresql),
        _program("chromium", "for the browser tests; install Debian's package chromium"),
        *(_dataset(name) for name in datasets.names()),
    ]


def _check(part: str, required: bool, look: Callable[[], str]) -> Check:
    try:
        return Check(part, True, required, look())
    except (ImportError, TiltyardError) as error:
        return Check(part, False, required, str(error))


def _torch() -> str:
    import torch

    where = "CUDA" if torch.cuda.is_available() else "CPU"
    return f"{torch.__version__}, {where}, {torch.get_num_threads()} threads"


def _docker() -> str:
    from . import packaging

    with packaging.docker_client() as client:
        return f"engine {client.version()['Version']}"


def _postgresql() -> str:
    try:
        import psycopg
    except ImportError as error:
        raise ImportError(f"{error}; pip install 'tiltyard[postgresql]'") from None
    return psycopg.__version__


def _program(name: str, otherwise: str) -> Check:
    path = shutil.which(name)
    return Check(name, path is not None, False, path or otherwise)


def _dataset(name: str) -> Check:
    def look() -> str:
        return f"{len(datasets.dataset(name))} images in the test split"

    return _check(f"data: {name}", name == "mnist5k", look)
