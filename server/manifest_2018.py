"""A submission in the layout of 2018: crowdai.json says the kind, run.sh starts it.

There is no tiltyard.toml in such a folder. What it would say is found out here; nothing in the
folder is changed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from bench.errors import UserError

CROWDAI: Final = "crowdai.json"
RUN: Final = "run.sh"
COMMAND: Final = ("bash", RUN)
DATASET: Final = "tiny-imagenet-avc"
"""The images of 2018; a track on them is where such an entry belongs."""

KINDS: Final = {
    "nips-2018-avc-robust-model-track": "model",
    "nips-2018-avc-untargeted-attack": "untargeted-attack",
    "nips-2018-avc-targeted-attack": "targeted-attack",
}
"""challenge_id of crowdai.json -> our kind."""

RECIPES: Final = {
    "environment.yml": (
        "FROM continuumio/miniconda3",
        "RUN conda env update --name base --file environment.yml",
    ),
    "requirements.txt": ("FROM python:3.6", "RUN pip install --requirement requirements.txt"),
}
"""What an author of 2018 gave instead of a Dockerfile -> the lines that do the same."""


def is_layout(directory: Path) -> bool:
    """Whether a folder is laid out as in 2018."""
    return (directory / CROWDAI).is_file()


def kind(directory: Path) -> str:
    """Our kind of a folder's submission, which may be one that has no track here.

    Raises:
        UserError: a damaged crowdai.json, an unknown challenge, or no run.sh.
    """
    path = directory / CROWDAI
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    found = document.get("challenge_id") if isinstance(document, dict) else None
    if not isinstance(found, str) or found not in KINDS:
        raise UserError(f"{path}: challenge_id is {found!r}; wanted one of {', '.join(KINDS)}")
    if not (directory / RUN).is_file():
        raise UserError(f"{directory} has a {CROWDAI} and no {RUN}; {RUN} starts the submission")
    return KINDS[found]


def track(directory: Path, of: str) -> str:
    """The track on the images of 2018 that takes this kind.

    Raises:
        UserError: there is none, or more than one.
    """
    from bench.plugins import tracks

    taking = [candidate for candidate in tracks() if candidate.kind == of]
    fitting = [candidate.name for candidate in taking if candidate.dataset == DATASET]
    if len(fitting) == 1:
        return fitting[0]
    names = fitting or [candidate.name for candidate in taking]
    raise UserError(
        f"{directory}: {CROWDAI} names no track, and there is not just one for {of} on {DATASET}; "
        f"say which with --track: {', '.join(names) or 'none takes it'}"
    )


def no_dockerfile(directory: Path) -> UserError:
    """What to do where a folder was built by repo2docker in 2018, which nothing here does."""
    first, install = RECIPES["requirements.txt"]
    for name, recipe in RECIPES.items():
        if (directory / name).is_file():
            first, install = recipe
            break
    lines = [first, "WORKDIR /home/crowdai", "COPY . .", install, 'CMD ["bash", "run.sh"]']
    return UserError(
        f"{directory} has no Dockerfile, and environment.yml, requirements.txt and apt.txt are not "
        "built here; write a Dockerfile beside them, such as:\n" + "\n".join(lines)
    )


def with_command(dockerfile: bytes) -> bytes:
    """The Dockerfile with run.sh as its command, unless it has one: in 2018 the server named it."""
    if re.search(rb"(?im)^\s*(CMD|ENTRYPOINT)\b", dockerfile):
        return dockerfile
    return dockerfile.rstrip() + b'\nCMD ["bash", "run.sh"]\n'


def source_config() -> bytes:
    """The tiltyard.toml that a source package of such a folder gets: the command, no more."""
    return f"[submission]\ncommand = {json.dumps(list(COMMAND))}\n".encode()
