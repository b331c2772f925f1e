"""Resumable uploads, after tus 1.0: create, append from an offset, ask for the offset, give up.

A chunk counts once it is on disk and synced; its checksum is verified before that. Whoever was cut
off asks HEAD for the offset and goes on from there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Header, Request, Response
from sqlalchemy import func, select, update
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from .. import rules
from ..db.engine import db_now
from ..db.ids import new_id
from ..db.tables import Upload
from ..db.views import when
from ..errors import (
    BadRequest,
    ChecksumMismatch,
    Conflict,
    Locked,
    TooLarge,
    WrongMediaType,
)
from ..policy import Action, Actor
from ..schemas import UploadView
from .deps import CurrentActor, CurrentState, State, owned, require

router = APIRouter(prefix="/uploads", tags=["uploads"])

CHUNK_BYTES = 16 * 2**20
OPEN_UPLOADS = 5
"""Unfinished uploads that an account may have."""
LIFE_SECONDS = 86400.0
TUS = {"Tus-Resumable": "1.0.0", "Cache-Control": "no-store"}
OCTETS = "application/offset+octet-stream"


@router.post("", status_code=201)
def create(
    response: Response,
    actor: CurrentActor,
    state: CurrentState,
    upload_length: Annotated[int | None, Header(description="bytes in all")] = None,
) -> UploadView:
    """Start an upload of ``Upload-Length`` bytes; its address is in ``Location``."""
    require(actor, "upload.create")
    most = largest()
    if upload_length is None or upload_length < 1:
        raise BadRequest("the header Upload-Length must hold the number of bytes, 1 or more")
    if upload_length > most:
        raise TooLarge(f"the upload has {upload_length} bytes; no track takes more than {most}")
    with state.database.write() as session:
        waiting = session.scalar(
            select(func.count())
            .select_from(Upload)
            .where(
                Upload.account_id == actor.account_id,
                Upload.sha256.is_(None),
                Upload.expires_at > db_now(),
            )
        )
        if (waiting or 0) >= OPEN_UPLOADS:
            raise Conflict(
                f"you have {waiting} unfinished uploads; finish one, or give it up with "
                "DELETE /api/v1/uploads/{id}"
            )
        now = session.execute(select(db_now())).scalar_one()
        row = Upload(
            account_id=actor.account_id, length=upload_length, expires_at=now + LIFE_SECONDS
        )
        session.add(row)
        session.flush()
        view = _view(row)
    file = _file(state, view.id)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    response.headers.update(_headers(view) | {"Location": f"/api/v1/uploads/{view.id}"})
    return view


@router.head("/{upload_id}")
def offset(upload_id: str, actor: CurrentActor, state: CurrentState) -> Response:
    """Where to go on: ``Upload-Offset``."""
    with state.database.read() as session:
        view = _view(_own(session.get(Upload, upload_id), upload_id, actor, "upload.read"))
    return Response(headers=_headers(view))


@router.get("/{upload_id}")
def show(upload_id: str, actor: CurrentActor, state: CurrentState) -> UploadView:
    """The same as HEAD, as JSON."""
    with state.database.read() as session:
        return _view(_own(session.get(Upload, upload_id), upload_id, actor, "upload.read"))


@router.delete("/{upload_id}", status_code=204)
def give_up(upload_id: str, actor: CurrentActor, state: CurrentState) -> Response:
    """Drop an unfinished upload."""
    with state.database.write() as session:
        row = _own(session.get(Upload, upload_id), upload_id, actor, "upload.write")
        if row.sha256 is not None:
            raise Conflict("this upload is complete; it goes away by itself when it is not used")
        session.delete(row)
    _file(state, upload_id).unlink(missing_ok=True)
    return Response(status_code=204, headers=TUS)


@router.patch("/{upload_id}", status_code=204)
async def append(
    upload_id: str,
    request: Request,
    actor: CurrentActor,
    state: CurrentState,
    upload_offset: Annotated[int | None, Header()] = None,
    upload_checksum: Annotated[str | None, Header(description="sha256 <base64>")] = None,
) -> Response:
    """Append one chunk of at most 16 MiB at ``Upload-Offset``, checked by ``Upload-Checksum``."""
    expected = _checksum(upload_checksum)
    if request.headers.get("content-type") != OCTETS:
        raise WrongMediaType(f"a chunk has the content type {OCTETS}")
    async with _alone(request, upload_id):
        view = await run_in_threadpool(_load, state, upload_id, actor)
        if upload_offset != view.offset:
            raise Conflict(
                f"Upload-Offset is {upload_offset}, but {view.offset} bytes are here; go on there",
                headers=_headers(view),
            )
        if view.sha256 is None:
            room = min(CHUNK_BYTES, view.length - view.offset)
            received = await _receive(request, _file(state, upload_id), view.offset, room, expected)
            view = await run_in_threadpool(_commit, state, view, received)
    return Response(status_code=204, headers=_headers(view))


def largest() -> int:
    """Bytes of the largest file that any track takes."""
    return max(track.limits.image_mib for track in rules.tracks().values()) * 2**20


def whole(state: State, actor: Actor, file: BinaryIO, size: int) -> str:
    """A file that arrived at once, as a complete upload; its id."""
    require(actor, "upload.create")
    if size > largest():
        raise TooLarge(f"the file has {size} bytes; no track takes more than {largest()}")
    upload_id = new_id()
    path = _file(state, upload_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as copy:
            shutil.copyfileobj(file, copy, 2**20)
            copy.flush()
            os.fsync(copy.fileno())
        sha256 = state.store.link(path)
        with state.database.write() as session:
            now = session.execute(select(db_now())).scalar_one()
            session.add(
                Upload(
                    id=upload_id,
                    account_id=actor.account_id,
                    length=size,
                    received=size,
                    sha256=sha256,
                    expires_at=now + LIFE_SECONDS,
                )
            )
    finally:
        path.unlink(missing_ok=True)
    return upload_id


async def _receive(
    request: Request, path: Path, start: int, room: int, expected: bytes | None
) -> int:
    """Write the body behind ``start`` and sync it; returns how many bytes it had.

    Nothing of a chunk that is too long or differs from its checksum is kept. Of one that breaks off
    everything is, unless it had a checksum.
    """
    digest = hashlib.sha256()
    received = 0
    with path.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        try:
            async for block in request.stream():
                received += len(block)
                if received > room:
                    raise TooLarge(
                        f"the chunk has more than {room} bytes; send what is left in chunks of "
                        f"{CHUNK_BYTES} at most"
                    )
                digest.update(block)
                await run_in_threadpool(file.write, block)
        except ClientDisconnect:
            if expected is not None:
                file.truncate(start)
                raise
        if expected is not None and digest.digest() != expected:
            file.truncate(start)
            raise ChecksumMismatch(
                f"the SHA-256 of the {received} bytes that arrived is not the one in "
                "Upload-Checksum; send the chunk again"
            )
        file.flush()
        await run_in_threadpool(os.fsync, file.fileno())
    return received


def _load(state: State, upload_id: str, actor: Actor) -> UploadView:
    with state.database.read() as session:
        return _view(_own(session.get(Upload, upload_id), upload_id, actor, "upload.write"))


def _commit(state: State, view: UploadView, received: int) -> UploadView:
    """Move the offset on; a whole file is put into the store before that."""
    path = _file(state, view.id)
    done = view.offset + received
    sha256 = state.store.link(path) if done == view.length else None
    with state.database.write() as session:
        row = session.scalars(
            update(Upload)
            .where(Upload.id == view.id, Upload.received == view.offset)
            .values(received=done, sha256=sha256)
            .returning(Upload)
        ).one_or_none()
        if row is None:
            raise Conflict("another request has written to this upload; ask HEAD for the offset")
        fresh = _view(row)
    if sha256 is not None:
        path.unlink(missing_ok=True)
    return fresh


@asynccontextmanager
async def _alone(request: Request, upload_id: str) -> AsyncIterator[None]:
    """One writer for each upload; a second one is told so instead of waiting."""
    writing: set[str] = request.app.state.uploads_in_progress
    if upload_id in writing:
        raise Locked("another request is writing to this upload; wait for it, then ask HEAD")
    writing.add(upload_id)
    try:
        yield
    finally:
        writing.discard(upload_id)


def _checksum(header: str | None) -> bytes | None:
    if header is None:
        return None
    algorithm, _, text = header.partition(" ")
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        value = b""
    if algorithm != "sha256" or len(value) != 32:
        raise BadRequest(
            "Upload-Checksum must read 'sha256 ' and the digest's 32 bytes in base64; "
            f"got {header[:80]!r}"
        )
    return value


def _own(row: Upload | None, upload_id: str, actor: Actor, action: Action) -> Upload:
    missing = f"no upload {upload_id!r} of yours; start with POST /api/v1/uploads"
    return owned(row, actor, action, missing)


def _file(state: State, upload_id: str) -> Path:
    return state.settings.data_dir / "uploads" / upload_id


def _view(row: Upload) -> UploadView:
    return UploadView(
        id=row.id,
        length=row.length,
        offset=row.received,
        sha256=row.sha256,
        expires_at=when(row.expires_at),
    )


def _headers(view: UploadView) -> dict[str, str]:
    return TUS | {"Upload-Offset": str(view.offset), "Upload-Length": str(view.length)}
