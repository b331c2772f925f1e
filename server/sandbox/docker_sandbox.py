"""One entry in two containers: the trusted gateway, and the participant's in its namespace."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from . import docker_options, outputs
from .base import BaseSandbox, printable
from .engine import engine_errors
from .environment import environment, file_environment
from .errors import EngineFailed, ExitedWhileStarting, Role
from .http import Connection
from .serve import Server
from .types import PORT, App, Exit, Files, Labels, Limits, Outputs, Package

if TYPE_CHECKING:
    from .docker import DockerProvider

GATEWAY_SECONDS = 60.0
SOCKET = "s"
SOCKET_PATH_BYTES = 107
"""The kernel's limit on the path of a unix socket."""

THEIR_FAULT = ("starting container process caused", "exec format error", "no command specified")
"""In the engine's refusal to start a container: the image's command is to blame."""


class DockerSandbox(BaseSandbox):
    """See `types.Sandbox`; made by `DockerProvider.open`."""

    def __init__(
        self,
        provider: DockerProvider,
        package: Package,
        owner: Labels,
        role: Role,
        limits: Limits,
        given: Mapping[str, str] | None,
        referee: App | None,
        files: Files | None,
        gpus: int,
    ) -> None:
        super().__init__(owner.name(role), role, limits, files)
        self._provider = provider
        self._package = package
        self._labels = docker_options.labels(provider.instance, owner, role)
        self._environment = environment(given, limits, port=PORT, tmp="/tmp") | file_environment(
            files, docker_options.INPUTS, docker_options.OUTPUTS
        )
        self._referee = referee
        self._gpus = gpus
        self._folder: Path | None = None
        self._server: Server | None = None
        self._gateway: str | None = None
        self._container: str | None = None
        self._results: str | None = None

    def _launch(self) -> Connection | None:
        provider = self._provider
        with engine_errors("start a sandbox"):
            gateway_image = provider.gateway_image()
            image, volumes = provider.image(self._package, self._limits)
            self._folder = self._make_folder()
            if self._referee is not None:
                self._server = Server(self._referee, _bound(self._folder / SOCKET))
            mounts = None if self._files is None else self._lay_out(self._folder, self._files)
            self._gateway = self._create(
                docker_options.gateway(
                    provider.api,
                    name=f"{self.name}-gateway",
                    image=gateway_image,
                    role=self.role,
                    folder=self._folder,
                    socket=SOCKET,
                    labels=self._labels | {"tiltyard.role": f"{self.role}-gateway"},
                    engine=provider.engine,
                    results=self._results,
                )
            )
            provider.api.start(self._gateway)
            self._container = self._create(
                docker_options.participant(
                    provider.api,
                    name=self.name,
                    image=image,
                    volumes=volumes,
                    gateway=self._gateway,
                    labels=self._labels,
                    limits=self._limits,
                    environment=self._environment,
                    engine=provider.engine,
                    runtime=provider.runtime,
                    gpus=self._gpus,
                    files=mounts,
                )
            )
            self._await_gateway(self._gateway, self._folder)
            self._start_participant(self._container)
        return Connection(self._folder / SOCKET) if self.role == "model" else None

    def _look(self) -> Exit | None:
        assert self._container is not None
        state = self._state(self._container)
        if state["Running"] or state["Status"] == "created":
            return None
        return Exit(int(state["ExitCode"]), bool(state["OOMKilled"]))

    def _oom_killed(self) -> bool:
        assert self._container is not None
        return bool(self._state(self._container)["OOMKilled"])

    def _check_ours(self) -> None:
        assert self._gateway is not None
        if not self._state(self._gateway)["Running"]:
            raise EngineFailed(f"the gateway of {self.name} has ended: {self._gateway_logs()}")

    def _read_logs(self) -> bytes:
        if self._container is None:
            return b""
        with engine_errors("read the logs of a sandbox"):
            return bytes(self._provider.api.logs(self._container, tail=2000))

    def _collect(self, files: Files) -> Outputs:
        """The gateway still has the volume mounted when the attack's container has ended."""
        api = self._provider.api
        assert self._gateway is not None
        with engine_errors("read the files of a sandbox"):
            if self._container is not None and self._look() is None:
                with contextlib.suppress(APIError):  # it has just ended by itself
                    api.kill(self._container)
            chunks, _ = api.get_archive(self._gateway, docker_options.OUTPUTS)
            return outputs.from_tar(chunks, files)

    def _lay_out(self, folder: Path, files: Files) -> dict[str, dict[str, str]]:
        """Write an attack's input files and make the volume for the others; how to mount them."""
        inputs = folder / "images"
        inputs.mkdir(mode=0o755)
        inputs.chmod(0o755)  # whatever our umask is: the attack is another user
        for name, content in files.inputs.items():
            (inputs / name).write_bytes(content)
            (inputs / name).chmod(0o444)
        self._results = f"{self.name}-results-{secrets.token_hex(3)}"
        self._provider.api.create_volume(
            **docker_options.results(self._results, files, self._labels)
        )
        return docker_options.file_mounts(inputs, self._results)

    def _remove(self) -> None:
        try:
            for identity in (self._container, self._gateway):
                if identity is not None:
                    with engine_errors("remove a sandbox"):
                        self._provider.remove_container(identity)
            if self._results is not None:
                with engine_errors("remove a volume"), contextlib.suppress(NotFound):
                    self._provider.api.remove_volume(self._results)
        finally:
            if self._server is not None:
                self._server.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _make_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._provider.sockets, prefix="s"))
        longest = str(folder / SOCKET)
        if len(longest.encode()) > SOCKET_PATH_BYTES:
            folder.rmdir()
            raise EngineFailed(
                f"{longest} is too long for a unix socket: choose a folder with a shorter path"
            )
        (folder / "labels.json").write_text(json.dumps(self._labels))
        return folder

    def _create(self, options: dict[str, Any]) -> str:
        api = self._provider.api
        try:
            made = api.create_container(**options)
        except APIError as error:
            if error.status_code != 409:
                raise
            # The name is taken: another server's job on this engine, or a leftover of ours that
            # is being removed. Names are for people; labels tell whose it is.
            options["name"] += f"-{secrets.token_hex(3)}"
            made = api.create_container(**options)
        return str(made["Id"])

    def _start_participant(self, identity: str) -> None:
        try:
            self._provider.api.start(identity)
        except APIError as error:
            said = str(error.explanation)
            if "docker-init" in said or not any(text in said for text in THEIR_FAULT):
                raise
            raise ExitedWhileStarting(
                f"the {self.role}'s command could not be started: {said[-300:]}",
                "check CMD or ENTRYPOINT in the Dockerfile",
                self.role,
                127,
            ) from error

    def _await_gateway(self, identity: str, folder: Path) -> None:
        until = time.monotonic() + GATEWAY_SECONDS
        while not (folder / "ready").exists():
            if time.monotonic() > until or not self._state(identity)["Running"]:
                raise EngineFailed(f"the gateway of {self.name} failed: {self._gateway_logs()}")
            time.sleep(0.01)

    def _state(self, identity: str) -> dict[str, Any]:
        with engine_errors("look at a sandbox"):
            state: dict[str, Any] = self._provider.api.inspect_container(identity)["State"]
        return state

    def _gateway_logs(self) -> str:
        with engine_errors("read the logs of a gateway"):
            return printable(self._provider.api.logs(self._gateway, tail=20))


def _bound(path: Path) -> socket.socket:
    """A listening place for the referee; only this user may connect."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
    except OSError:
        sock.close()
        raise
    return sock
