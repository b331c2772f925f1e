"""The API from the other side: what `tiltyard submit` and `tiltyard board` ask a server.

Answers are the JSON of `server.schemas` as plain dictionaries, so that a newer server may say more.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bench.errors import InfrastructureError, UserError

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]

CHUNK_BYTES = 8 * 2**20
TRIES = 6
"""How often in a row a request may fail for want of a connection before it is given up."""
PAUSES = (0.2, 5.0)
"""Seconds before the second try, and at most; doubled each time."""
POLLS = (0.25, 3.0)
"""Seconds between two looks at a submission: at first, and at most."""

AGAIN = frozenset({408, 409, 423, 460, 502, 503, 504})
"""Answers to a chunk after which asking for the offset and going on there may help."""
ENDED = frozenset({"rejected", "withdrawn", "disqualified"})
JOB_ENDED = frozenset({"succeeded", "failed_user", "dead", "cancelled"})


class Client:
    """A server, and who asks it. A context manager.

    Args:
        server: its URL, such as http://127.0.0.1:8000.
        token: of an account; boards and rules need none.

    Every method raises UserError (the server's own words and its mend: 4xx, nobody there) or
    InfrastructureError (5xx, a connection that broke).
    """

    def __init__(self, server: str, token: str | None = None) -> None:
        import httpx

        self.server = server.rstrip("/")
        headers = {"User-Agent": "tiltyard", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            self._http = httpx.Client(base_url=self.server, headers=headers, timeout=60)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise self._no_url() from error
        url = httpx.URL(self.server)
        if url.scheme not in ("http", "https") or not url.host:
            raise self._no_url()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def tracks(self) -> list[Json]:
        """All tracks with their rules."""
        found: list[Json] = self._ask("GET", "/api/v1/tracks").json()
        return found

    def rules(self, track: str) -> Json:
        """One track's limits, budget, image contract and ranking rule."""
        return self._json("GET", f"/api/v1/tracks/{track}/rules")

    def sandbox(self) -> str:
        """Where submissions run, here or on this server's workers: "docker" or "process"."""
        return str(self._json("GET", "/healthz")["sandbox"]["provider"])

    def board(self, track: str) -> Json:
        """A board."""
        return self._json("GET", f"/api/v1/boards/{track}")

    def board_csv(self, track: str) -> str:
        """A board as CSV."""
        return self._ask("GET", f"/api/v1/boards/{track}", {"Accept": "text/csv"}).text

    def new_token(self, name: str, password: str, scope: str, days: float, label: str) -> str:
        """The text of a new token of an account."""
        body = {"name": name, "password": password, "scope": scope, "days": days, "label": label}
        return str(self._json("POST", "/api/v1/auth/tokens", body=body)["text"])

    def submission(self, submission: str) -> Json:
        """One submission: state, reason, position in the queue, jobs."""
        return self._json("GET", f"/api/v1/submissions/{submission}")

    def submissions(self) -> list[Json]:
        """Your latest submissions, newest first."""
        found: list[Json] = self._json("GET", "/api/v1/submissions")["items"]
        return found

    def logs(self, submission: str, after: int = 0) -> tuple[str, int]:
        """What it printed from byte ``after`` on, and where to read on from."""
        answer = self._json("GET", f"/api/v1/submissions/{submission}/logs?after={after}")
        return str(answer["text"]), int(answer["next"])

    def upload(self, file: Path, report: Callable[[int, int], None] | None = None) -> str:
        """Send a file in chunks, each with its SHA-256; returns the upload's id.

        When the connection breaks it asks for the offset and goes on there.

        Args:
            report: called with (bytes there, bytes in all) after each chunk.
        """
        size = file.stat().st_size
        if size == 0:
            raise UserError(f"{file} is empty; wanted a source package or a saved image")
        made = self._json("POST", "/api/v1/uploads", {"Upload-Length": str(size)})
        path, offset, failures = f"/api/v1/uploads/{made['id']}", 0, 0
        with file.open("rb") as content:
            while offset < size:
                there = self._append(path, content, offset)
                if there is None:
                    failures += 1
                    if failures >= TRIES:
                        raise InfrastructureError(
                            f"the upload broke off {TRIES} times at {offset} of {size} bytes; "
                            "try again when the connection is better"
                        )
                    _pause(failures)
                    there = self._offset(path)
                if there > offset:
                    failures = 0
                offset = there
                if report is not None:
                    report(offset, size)
        return str(made["id"])

    def submit(self, track: str, name: str, upload: str, key: str | None = None) -> Json:
        """Enter a complete upload; returns the submission.

        It is safe to send again: the same ``key`` (Idempotency-Key, made up by default) never
        makes a second submission, so this tries again by itself when the connection breaks.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        body = {"track": track, "name": name, "upload": upload}
        return self._patient("POST", "/api/v1/submissions", headers, body)

    def wait(
        self,
        submission: str,
        report: Callable[[Json], None] | None = None,
        *,
        seconds: float | None = None,
    ) -> Json:
        """Follow a submission until it is refused, or accepted and scored by all its matches.

        Args:
            report: called with the submission whenever something about it has changed.
            seconds: after which waiting ends with a UserError; the server goes on. None: no limit.
        """
        end = None if seconds is None else time.monotonic() + seconds
        shown: Json | None = None
        pause = POLLS[0]
        while True:
            found = self._patient("GET", f"/api/v1/submissions/{submission}")
            if report is not None and found != shown:
                report(found)
            if found["state"] in ENDED or (_played(found) and self._settled(found)):
                return found
            pause = POLLS[0] if found != shown else min(1.5 * pause, POLLS[1])
            shown = found
            if end is not None and time.monotonic() > end:
                raise UserError(
                    f"submission {submission} is still {found['state']} after {seconds:g} s; "
                    f"the server goes on: see {self.server}"
                )
            time.sleep(pause)

    def _settled(self, submission: Json) -> bool:
        """Whether the board says so too: some matches are jobs of the opponent, not of this one."""
        rows = self._patient("GET", f"/api/v1/boards/{submission['track']}")["rows"]
        return any(
            row["entry"]["id"] == submission["id"] and row["state"] != "playing" for row in rows
        )

    def _append(self, path: str, content: Any, offset: int) -> int | None:
        """Send one chunk; the new offset, or None when it has to be asked for."""
        import httpx

        content.seek(offset)
        chunk = content.read(CHUNK_BYTES)
        digest = base64.b64encode(hashlib.sha256(chunk).digest()).decode()
        headers = {
            "Tus-Resumable": "1.0.0",
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {digest}",
        }
        try:
            answer = self._http.patch(path, content=chunk, headers=headers)
        except httpx.TransportError:
            return None
        if answer.status_code in AGAIN:
            return None
        return int(self._checked(answer).headers["Upload-Offset"])

    def _offset(self, path: str) -> int:
        """How many bytes of an upload are there."""
        import httpx

        for attempt in range(1, TRIES + 1):
            try:
                return int(self._checked(self._http.head(path)).headers["Upload-Offset"])
            except httpx.TransportError as error:
                if attempt == TRIES:
                    raise self._nobody(error) from error
            except _UnavailableError:
                if attempt == TRIES:
                    raise
            _pause(attempt)
        raise AssertionError

    def _patient(
        self, method: str, path: str, headers: Json | None = None, body: Json | None = None
    ) -> Json:
        """A request that may be sent twice: tried again when no answer comes or 503."""
        for attempt in range(1, TRIES):
            with suppress(_NoAnswerError, _UnavailableError):
                return self._json(method, path, headers, body)
            _pause(attempt)
        return self._json(method, path, headers, body)

    def _json(
        self, method: str, path: str, headers: Json | None = None, body: Json | None = None
    ) -> Json:
        try:
            found = self._ask(method, path, headers, body).json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self.server} answered {path} with no JSON; is it a Tiltyard server?")
        return found

    def _ask(
        self, method: str, path: str, headers: Json | None = None, body: Json | None = None
    ) -> httpx.Response:
        import httpx

        try:
            return self._checked(self._http.request(method, path, headers=headers, json=body))
        except httpx.TransportError as error:
            raise self._nobody(error) from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        """The answer when it is a success; else what the server says is wrong."""
        if answer.is_success:
            return answer
        try:
            problem = answer.json()
            detail = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{self.server} answered {answer.status_code} {answer.reason_phrase}"
        if answer.status_code in (502, 503, 504):
            raise _UnavailableError(detail)
        if answer.status_code >= 500:
            raise InfrastructureError(detail)
        if answer.status_code == 401:
            detail += "; put your token into TILTYARD_TOKEN"
        raise UserError(detail)

    def _nobody(self, error: Exception) -> UserError:
        return _NoAnswerError(
            f"no answer from {self.server} ({error}); give the right URL with --server, or start "
            "one with `tiltyard serve`"
        )

    def _no_url(self) -> UserError:
        return UserError(f"{self.server!r} is no URL of a server; wanted http://HOST:PORT")


def _played(submission: Json) -> bool:
    ended = all(job["state"] in JOB_ENDED for job in submission["jobs"])
    return submission["state"] == "accepted" and ended


class _NoAnswerError(UserError):
    """Nobody answered: worth another try where the request may be sent twice."""


class _UnavailableError(InfrastructureError):
    """A server that is starting or stopping, or a proxy without one: likewise."""


def _pause(failures: int) -> None:
    time.sleep(min(PAUSES[0] * 2 ** (failures - 1), PAUSES[1]))
