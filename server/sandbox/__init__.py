"""Where untrusted entries run. `types` has the interface; `provider` gives one by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .types import Provider

__all__ = ["provider"]


def provider(
    name: Literal["docker", "process"],
    instance: str,
    *,
    folder: Path | None = None,
    runtime: str | None = None,
) -> Provider:
    """A provider by name.

    Args:
        instance: names this server among others on the same machine.
        folder: where it keeps its sockets (docker; a short path) or packages (process).
        runtime: OCI runtime of containers, such as "runsc"; docker only.

    Raises:
        EngineFailed: there is no engine, or not that runtime.
    """
    if name == "docker":
        from .docker import DockerProvider

        return DockerProvider(instance, sockets=folder, runtime=runtime)
    from .process import ProcessProvider

    return ProcessProvider(instance, scratch=folder)
