"""Whatever the Docker engine, or the way to it, says against us becomes an EngineFailed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from docker.errors import DockerException

from .errors import EngineFailed


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn the engine's errors into ours; what a caller expects is caught inside of this."""
    try:
        yield
    except (DockerException, requests.RequestException, OSError) as error:
        raise EngineFailed(f"could not {doing}: {error}") from error
