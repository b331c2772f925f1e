"""The provider without isolation: a submission as a plain process, for one's own code only.

It keeps the protocol, the time limits, and as much of the other limits as a process can set on
itself. It keeps nobody from files, from the network, or from other processes; every result that
came from it says so. What it can't do is listed in tests/server/test_sandbox_conformance.py.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import sources
from .errors import EngineFailed, PackageRefused, Role
from .process_sandbox import STATE, ProcessSandbox, kill_leftover
from .types import App, Current, Files, Labels, Limits, Package, Sandbox

logger = logging.getLogger(__name__)

MISSING = (
    "isolation: a submission runs as this user and reaches its files and the network",
    "memory limit: only for each process by itself; out of memory looks like an error",
    "process limit, processor limit, limit of /tmp",
)


class ProcessProvider:
    """Sandboxes that are plain processes.

    Args:
        instance: names this server; its reaper touches only its own processes.
        scratch: folder for unpacked packages and working folders; a temporary one by default.
    """

    name = "process"
    isolated = False

    def __init__(self, instance: str, *, scratch: Path | None = None) -> None:
        self.instance = instance
        self._own_scratch = scratch is None
        self.scratch = Path(tempfile.mkdtemp(prefix="tiltyard-")) if scratch is None else scratch
        self._packages = self.scratch / "packages"
        self.running = self.scratch / "running"
        for folder in (self._packages, self.running):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        logger.warning("submissions run WITHOUT isolation (process sandbox): only play your own")

    def facts(self) -> dict[str, Any]:
        return {
            "provider": self.name,
            "isolated": self.isolated,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "missing": list(MISSING),
        }

    def inspect(self, path: Path, limits: Limits) -> Package:
        try:
            source = sources.check(path, limits.image_mib)
            packed = path.stat().st_size
        except OSError as error:
            raise EngineFailed(f"the package can't be read: {error}") from error
        return Package("source", source.digest, path, packed, source.unpacked)

    def load(self, path: Path, limits: Limits, *, digest: str | None = None) -> Package:
        if digest is not None and self._folder(digest).is_dir():
            return Package("source", digest, path, path.stat().st_size, 0)
        package = self.inspect(path, limits)
        self.folder(package, limits)
        return package

    def forget(self, digest: str) -> None:
        shutil.rmtree(self._folder(digest), ignore_errors=True)

    def open(
        self,
        package: Package,
        role: Role,
        *,
        labels: Labels,
        limits: Limits,
        environment: Mapping[str, str] | None = None,
        referee: App | None = None,
        files: Files | None = None,
        gpus: int = 0,
    ) -> Sandbox:
        if package.form != "source":
            raise PackageRefused(
                "the process sandbox runs source packages, got an image",
                "send the folder: `tiltyard submit DIR` packs it for this server",
            )
        if (role == "attack") != (referee is not None):
            raise ValueError("an attack needs a referee, a model has none")
        return ProcessSandbox(self, package, labels, role, limits, environment, referee, files)

    def leftovers(self, current: Current) -> list[str]:
        return [str(state["name"]) for _, state in self._leftovers(current)]

    def reap(self, current: Current) -> list[str]:
        removed = []
        for folder, state in self._leftovers(current):
            kill_leftover(state)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(str(state["name"]))
        return removed

    def _leftovers(self, current: Current) -> list[tuple[Path, dict[str, Any]]]:
        found: list[tuple[Path, dict[str, Any]]] = []
        for folder in self.running.iterdir():
            try:
                found.append((folder, json.loads((folder / STATE).read_text())))
            except (OSError, ValueError):
                continue  # being made or removed at this moment
        live = set(current())
        return [
            (folder, state)
            for folder, state in found
            if state["instance"] == self.instance
            and (state["deadline"] < time.time() or (state["job"], state["fence"]) not in live)
        ]

    def close(self) -> None:
        if self._own_scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def folder(self, package: Package, limits: Limits) -> Path:
        """The unpacked package; unpacked again when it was lost."""
        target = self._folder(package.digest)
        if not target.is_dir():
            try:
                sources.unpack(package.path, limits.image_mib, target)
            except OSError as error:
                raise EngineFailed(f"the package can't be unpacked: {error}") from error
        return target

    def _folder(self, digest: str) -> Path:
        return self._packages / digest.removeprefix("sha256:")
