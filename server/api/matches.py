"""Matches, their samples, and the artefacts they name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from .. import rules
from ..db import queries
from ..db.tables import SampleResult, Submission
from ..errors import NotFound
from ..policy import Actor, can
from ..schemas import EntryView, MatchRef, MatchView, Page, SampleView
from .deps import CurrentActor, CurrentState, ReadSession

router = APIRouter(tags=["matches"])

YEAR = 31536000


@router.get("/matches")
def matches(
    session: ReadSession,
    track: str | None = None,
    submission: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Page[MatchRef]:
    """Matches, newest first; ``after`` is the last page's ``next``."""
    return queries.matches(session, track=track, submission=submission, after=after, limit=limit)


@router.get("/matches/{match_id}")
def match(match_id: str, session: ReadSession, actor: CurrentActor) -> MatchView:
    """One match with its curves."""
    return queries.match(session, match_id, actor)


@router.get("/matches/{match_id}/samples")
def samples(match_id: str, session: ReadSession, actor: CurrentActor) -> list[SampleView]:
    """Every image of a match. Reasons are for the owners of its two entries."""
    return queries.samples(session, match_id, actor)


@router.get("/entries/{submission_id}")
def entry(submission_id: str, session: ReadSession, actor: CurrentActor) -> EntryView:
    """One entry with its row and all its matches."""
    return queries.entry(session, submission_id, actor)


@router.get("/artifacts/{sha256}", response_class=FileResponse)
def artefact(
    sha256: str, session: ReadSession, actor: CurrentActor, state: CurrentState
) -> FileResponse:
    """An artefact by the SHA-256 of its bytes, for ever the same; Range is understood.

    Adversarials of public splits are everybody's; a submission's file is its owner's.
    """
    public = _is_public(session, sha256)
    if not public and not _is_own(session, sha256, actor):
        raise NotFound(f"there is no artefact {sha256[:64]!r} that you may see")
    path = state.store.path(sha256)
    if not path.is_file():
        raise NotFound(f"artefact {sha256} is not here any more")
    scope = "public" if public else "private"
    headers = {"Cache-Control": f"{scope}, max-age={YEAR}, immutable", "ETag": f'"{sha256}"'}
    return FileResponse(
        path, media_type="application/octet-stream", filename=sha256, headers=headers
    )


def _is_public(session: Session, sha256: str) -> bool:
    """Whether some match on a public split names it as an adversarial."""
    named = select(SampleResult.rules_version).where(SampleResult.adversarial_sha256 == sha256)
    return any(
        not rules.hidden(track)
        for version in session.scalars(named.distinct())
        for track in rules.sharing(version)
    )


def _is_own(session: Session, sha256: str, actor: Actor) -> bool:
    owners = session.scalars(select(Submission.account_id).where(Submission.sha256 == sha256))
    return any(can(actor, "submission.read", owner) for owner in owners)
