"""The routes of the pages. All are GET, change nothing, and show what anybody may see."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from bench.errors import TiltyardError
from bench.reports import images
from bench.reports.components import Sample

from ..api.deps import CurrentState, ReadSession, State
from ..api.submissions import printed
from ..db import queries
from ..db.tables import Submission
from ..db.views import HIDDEN_NAME
from ..errors import NotFound
from ..policy import ANONYMOUS, Actor
from ..schemas import BoardQuery, BoardView, MatchRef, SubmissionState
from . import boards, show
from .forms import Visitor
from .render import STATIC, page

router = APIRouter(include_in_schema=False)

GALLERY = 12
"""Samples that a match page shows at first."""
TAIL = 40
"""Lines of its log that an entry's page shows."""
CHANGES = 1000
"""Changes of an entry that the chart of its rank shows."""
MATRIX = 2000
"""Matches that a heat table looks through at most, newest first."""
KINDS = ("board", "submission.cancel", *(f"submission.{s}" for s in get_args(SubmissionState)))
"""Events of a track after which its board is fetched again."""
BEST = 5
"""Rows of each board on the first page."""
FOR_EVER = "public, max-age=31536000, immutable"


Asked = Annotated[boards.PageQuery, Query()]


@router.get("/")
def index(request: Request, session: ReadSession) -> HTMLResponse:
    """All tracks with the top of their boards."""
    best = BoardQuery(state="scored", limit=BEST)
    tops = [queries.board(session, track.name, best) for track in queries.tracks(session)]
    rounds = [
        each
        for challenge in queries.challenges_here(session)
        for each in queries.rounds(session, challenge.name, ANONYMOUS)
    ]
    return page(request, "index.html", boards=tops, rounds=rounds, here="boards")


@router.get("/boards/{track}")
def board(request: Request, track: str, session: ReadSession, asked: Asked) -> HTMLResponse:
    """One board, or what is asked for of it; live where the browser can."""
    context = _board(session, track, asked)
    return page(request, "board.html", here="boards", kinds=KINDS, **context)


@router.get("/boards/{track}/table")
def board_table(request: Request, track: str, session: ReadSession, asked: Asked) -> HTMLResponse:
    """The live part of a board page alone: what the script swaps in."""
    return page(request, "_board.html", **_board(session, track, asked))


@router.get("/boards/{track}/matrix")
def matrix(request: Request, track: str, session: ReadSession) -> HTMLResponse:
    """Every model of a track against every attack, by median distance."""
    view = queries.track(session, track)
    table = show.matrix(_matches(session, track))
    return page(request, "matrix.html", track=view, matrix=table, here="boards")


@router.get("/boards/{track}/history")
def history(
    request: Request,
    track: str,
    session: ReadSession,
    after: str | None = None,
    submission: str | None = None,
) -> HTMLResponse:
    """Every change of a board's scores, or of one entry's, and the rules that it was scored by."""
    view = queries.track(session, track)
    changes = queries.history(session, track, submission=submission, after=after)
    chart, of = None, None
    if submission is None:
        chart = show.progress_chart(view, queries.progress(session, track))
    else:
        of = queries.entry_named(session, submission)
        chart = show.rank_chart(
            queries.history(session, track, submission=submission, limit=CHANGES).items
        )
    return page(
        request,
        "history.html",
        track=view,
        of=of,
        changes=changes,
        scorings=queries.scorings(session, track),
        chart=chart,
        here="boards",
    )


@router.get("/rounds/{round_id}")
def one_round(
    request: Request, round_id: str, session: ReadSession, actor: Visitor
) -> HTMLResponse:
    """A round: what was frozen, and how far it is."""
    view = queries.round_of(session, round_id, actor)
    return page(request, "round.html", round=view, here="boards")


@router.get("/rounds/{round_id}/boards/{track}")
def round_board(
    request: Request,
    round_id: str,
    track: str,
    session: ReadSession,
    actor: Visitor,
    asked: Asked,
) -> HTMLResponse:
    """A board of a published round."""
    view = queries.round_board(session, round_id, track, actor, asked)
    here = f"/rounds/{round_id}/boards/{track}"
    return page(
        request,
        "round_board.html",
        round=queries.round_of(session, round_id, actor),
        **_shown(session, view, asked, here, f"/api/v1{here}"),
        here="boards",
    )


