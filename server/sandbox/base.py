"""What both kinds of sandbox do alike: wait for ready, call, tell whose fault an end was, close."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Self, final

from .errors import (
    BadAnswer,
    Crashed,
    ExitedWhileStarting,
    OutOfMemory,
    Role,
    StartTimeout,
    Stopped,
    TooSlow,
)
from .http import Connection, MalformedAnswer
from .types import PORT, Exit, Files, Limits, Outputs, Reply, Speaks

LOG_BYTES = 65536
SHOWN_LINES = 12
SHOWN_BYTES = 2000

POLL_SECONDS = (0.01, 0.25)
"""Shortest and longest pause between two looks at a program."""

SETTLE_SECONDS = 2.0
"""How long the engine may take to notice that a program has ended."""

KILLED = (137, 143)
"""Exit codes of a program that somebody ended, or an engine that goes down."""

KILLED_SECONDS = 0.5
"""An engine that goes down ends all containers within this time."""

GREETING_2018 = b"NIPS 2018 Adversarial Vision Challenge"
"""How the answer to GET / of a model server of 2018 begins."""

READY_SECONDS = 5.0
"""One GET /v1/ready; a model that loads its weights in the handler may be asked again."""


class BaseSandbox(ABC):
    """One entry, running; see `types.Sandbox`. Subclasses say how it is started and looked at."""

    def __init__(self, name: str, role: Role, limits: Limits, files: Files | None = None) -> None:
        self._name = name
        self._files = files
        self._speaks: Speaks = "v1"
        self._role: Role = role
        self._limits = limits
        self._closed = threading.Event()
        self._closing = threading.Lock()
        self._last_logs = ""
        self._connection: Connection | None = None

    # What a subclass gives.

    @abstractmethod
    def _launch(self) -> Connection | None:
        """Start the program; a model's connection. Raises SubmissionFailed, EngineFailed."""

    @abstractmethod
    def _look(self) -> Exit | None:
        """How the program ended, None while it runs. Raises EngineFailed."""

    @abstractmethod
    def _oom_killed(self) -> bool:
        """Whether any of its processes was killed for memory, even if others still run."""

    @abstractmethod
    def _check_ours(self) -> None:
        """Raise EngineFailed when our own side (gateway, referee) is not there any more."""

    @abstractmethod
    def _read_logs(self) -> bytes:
        """The end of its output."""

    @abstractmethod
    def _collect(self, files: Files) -> Outputs:
        """End the program and read what it has left. Raises EngineFailed."""

    @abstractmethod
    def _remove(self) -> None:
        """End and remove everything; must be harmless when half of it never came to be."""

    # What everybody uses.

    @property
    def name(self) -> str:
        return self._name

    @property
    def role(self) -> Role:
        return self._role

    @property
    def speaks(self) -> Speaks:
        return self._speaks

    @final
    def start(self) -> None:
        try:
            self._check_open()
            self._connection = self._launch()
            self._check_open()
            if self._connection is not None:
                self._await_ready(self._connection)
        except BaseException as error:
            stopped = self._closed.is_set()
            self.close()
            # Closed from outside half-way: what came to be after that is still there.
            with contextlib.suppress(Exception):
                self._remove()
            if stopped and isinstance(error, Exception):
                raise Stopped(f"{self._name} was closed while it was starting") from error
            raise

    @final
    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        most: int = 1 << 20,
    ) -> Reply:
        self._check_open()
        if self._connection is None:
            raise RuntimeError("only a started model can be called")
        seconds = self._limits.call_seconds if timeout is None else timeout
        try:
            return self._connection.call(
                method, path, body, headers or {}, timeout=seconds, most=most
            )
        except TimeoutError as error:
            self._check_open()
            raise TooSlow(
                f"the {self.role} took more than {seconds:g} s to answer {method} {path}",
                "answer faster: every batch must be done within that time",
                self.role,
                None,
                self._shown(),
            ) from error
        except MalformedAnswer as error:
            raise BadAnswer(
                f"the {self.role}'s answer to {method} {path} could not be read: {error}",
                "answer with plain HTTP/1.1, as kit.serve does",
                self.role,
                None,
                self._shown(),
            ) from error
        except ConnectionError as error:
            raise self._why_gone(f"{method} {path}", error) from error

    @final
    def wait(self, timeout: float) -> Exit | None:
        until = time.monotonic() + timeout
        pause = POLL_SECONDS[0]
        while True:
            self._check_open()
            ended = self._outcome()
            left = until - time.monotonic()
            if ended is not None or left <= 0:
                return ended
            self._closed.wait(min(pause, left))
            pause = min(2 * pause, POLL_SECONDS[1])

    @final
    def collect(self) -> Outputs:
        self._check_open()
        if self._files is None:
            return Outputs()
        try:
            return self._collect(self._files)
        except Exception:
            self._check_open()
            raise

    @final
    def logs(self) -> str:
        if self._closed.is_set():
            return self._last_logs
        return printable(self._read_logs())

    @final
    def close(self) -> None:
        with self._closing:
            if self._closed.is_set():
                return
            with contextlib.suppress(Exception):
                self._last_logs = printable(self._read_logs())
            self._closed.set()
            if self._connection is not None:
                self._connection.close()
            with contextlib.suppress(Exception):  # the reaper takes what is left
                self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _await_ready(self, connection: Connection) -> None:
        limit = self._limits.start_seconds
        until = time.monotonic() + limit
        seen = f"nothing listened on 127.0.0.1:{PORT}"
        pause, looked = POLL_SECONDS[0], 0.0
        while (left := until - time.monotonic()) > 0:
            try:
                reply = connection.call(
                    "GET", "/v1/ready", b"", {}, timeout=min(left, READY_SECONDS), most=65536
                )
                if _says_ready(reply):
                    return
                if self._greets_as_in_2018(connection, until):
                    self._speaks = "2018"
                    return
                seen = f"GET /v1/ready was answered {reply.status} {reply.body[:80]!r}"
            except TimeoutError:
                seen = "GET /v1/ready was not answered"
            except MalformedAnswer as error:
                seen = f"the answer to GET /v1/ready could not be read: {error}"
            except ConnectionError:
                pass
            self._check_open()
            if time.monotonic() - looked > POLL_SECONDS[1] / 2:
                looked = time.monotonic()
                ended = self._outcome()
                if ended is not None:
                    raise self._ended(ended, starting=True)
            self._closed.wait(pause)
            pause = min(1.5 * pause, POLL_SECONDS[1])
        self._check_ours()
        raise StartTimeout(
            f"the {self.role} was not ready within {limit:g} s: {seen}",
            'listen on 127.0.0.1 at MODEL_PORT and answer GET /v1/ready with {"ready": true} '
            "once predictions can be asked; kit.serve does both",
            self.role,
            None,
            self._shown(),
        )

    def _greets_as_in_2018(self, connection: Connection, until: float) -> bool:
        """Whether GET / is answered by a model server of 2018, which has no /v1/ready."""
        left = until - time.monotonic()
        if left <= 0:
            return False
        reply = connection.call("GET", "/", b"", {}, timeout=min(left, READY_SECONDS), most=65536)
        return reply.status == 200 and reply.body.startswith(GREETING_2018)

    def _why_gone(self, what: str, error: Exception) -> Exception:
        """The right error for a connection that broke."""
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            self._check_open()
            ended = self._outcome()
            if ended is not None:
                return self._ended(ended, starting=False)
            if time.monotonic() > until:
                break
            self._closed.wait(0.05)
        self._check_ours()
        if self._oom_killed():
            return self._out_of_memory(None)
        return BadAnswer(
            f"the {self.role} closed the connection in the middle of {what} ({error})",
            "answer every request; an exception in the handler must become a 500",
            self.role,
            None,
            self._shown(),
        )

    def _outcome(self) -> Exit | None:
        """How the program ended. Raises EngineFailed where our side went down together with it."""
        ended = self._look()
        if ended is not None and ended.code in KILLED and not ended.oom_killed:
            self._closed.wait(KILLED_SECONDS)
            self._check_open()
            self._check_ours()
        return ended

    def _ended(self, ended: Exit, *, starting: bool) -> Exception:
        if ended.oom_killed:
            return self._out_of_memory(ended.code)
        kind = ExitedWhileStarting if starting else Crashed
        when = "while starting" if starting else "in the middle of the match"
        return kind(
            f"the {self.role} ended with {exit_text(ended)} {when}",
            "read its last lines of output"
            if self._shown()
            else "it printed nothing; run it locally with `tiltyard test` to see why",
            self.role,
            ended.code,
            self._shown(),
        )

    def _out_of_memory(self, code: int | None) -> OutOfMemory:
        return OutOfMemory(
            f"the {self.role} used more than its {self._limits.memory_mib} MiB of memory and was "
            "killed",
            "use less: smaller batches, smaller weights; what is in /tmp counts too",
            self.role,
            code,
            self._shown(),
        )

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Stopped(f"{self._name} was closed while it was in use")

    def _shown(self) -> str:
        with contextlib.suppress(Exception):
            return last_lines(self.logs())
        return ""


def _says_ready(reply: Reply) -> bool:
    try:
        answer = json.loads(reply.body)
    except (ValueError, RecursionError):
        return False
    return reply.status == 200 and isinstance(answer, dict) and answer.get("ready") is True


def exit_text(ended: Exit) -> str:
    """ "exit code 1", or what killed it: 137 is 128 + SIGKILL."""
    names = {137: "SIGKILL", 139: "SIGSEGV, a crash in native code", 134: "SIGABRT"}
    names |= {143: "SIGTERM", 132: "SIGILL: compiled for another processor", 153: "SIGXFSZ"}
    names |= {127: "command not found", 126: "command can't be executed", 159: "SIGSYS"}
    extra = f" ({names[ended.code]})" if ended.code in names else ""
    return f"exit code {ended.code}{extra}"


def printable(data: bytes) -> str:
    """Text that is safe to show: no terminal escapes, no NUL, at most LOG_BYTES."""
    text = data[-LOG_BYTES:].decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def last_lines(text: str) -> str:
    """The few last lines, for an error or a note."""
    lines = text.rstrip().splitlines()[-SHOWN_LINES:]
    return "\n".join(lines)[-SHOWN_BYTES:]
