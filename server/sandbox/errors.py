"""What can go wrong with a sandbox, whose fault it is, and who sees it.

bench.errors.SubmissionError
└── SubmissionFailed            the participant's fault: never retried, shown to the author
    ├── PackageRefused          the uploaded file is not one that we run
    ├── ExitedWhileStarting     the program ended before it was ready
    ├── StartTimeout            it was not ready in time
    ├── Crashed                 the program ended in the middle of the match
    ├── OutOfMemory             the kernel killed it at its memory limit
    ├── TooSlow                 one call, or the whole run, took too long
    ├── BadAnswer               it answered something that the protocol does not know
    └── NotDeterministic        the same image got two labels
bench.errors.InfrastructureError
├── EngineFailed                our fault: retried by the queue, costs the participant nothing
└── Stopped                     nobody's fault: the worker was told to stop (cancel, lost lease)
"""

from __future__ import annotations

from typing import ClassVar, Literal

from bench.errors import InfrastructureError, SubmissionError

Role = Literal["model", "attack"]


class SubmissionFailed(SubmissionError):
    """A submission failed by its own fault.

    Attributes:
        reason: what was got and what was wanted.
        mend: what its author can do.
        role: which of the two entries it was, None when it has not been played yet.
        code: the exit code where the program ended, else None.
        logs: the last lines of its output.
        kind: the class of error in two or three words that hold nothing of the program's own.
    """

    kind: ClassVar[str] = "failed"

    def __init__(
        self,
        reason: str,
        mend: str,
        role: Role | None = None,
        code: int | None = None,
        logs: str = "",
    ) -> None:
        super().__init__(reason, mend, role, code, logs)
        self.reason = reason
        self.mend = mend
        self.role = role
        self.code = code
        self.logs = logs

    @property
    def oom(self) -> bool:
        """Whether the kernel killed it at its memory limit."""
        return isinstance(self, OutOfMemory)

    def __str__(self) -> str:
        return f"{self.reason}; {self.mend}" if self.mend else self.reason


class PackageRefused(SubmissionFailed):
    """The uploaded file is not one that we run. Raised by `inspect` and `load`."""

    kind = "its file was refused"


class ExitedWhileStarting(SubmissionFailed):
    """The program ended before it was ready. Raised by `start`."""

    kind = "ended while starting"


class StartTimeout(SubmissionFailed):
    """The model did not answer GET /v1/ready in time. Raised by `start`."""

    kind = "not ready in time"


class Crashed(SubmissionFailed):
    """The program ended in the middle of the match. Raised by `call`."""

    kind = "its program ended"


class OutOfMemory(SubmissionFailed):
    """The kernel killed the program at its memory limit. Raised by `start` and `call`."""

    kind = "out of memory"


class TooSlow(SubmissionFailed):
    """A call took longer than the track allows. Raised by `call`."""

    kind = "too slow"


class BadAnswer(SubmissionFailed):
    """Not HTTP, too long, not the array that was wanted. Raised by `call` and the adapters."""

    kind = "a wrong answer"


class NotDeterministic(SubmissionFailed):
    """The same image got two labels. Raised by `ContainerModel.probe`."""

    kind = "two labels for one image"


class EngineFailed(InfrastructureError):
    """The engine, the gateway or the disk failed: ours. Raised by everything."""


class Stopped(InfrastructureError):
    """The sandbox was closed from outside while it was in use (cancel, lost lease, shutdown)."""
