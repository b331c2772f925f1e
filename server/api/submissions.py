"""Submissions: enter one, follow it, cancel, withdraw, run again, read its logs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy.orm import Session

from .. import lifecycle
from ..db import queries
from ..db.tables import Submission, Upload
from ..errors import Conflict, Invalid, NotFound
from ..policy import Actor
from ..schemas import LogsView, Page, Source, SubmissionRequest, SubmissionView
from .deps import CurrentActor, CurrentState, ReadSession, State, owned, require

router = APIRouter(prefix="/submissions", tags=["submissions"])

GZIP = b"\x1f\x8b"
LOGS_BYTES = 256 * 1024
MISSING = "there is no such submission; look at GET /api/v1/submissions"


@router.post("", status_code=202)
def submit(
    request: SubmissionRequest,
    response: Response,
    actor: CurrentActor,
    state: CurrentState,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> SubmissionView:
    """Enter a complete upload. With an Idempotency-Key, sending it again changes nothing."""
    require(actor, "submission.create")
    source = source_of(state, request.upload, actor)
    submission_id = lifecycle.enter(state.database, actor, request, source, idempotency_key)
    state.wake()
    response.headers["Location"] = f"/api/v1/submissions/{submission_id}"
    with state.database.read() as session:
        return queries.submission(session, submission_id, actor)


@router.get("")
def mine(
    session: ReadSession,
    actor: CurrentActor,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[SubmissionView]:
    """Your submissions, newest first; an operator's token lists everybody's."""
    require(actor, "submission.list")
    return queries.submissions(session, actor, after=after, limit=limit)


@router.get("/{submission_id}")
def show(submission_id: str, session: ReadSession, actor: CurrentActor) -> SubmissionView:
    """State, reason and position in the queue."""
    return queries.submission(session, submission_id, actor)


@router.post("/{submission_id}:cancel", status_code=202)
def cancel(submission_id: str, actor: CurrentActor, state: CurrentState) -> SubmissionView:
    """Stop the validation of a submission. Again and again changes nothing."""
    with state.database.write() as session:
        row = owned(session.get(Submission, submission_id), actor, "submission.cancel", MISSING)
        lifecycle.cancel(session, row, actor)
    return _after(state, submission_id, actor)


@router.post("/{submission_id}:withdraw", status_code=202)
def withdraw(submission_id: str, actor: CurrentActor, state: CurrentState) -> SubmissionView:
    """Take an accepted submission off the boards for good. Again and again changes nothing."""
    with state.database.write() as session:
        row = owned(session.get(Submission, submission_id), actor, "submission.withdraw", MISSING)
        lifecycle.withdraw(session, row, actor)
    return _after(state, submission_id, actor)


@router.post("/{submission_id}:rerun", status_code=202)
def rerun(submission_id: str, actor: CurrentActor, state: CurrentState) -> SubmissionView:
    """Run again what our side failed or what was cancelled. Costs nothing."""
    with state.database.write() as session:
        row = owned(session.get(Submission, submission_id), actor, "submission.rerun", MISSING)
        lifecycle.rerun(session, row, actor)
    return _after(state, submission_id, actor)


@router.get("/{submission_id}/logs")
def logs(
    submission_id: str,
    actor: CurrentActor,
    state: CurrentState,
    after: Annotated[int, Query(ge=0)] = 0,
) -> LogsView:
    """What the submission's program printed, from byte ``after`` on; for its owner only."""
    with state.database.read() as session:
        owned(session.get(Submission, submission_id), actor, "submission.logs", MISSING)
        text = printed(state, session, submission_id)
    shown = text[after : after + LOGS_BYTES]
    return LogsView(text=shown.decode("utf-8", "replace"), next=after + len(shown))


def printed(state: State, session: Session, submission_id: str) -> bytes:
    """What a submission's program printed, attempt by attempt."""
    parts: list[bytes] = []
    for attempt, sha256 in queries.logs(session, submission_id):
        title = f"=== attempt {attempt.fence}, {attempt.started_at:%Y-%m-%d %H:%M:%S} UTC ===\n"
        parts += [title.encode(), state.store.get(sha256), b"\n"]
    return b"".join(parts)


def _after(state: State, submission_id: str, actor: Actor) -> SubmissionView:
    state.wake()
    with state.database.read() as session:
        return queries.submission(session, submission_id, actor)


def source_of(state: State, upload_id: str, actor: Actor) -> Source:
    """What was uploaded, by its first bytes; raises Invalid when this server can't run that."""
    with state.database.read() as session:
        upload = session.get(Upload, upload_id)
        if upload is None or not actor.owns(upload.account_id):
            raise NotFound(f"no upload {upload_id!r} of yours; start with POST /api/v1/uploads")
        sha256 = upload.sha256
        received, length = upload.received, upload.length
    if sha256 is None:
        raise Conflict(f"the upload holds {received} of {length} bytes; send the rest first")
    with state.store.path(sha256).open("rb") as file:
        packed = file.read(2) == GZIP
    if packed and state.settings.sandbox == "docker":
        raise Invalid(
            "got a source package (.tar.gz); this server runs Docker images: upload the tarball "
            "that `docker save` writes, uncompressed (`tiltyard submit` does so)"
        )
    if not packed and state.settings.sandbox == "process":
        raise Invalid(
            "got something else than a source package; this server has no Docker and runs source "
            "packages: upload the folder as .tar.gz (`tiltyard submit` does so)"
        )
    return "package" if packed else "image"
