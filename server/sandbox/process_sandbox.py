"""One entry as a process in a session of its own, in a copy of its folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outputs, sources
from .base import LOG_BYTES, BaseSandbox
from .environment import environment, file_environment
from .errors import EngineFailed, Role
from .http import Connection
from .serve import Server
from .types import App, Exit, Files, Labels, Limits, Outputs, Package

if TYPE_CHECKING:
    from .process import ProcessProvider

MIB = 1 << 20
STATE = "state.json"
INPUTS, OUTPUTS = "images", "results"
LAUNCHER = Path(__file__).with_name("launch.py")

INHERITED = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
INHERITED_PREFIXES = ("OPENBLAS_", "MKL_")
"""A host may have to steer its numeric libraries; submissions use the same ones."""


class ProcessSandbox(BaseSandbox):
    """See `types.Sandbox`; made by `ProcessProvider.open`."""

    def __init__(
        self,
        provider: ProcessProvider,
        package: Package,
        owner: Labels,
        role: Role,
        limits: Limits,
        given: Mapping[str, str] | None,
        referee: App | None,
        files: Files | None,
    ) -> None:
        super().__init__(owner.name(role), role, limits, files)
        environment(given, limits, port=0, tmp="")  # refuses what is not allowed, at once
        self._provider = provider
        self._package = package
        self._owner = owner
        self._given = given
        self._referee = referee
        self._folder: Path | None = None
        self._server: Server | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._polling = threading.Lock()
        self._output = bytearray()
        self._reader: threading.Thread | None = None

    def _launch(self) -> Connection | None:
        try:
            unpacked = self._provider.folder(self._package, self._limits)
            self._folder = Path(tempfile.mkdtemp(dir=self._provider.running, prefix="s"))
            work, tmp = self._folder / "submission", self._folder / "tmp"
            shutil.copytree(unpacked, work)
            tmp.mkdir()
            self._lay_out(self._folder)
            # asyncio sets TCP_NODELAY only where the protocol is named; without it: 40 ms a query.
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sock.bind(("127.0.0.1", 0))
            port = int(sock.getsockname()[1])
            if self._referee is not None:
                self._server = Server(self._referee, sock)
            else:
                sock.close()
            self._spawn(work, tmp, port)
        except OSError as error:
            raise EngineFailed(f"could not start a process: {error}") from error
        return Connection(("127.0.0.1", port)) if self.role == "model" else None

    def _lay_out(self, folder: Path) -> None:
        """Write an attack's input files, for reading only, and make the folder for the others."""
        if self._files is None:
            return
        inputs = folder / INPUTS
        inputs.mkdir()
        (folder / OUTPUTS).mkdir()
        for name, content in self._files.inputs.items():
            (inputs / name).write_bytes(content)
            (inputs / name).chmod(0o444)
        inputs.chmod(0o555)

    def _spawn(self, work: Path, tmp: Path, port: int) -> None:
        command = list(sources.command(work))
        if command[0] in ("python", "python3"):
            command[0] = sys.executable
        variables = {
            name: value
            for name, value in os.environ.items()
            if name in INHERITED or name.startswith(INHERITED_PREFIXES)
        }
        variables |= environment(self._given, self._limits, port=port, tmp=str(tmp))
        variables |= file_environment(
            self._files, str(work.parent / INPUTS), str(work.parent / OUTPUTS)
        )
        variables |= {"PYTHONPATH": str(work), "PYTHONNOUSERSITE": "1"}
        rlimits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_DATA": self._limits.memory_mib * MIB,
            "RLIMIT_FSIZE": self._limits.file_mib * MIB,
            "RLIMIT_NOFILE": self._limits.open_files,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(LAUNCHER), json.dumps(rlimits), *command],
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()
        assert self._folder is not None
        state = {
            "name": self.name,
            "instance": self._provider.instance,
            "job": self._owner.job,
            "fence": self._owner.fence,
            "deadline": self._owner.deadline,
            "pid": self._process.pid,
            "born": _born(self._process.pid),
        }
        (self._folder / STATE).write_text(json.dumps(state))

    def _read_output(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while data := os.read(stream.fileno(), 65536):
                self._output += data
                if len(self._output) > 2 * LOG_BYTES:
                    del self._output[:-LOG_BYTES]

    def _look(self) -> Exit | None:
        code = self._poll()
        if code is None:
            return None
        return Exit(code if code >= 0 else 128 - code, oom_killed=False)

    def _oom_killed(self) -> bool:
        return False

    def _check_ours(self) -> None:
        """There is no gateway here."""

    def _read_logs(self) -> bytes:
        if (
            self._reader is not None
            and self._process is not None
            and self._process.poll() is not None
        ):
            self._reader.join(1.0)
        return bytes(self._output[-LOG_BYTES:])

    def _collect(self, files: Files) -> Outputs:
        assert self._folder is not None
        if self._process is not None and self._poll() is None:
            _kill_session(self._process.pid)
            self._process.wait(10.0)
        try:
            return outputs.from_folder(self._folder / OUTPUTS, files)
        except OSError as error:
            raise EngineFailed(f"the files of {self.name} can't be read: {error}") from error

    def _remove(self) -> None:
        if self._process is not None:
            if self._poll() is None:
                _kill_session(self._process.pid)
            self._process.wait(10.0)
        if self._reader is not None:
            self._reader.join(1.0)
        if self._server is not None:
            self._server.close()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / INPUTS).chmod(0o700)  # what is in it can be removed again
            shutil.rmtree(self._folder, ignore_errors=True)

    def _poll(self) -> int | None:
        """The exit code. What the program started ends with it, as in a container."""
        if self._process is None:
            return None
        with self._polling:
            running = self._process.returncode is None
            code = self._process.poll()
            if running and code is not None:
                _kill_session(self._process.pid)  # at once: its number is free from here on
        return code


def kill_leftover(state: Mapping[str, Any]) -> None:
    """Kill the process of a server that is gone, unless its number is another's by now."""
    pid = int(state["pid"])
    if state["born"] and _born(pid) == state["born"]:
        _kill_session(pid)


def _kill_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _born(pid: int) -> str:
    """When a process started, in whatever unit this system has; "" when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[19]
    except FileNotFoundError:
        pass
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()
    return ""