@router.get("/matches/{match_id}")
def match(
    request: Request,
    match_id: str,
    session: ReadSession,
    state: CurrentState,
    actor: Visitor,
    gallery: Annotated[Literal["some", "all"], Query()] = "some",
) -> HTMLResponse:
    """One match: facts, curves, pictures, samples."""
    view = queries.match(session, match_id, actor)
    samples = [] if view.hidden else queries.samples(session, match_id, actor)
    entries: list[Sample] = []
    total, note = 0, ""
    try:
        most = GALLERY if gallery == "some" else None
        entries, total = show.gallery(view, samples, state.store, most)
    except (TiltyardError, FileNotFoundError) as error:
        note = f"The pictures cannot be shown here: {error}"
    return page(
        request,
        "match.html",
        match=view,
        samples=samples,
        charts=show.match_charts(view, samples),
        gallery=entries,
        gallery_total=total,
        gallery_note=note,
        here="",
    )


@router.get("/matches/{match_id}/images/{sample}/{kind}.png")
def image(
    match_id: str,
    sample: int,
    kind: Literal["original", "perturbation", "adversarial"],
    session: ReadSession,
    state: CurrentState,
    actor: Visitor,
) -> Response:
    """A picture of a sample. Facts never change, so neither does what this address answers."""
    view = queries.match(session, match_id, actor)
    found = [] if view.hidden else queries.samples(session, match_id, actor)
    chosen = next((s for s in found if s.index == sample), None)
    if chosen is None or chosen.adversarial_sha256 is None:
        raise NotFound(f"match {match_id} shows no picture of a sample {sample}")
    try:
        original, adversarial = show.arrays(view, chosen, state.store)
    except (TiltyardError, FileNotFoundError, KeyError) as error:
        raise NotFound(f"the picture cannot be shown here: {error}") from error
    if kind == "perturbation":
        pixels, _ = images.perturbation(original, adversarial)
    else:
        pixels = original if kind == "original" else adversarial
    return Response(images.png(pixels), media_type="image/png", headers={"Cache-Control": FOR_EVER})


@router.get("/entries/{submission_id}")
def entry(
    request: Request, submission_id: str, session: ReadSession, state: CurrentState, actor: Visitor
) -> HTMLResponse:
    """One entry: where it comes from, how it stands, whom it has met."""
    context = _entry(session, state, submission_id, actor)
    return page(request, "entry.html", here="", kinds=KINDS, **context)


@router.get("/entries/{submission_id}/live")
def entry_live(
    request: Request, submission_id: str, session: ReadSession, state: CurrentState, actor: Visitor
) -> HTMLResponse:
    """The live part of an entry's page alone: what the script swaps in."""
    return page(request, "_entry.html", **_entry(session, state, submission_id, actor))


@router.get("/queue")
def queue(request: Request, session: ReadSession, state: CurrentState) -> HTMLResponse:
    """What is being played, what comes next, and why the rest waits."""
    workers = state.settings.workers
    view = queries.queue(session, workers)
    return page(request, "queue.html", queue=view, hidden_name=HIDDEN_NAME, here="queue")


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A style sheet or script; its address carries a fingerprint, so it may be kept for ever."""
    if name not in STATIC:
        raise NotFound(f"there is no static file {name!r}")
    path, media_type = STATIC[name]
    return Response(path.read_bytes(), media_type=media_type, headers={"Cache-Control": FOR_EVER})


def _board(session: Session, track: str, asked: boards.PageQuery) -> dict[str, Any]:
    view = queries.board(session, track, asked)
    return _shown(session, view, asked, f"/boards/{track}", f"/api/v1/boards/{track}")


def _entry(session: Session, state: State, submission_id: str, actor: Actor) -> dict[str, Any]:
    """An entry; for its owner also what waits and what its program printed last."""
    view = queries.entry(session, submission_id, actor)
    context: dict[str, Any] = {"entry": view, "own": None, "tail": [], "lines": 0}
    if actor.sees_private(session.get_one(Submission, submission_id).account_id):
        lines = printed(state, session, submission_id).decode("utf-8", "replace").splitlines()
        context |= {
            "own": queries.submission(session, submission_id, actor),
            "tail": lines[-TAIL:],
            "lines": len(lines),
        }
    return context | {"last_event_id": queries.last_event(session)}


def _shown(
    session: Session, view: BoardView, asked: boards.PageQuery, here: str, data: str
) -> dict[str, Any]:
    """What the template of a board needs; ``here`` and ``data``: the addresses of the two."""
    shown = {} if view.track.hidden else queries.pictures(session, view.rows)
    return {
        "board": view,
        "asked": asked,
        "links": boards.Links(asked, here, data),
        "pictures": {
            entry: f"/matches/{match}/images/{sample}" for entry, (match, sample) in shown.items()
        },
        "strips": boards.strips(view.rows),
        "level": boards.level(view.rows),
        "matrix": boards.matrix(view),
    }


def _matches(session: Session, track: str) -> list[MatchRef]:
    found: list[MatchRef] = []
    after: str | None = None
    while len(found) < MATRIX:
        answer = queries.matches(session, track=track, after=after, limit=100)
        found += answer.items
        after = answer.next
        if after is None:
            break
    return found
