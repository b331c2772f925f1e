"""What a submission finds in its environment: an allow-list, the same for every provider."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from .types import Files, Limits

LABELS: Final = "labels.yml"
"""Among an attack's input files, the one that INPUT_YML_PATH names."""

ALLOWED: Final = frozenset(
    {
        "MODEL_SERVER",
        "MODEL_PORT",
        "INPUT_IMG_PATH",
        "INPUT_YML_PATH",
        "OUTPUT_ADVERSARIAL_PATH",
        "NUM_IMAGES",
        "EVALUATOR_SECRET",
    }
)
"""The variables that a caller may hand to an entry; no other one gets in from our side."""


def file_environment(files: Files | None, inputs: str, outputs: str) -> dict[str, str]:
    """The variables by which an attack of 2018 finds its files.

    Args:
        inputs, outputs: the two folders, as the attack sees them.
    """
    if files is None:
        return {}
    return {
        "INPUT_IMG_PATH": inputs,
        "INPUT_YML_PATH": f"{inputs}/{LABELS}",
        "OUTPUT_ADVERSARIAL_PATH": outputs,
        "NUM_IMAGES": str(len(set(files.inputs) - {LABELS})),
    }


def environment(
    given: Mapping[str, str] | None, limits: Limits, *, port: int, tmp: str
) -> dict[str, str]:
    """The variables of one entry.

    Args:
        given: from `ALLOWED`; MODEL_SERVER and MODEL_PORT are set here.
        port: where it listens (model) or finds the referee (attack), on 127.0.0.1.
        tmp: the folder that it may write to.

    Raises:
        ValueError: a variable that is not on the list.
    """
    refused = set(given or {}) - ALLOWED
    if refused:
        raise ValueError(f"{sorted(refused)} may not be handed to a submission")
    threads = str(max(1, math.ceil(limits.cores)))
    return {
        "HOME": tmp,
        "TMPDIR": tmp,
        "LANG": "C.UTF-8",
        # A numeric library starts a thread for each of the host's cores unless it is told.
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **(given or {}),
        "MODEL_SERVER": "127.0.0.1",
        "MODEL_PORT": str(port),
    }
