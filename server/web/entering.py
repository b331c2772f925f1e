"""Enter from the browser: choose a track and a file, then follow it on the entry's own page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from .. import lifecycle
from ..api.deps import CurrentState, State, require
from ..api.submissions import printed, source_of
from ..api.uploads import largest, whole
from ..db import queries
from ..db.ids import new_id
from ..db.tables import Submission
from ..errors import ApiError, BadRequest, Invalid, NotFound, TooLarge
from ..policy import Actor
from ..schemas import SubmissionRequest
from .forms import Visitor, form_page, require_own_origin, require_word

router = APIRouter(include_in_schema=False)

PATH = "/submit"
FORM_BYTES = 2**20
"""What a form may hold besides its file."""


@router.get(PATH)
def form(
    request: Request,
    state: CurrentState,
    visitor: Visitor,
    track: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Track, name and file."""
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    return _form(request, state, {"track": track, "name": ""})


@router.post(PATH)
async def submit(request: Request, state: CurrentState, visitor: Visitor) -> Response:
    """Enter what was chosen: on to the entry's page, or back to the form with what is wrong."""
    if visitor.account_id is None:
        return RedirectResponse("/sign-in", 303)
    said: dict[str, str] = {"track": "", "name": ""}
    try:
        require_own_origin(request, state)
        require(visitor, "submission.create")
        limited = Request(request.scope, receive=_limited(request))
        try:
            async with limited.form(max_files=1, max_fields=8) as fields:
                said = {name: str(fields.get(name, "")) for name in ("track", "name")}
                require_word(request, str(fields.get("csrf", "")))
                made = await run_in_threadpool(_enter, state, visitor, fields)
        except HTTPException as error:  # how the parser says that it cannot read it
            raise BadRequest(f"the form cannot be read: {error.detail}") from error
    except ApiError as error:
        return await run_in_threadpool(_form, request, state, said, error)
    state.wake()
    return RedirectResponse(f"/entries/{made}", 303)


@router.get("/entries/{submission_id}/log")
def log(submission_id: str, state: CurrentState, visitor: Visitor) -> Response:
    """All that an entry's program printed, as text; for its owner."""
    with state.database.read() as session:
        row = session.get(Submission, submission_id)
        if row is None or not visitor.sees_private(row.account_id):
            raise NotFound("there is no such entry of yours")
        text = printed(state, session, submission_id)
    headers = {"Cache-Control": "no-store"}
    return Response(text, media_type="text/plain; charset=utf-8", headers=headers)


def _enter(state: State, visitor: Actor, fields: FormData) -> str:
    """The chosen file as an upload, entered; the submission's id."""
    file = fields.get("file")
    if not isinstance(file, UploadFile) or not file.size:
        raise Invalid("no file was chosen, or it is empty")
    try:
        asked = SubmissionRequest(
            track=str(fields.get("track", "")), name=str(fields.get("name", "")), upload="-"
        )
    except ValidationError as error:
        raise Invalid("an entry has a name of 1 to 80 letters") from error
    with state.database.read() as session:
        queries.track(session, asked.track)  # an unknown one is said before anything is kept
    upload = whole(state, visitor, file.file, file.size)
    asked = asked.model_copy(update={"upload": upload})
    source = source_of(state, upload, visitor)
    key = str(fields.get("key", ""))[:100] or None
    return lifecycle.enter(state.database, visitor, asked, source, key)


def _limited(request: Request) -> Receive:
    """The request's body, up to the largest file that any track takes."""
    most = largest() + FORM_BYTES
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > most:
            raise TooLarge(f"the file has more than {largest()} bytes, which no track takes")
        return message

    return receive


def _form(
    request: Request, state: State, said: dict[str, str], error: ApiError | None = None
) -> Response:
    with state.database.read() as session:
        tracks = queries.tracks(session)
        opened = {each.name for each in queries.challenges_here(session) if each.open}
    return form_page(
        request,
        "submit.html",
        error,
        tracks=[track for track in tracks if track.challenge in opened],
        sandbox=state.settings.sandbox,
        said=said,
        key=new_id(),
        here="submit",
    )
