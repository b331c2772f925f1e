"""The isolated provider: every entry in a container without any IP network.

A trusted gateway container runs with `--network none`; the participant's container joins its
network namespace and so sees loopback only. One unix socket, in a folder that only gateways see,
connects the gateway with this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from docker.errors import APIError, ImageNotFound, NotFound

from . import images, self_check
from .base_image import IMAGE as BASE_IMAGE
from .docker_sandbox import DockerSandbox
from .engine import connect, engine_errors
from .errors import EngineFailed, PackageRefused, Role
from .types import App, Current, Files, Labels, Limits, Package, Sandbox

logger = logging.getLogger(__name__)

GATEWAY_SOURCES = Path(__file__).parent / "gateway"
GATEWAY_REPOSITORY = "tiltyard/gateway"
ENGINE_SECONDS = 120
LOAD_SECONDS = 1800


class DockerProvider:
    """Sandboxes on a Docker engine.

    Args:
        instance: names this server among others on the same engine; its reaper touches only its
            own containers.
        sockets: folder for the sockets. When this process is itself in a container, it must be a
            bind mount of a folder with the same path on the host. By default a temporary one.
        runtime: OCI runtime, such as "runsc"; the engine's default when None.

    Raises:
        EngineFailed: no engine answers, or it has no such runtime.
    """

    name = "docker"
    isolated = True

    def __init__(
        self, instance: str, *, sockets: Path | None = None, runtime: str | None = None
    ) -> None:
        self.instance = instance
        self.runtime = runtime
        self._building = threading.Lock()
        self._own_sockets = sockets is None
        self.api: Any = connect(timeout=ENGINE_SECONDS)
        try:
            with engine_errors("ask the engine what it can do"):
                info, version = self.api.info(), self.api.version()
            self.engine = self_check.read(info, version, runtime)
            self._check_runtime()
            self.sockets = sockets or Path(tempfile.mkdtemp(prefix="tiltyard-"))
            self._check_sockets()
        except BaseException:
            self.api.close()
            raise
        for text in self.engine.missing:
            logger.warning("this Docker host lacks %s", text)

    def facts(self) -> dict[str, Any]:
        return {"provider": self.name, "isolated": self.isolated, **self.engine.to_json()}

    def inspect(self, path: Path, limits: Limits) -> Package:
        try:
            image = images.check(path, limits.image_mib)
            packed = path.stat().st_size
        except OSError as error:
            raise EngineFailed(f"the package can't be read: {error}") from error
        machine = images.MACHINES.get(self.engine.architecture, self.engine.architecture)
        if image.architecture != machine:
            raise PackageRefused(
                f"the image is built for {image.architecture}, this server runs {machine}",
                f"build it with `docker build --platform linux/{machine}`",
            )
        return Package("image", image.digest, path, packed, image.unpacked)

    def load(self, path: Path, limits: Limits, *, digest: str | None = None) -> Package:
        if digest is not None and self._loaded(digest):
            return Package("image", digest, path, path.stat().st_size, 0)
        package = self.inspect(path, limits)
        if not self._loaded(package.digest):
            with engine_errors("load an image"):
                self._load(path, limits, package)
        return package

    def forget(self, digest: str) -> None:
        with engine_errors("remove an image"), contextlib.suppress(NotFound):
            self.api.remove_image(images.tag(digest), force=False, noprune=False)

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
        if package.form != "image":
            raise PackageRefused(
                "the docker sandbox runs images, got a source package",
                "build the image and send it: `tiltyard submit` does so where Docker is installed",
            )
        if (role == "attack") != (referee is not None):
            raise ValueError("an attack needs a referee, a model has none")
        return DockerSandbox(self, package, labels, role, limits, environment, referee, files, gpus)

    def leftovers(self, current: Current) -> list[str]:
        with engine_errors("look for leftovers"):
            found = self._mine()
            live = _live(current)
            return [each.name for each in found if _leftover(each.labels, live)]

    def reap(self, current: Current) -> list[str]:
        removed = []
        with engine_errors("look for leftovers"):
            found = self._mine()
            folders = list(self.sockets.iterdir()) if self.sockets.is_dir() else []
            live = _live(current)
            for each in found:
                if _leftover(each.labels, live):
                    with contextlib.suppress(NotFound):
                        each.remove(each.identity)
                        removed.append(each.name)
        for folder in folders:
            with contextlib.suppress(OSError, ValueError):
                if _leftover(json.loads((folder / "labels.json").read_text()), live):
                    shutil.rmtree(folder)
        return removed

    def _mine(self) -> list[_Thing]:
        """All containers, networks and volumes of this instance, containers first."""
        api, mine = self.api, {"label": [f"tiltyard.instance={self.instance}"]}
        volumes = api.volumes(filters=mine)["Volumes"] or []
        return [
            *(_Thing(c["Names"][0].lstrip("/"), c["Labels"], c["Id"], self.remove_container)
              for c in api.containers(all=True, filters=mine)),
            *(_Thing(n["Name"], n["Labels"], n["Id"], api.remove_network)
              for n in api.networks(filters=mine)),
            *(_Thing(v["Name"], v["Labels"], v["Name"], api.remove_volume) for v in volumes),
        ]  # fmt: skip

    def close(self) -> None:
        self.api.close()
        if self._own_sockets:
            shutil.rmtree(self.sockets, ignore_errors=True)

    # For DockerSandbox.

    def gateway_image(self) -> str:
        """The gateway's image; built when it is missing. Its tag names its sources."""
        sources = {
            name: (GATEWAY_SOURCES / name).read_bytes() for name in ("Dockerfile", "gateway.py")
        }
        digest = hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:16]
        reference = f"{GATEWAY_REPOSITORY}:{digest}"
        with self._building, engine_errors("build the gateway"):
            if not self._present(reference):
                self._build(reference, sources)
        return reference

    def image(self, package: Package, limits: Limits) -> tuple[str, list[str]]:
        """The reference of a loaded package and its VOLUMEs; loads it again when it was lost."""
        reference = images.tag(package.digest)
        with engine_errors("look up an image"):
            try:
                found = self.api.inspect_image(reference)
            except ImageNotFound:
                self.load(package.path, limits)
                found = self.api.inspect_image(reference)
        return reference, sorted(found["Config"].get("Volumes") or {})

    def remove_container(self, identity: str) -> None:
        """Kill and remove; its anonymous volumes too. One that is gone or going is fine."""
        try:
            self.api.remove_container(identity, v=True, force=True)
        except APIError as error:
            if error.status_code not in (404, 409):
                raise

    def _check_runtime(self) -> None:
        if self.runtime is not None and self.runtime not in self.engine.runtimes:
            raise EngineFailed(
                f"the engine has no runtime {self.runtime!r}, "
                f"it has {', '.join(self.engine.runtimes)}"
            )

    def _check_sockets(self) -> None:
        self.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = self.sockets.stat()
        if state.st_uid != os.getuid() or state.st_mode & 0o022:
            raise EngineFailed(f"{self.sockets} must belong to this user and be closed to others")

    def _present(self, reference: str) -> bool:
        try:
            self.api.inspect_image(reference)
        except ImageNotFound:
            return False
        return True

    def _loaded(self, digest: str) -> bool:
        with engine_errors("look up an image"):
            return self._present(images.tag(digest))

    def _load(self, path: Path, limits: Limits, package: Package) -> None:
        loading = connect(timeout=LOAD_SECONDS, version=self.engine.api_version)
        with contextlib.closing(loading):
            for line in loading.load_image(images.rewritten(path, limits.image_mib), quiet=True):
                if "error" in line:
                    raise PackageRefused(
                        f"the engine can't load the image: {line['error']}",
                        "make it with `docker save NAME`",
                    )
        if not self._loaded(package.digest):
            raise EngineFailed(f"the engine loaded {path.name} and does not have it")

    def _build(self, reference: str, sources: Mapping[str, bytes]) -> None:
        if not self._present(BASE_IMAGE):
            raise EngineFailed(
                f"the base image {BASE_IMAGE} is missing; run `python -m server.sandbox.base_image`"
            )
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, data in sources.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))
        context.seek(0)
        output = []
        for line in self.api.build(
            fileobj=context, custom_context=True, tag=reference, rm=True, forcerm=True, decode=True
        ):
            output.append(line.get("stream") or line.get("error") or "")
            if "error" in line:
                raise EngineFailed(f"the gateway image can't be built: {''.join(output[-5:])}")


class _Thing(NamedTuple):
    """Something of ours on the engine."""

    name: str
    labels: Mapping[str, str]
    identity: str
    remove: Callable[[str], None]


def _live(current: Current) -> set[tuple[str, str]]:
    return {(job, str(fence)) for job, fence in current()}


def _leftover(labels: Mapping[str, str], live: set[tuple[str, str]]) -> bool:
    owner = labels.get("tiltyard.job", ""), labels.get("tiltyard.fence", "")
    try:
        deadline = float(labels.get("tiltyard.deadline", "0"))
    except ValueError:
        return True
    return owner not in live or deadline < time.time()
