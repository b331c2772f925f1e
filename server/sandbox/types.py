"""The small interface of every sandbox: a provider opens sandboxes, a sandbox runs one entry.

Two providers exist: `docker` (isolated) and `process` (not isolated, for a participant's own code
on their own machine). One suite, tests/server/test_sandbox_conformance.py, runs on both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from bench.tracks.types import Limits

from .errors import Role

PORT: Final = 8989
"""Where a container finds the referee, or listens itself, on 127.0.0.1."""

Current = Callable[[], Collection[tuple[str, int]]]
"""Says which (job, fence) are live. Called after the sandboxes were listed, so that one which was
opened in between is never taken for a leftover."""

App = Callable[..., Any]
"""An ASGI application."""

__all__ = [
    "PORT",
    "App",
    "Current",
    "Exit",
    "Files",
    "Labels",
    "Limits",
    "Outputs",
    "Package",
    "Provider",
    "Reply",
    "Role",
    "Sandbox",
    "Speaks",
]


@dataclass(frozen=True)
class Labels:
    """Whose sandbox it is, so that the reaper can tell a leftover.

    Attributes:
        job, fence: the lease that it belongs to.
        deadline: Unix time after which it is a leftover in any case.
    """

    job: str
    fence: int
    deadline: float

    def name(self, role: Role) -> str:
        """The sandbox's name on the engine."""
        return f"tiltyard-{self.job}-{self.fence}-{role}"


@dataclass(frozen=True)
class Package:
    """A submission's file, checked.

    Attributes:
        form: "image" (a `docker save` tarball) or "source" (.tar.gz of the folder).
        digest: "sha256:...", the same for the same contents however they were packed.
        path: the file, kept so that a lost image can be loaded again.
        packed, unpacked: sizes in bytes.
    """

    form: Literal["image", "source"]
    digest: str
    path: Path
    packed: int
    unpacked: int


@dataclass(frozen=True)
class Reply:
    """An HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Speaks = Literal["v1", "2018"]
"""The protocol of a model: ours, or that of the 2018 challenge."""


@dataclass(frozen=True)
class Files:
    """Files for an attack of 2018, which reads its images and stores what it finds as such.

    Attributes:
        inputs: {name: content}, in one folder that the attack can't change.
        largest: bytes that a file may have which it leaves; a larger one is not read.
    """

    inputs: Mapping[str, bytes]
    largest: int

    @property
    def most(self) -> int:
        """Files that it may leave."""
        return 2 * len(self.inputs) + 16


@dataclass(frozen=True)
class Outputs:
    """What an attack has left as files.

    Attributes:
        files: {name: content} of plain files, at most so large.
        refused: {name: reason} of everything else.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exit:
    """How an entry's program ended."""

    code: int
    oom_killed: bool


class Sandbox(Protocol):
    """One entry, running. `close` is safe from any thread and any number of times."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...

    @property
    def speaks(self) -> Speaks:
        """The protocol that a started model answers."""
        ...

    def start(self) -> None:
        """Start it; a model is ready when this returns. Closes itself when it raises.

        Raises:
            ExitedWhileStarting, StartTimeout, OutOfMemory, BadAnswer: the submission's fault.
            EngineFailed: ours. Stopped: closed meanwhile.
        """
        ...

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        most: int = 1 << 20,
    ) -> Reply:
        """Send a request to a model, over one kept-alive connection. Any status is returned.

        Args:
            timeout: seconds for the whole exchange; the track's call_seconds when not given.
            most: bytes of the answer's body at most.

        Raises:
            TooSlow, Crashed, OutOfMemory, BadAnswer: the submission's fault.
            EngineFailed: ours. Stopped: closed meanwhile.
        """
        ...

    def wait(self, timeout: float) -> Exit | None:
        """Wait until the program ends; None when it still runs after `timeout` seconds.

        Raises:
            EngineFailed: the engine does not answer. Stopped: closed meanwhile.
        """
        ...

    def collect(self) -> Outputs:
        """End an attack's program and read the files that it has left; nothing without `files`.

        Raises:
            EngineFailed: the engine does not answer. Stopped: closed meanwhile.
        """
        ...

    def logs(self) -> str:
        """The last 64 KiB of its output, printable; what was kept at `close` after that."""
        ...

    def close(self) -> None:
        """End everything and remove it. Never raises."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Provider(Protocol):
    """A way to run entries."""

    @property
    def name(self) -> str:
        """ "docker" or "process"; recorded with each result."""
        ...

    @property
    def isolated(self) -> bool:
        """Whether untrusted code may be run."""
        ...

    def facts(self) -> dict[str, Any]:
        """What this host can do, as JSON: recorded with each result, shown on /healthz.

        "missing" lists each protection that this host lacks, in words for the operator.
        """
        ...

    def inspect(self, path: Path, limits: Limits) -> Package:
        """Check an uploaded file without running or loading anything.

        Raises:
            PackageRefused: with the reason. EngineFailed: the file can't be read.
        """
        ...

    def load(self, path: Path, limits: Limits, *, digest: str | None = None) -> Package:
        """Check an uploaded file and make it ready to run; quick when it already is.

        Args:
            digest: what an earlier `load` or `inspect` of this very file gave. When the engine
                still has it, the file is not read again.

        Raises:
            PackageRefused, EngineFailed.
        """
        ...

    def forget(self, digest: str) -> None:
        """Free what `load` took, for a submission that is gone. Unknown digests are fine."""
        ...

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
        """A sandbox that is not started yet.

        Args:
            package: as `load` gave it.
            environment: from `environment.ALLOWED` only; MODEL_SERVER and MODEL_PORT are set.
            referee: the ASGI application that an attack talks to; an attack needs one.
            files: what an attack of 2018 reads; their places are in its environment.
            gpus: how many GPUs it gets.
        """
        ...

    def leftovers(self, current: Current) -> list[str]:
        """The names of what `reap` would remove."""
        ...

    def reap(self, current: Current) -> list[str]:
        """Remove this instance's sandboxes that are not current or past their deadline.

        Returns:
            The names of what was removed.
        """
        ...

    def close(self) -> None:
        """Let go of the engine. Sandboxes are closed by who opened them."""
        ...
