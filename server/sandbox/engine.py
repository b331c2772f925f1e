"""The way to the Docker engine, and whatever it says against us, as an EngineFailed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
from docker.errors import DockerException

from .errors import EngineFailed

DEFAULT = "unix:///var/run/docker.sock"


def connect(*, timeout: float, version: str = "auto") -> Any:
    """The engine's API, at DOCKER_HOST or the usual socket. Close it when done.

    Raises:
        EngineFailed: nobody answers there.
    """
    host = os.environ.get("DOCKER_HOST") or DEFAULT
    with engine_errors(f"reach the Docker engine at {host}"):
        if host.startswith("unix://"):
            # The client leaves a socket open when nobody listens; find that out first.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(host.removeprefix("unix://"))
        return docker.from_env(version=version, timeout=timeout).api


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn the engine's errors into ours; what a caller expects is caught inside of this."""
    try:
        yield
    except (DockerException, requests.RequestException, OSError) as error:
        raise EngineFailed(f"could not {doing}: {error}") from error
