"""What pages and the API read: each function answers with a view of server/schemas.py.

All take an open Session and never write. ``actor`` is who looks: reasons and logs are shown to the
owner of an entry and to operators only. A thing that does not exist, or is hidden from the actor,
raises errors.NotFound (a 404).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased, defer

from bench.errors import TiltyardError

from .. import challenges, frozen, rules, scoring
from .. import schemas as views
from ..errors import NotFound
from ..policy import ANONYMOUS, Actor
from .boards import board, last_event, pictures, row_of
from .history import history, progress, scorings
from .rounds import (
    challenge,
    challenges_here,
    is_seen,
    round_board,
    round_of,
    rounds,
)
from .submissions import logs, queue, submission, submissions, visible
from .tables import Attempt, Event, Job, Match, Round, SampleResult, Submission
from .views import (
    PUBLIC_REASONS,
    PUBLIC_STATES,
    accuracy_curve,
    attempt_view,
    entry_ref,
    event_view,
    median_distance,
    query_curve,
    sample_view,
    summary,
    when,
)

if TYPE_CHECKING:
    pass

__all__ = [
    "board",
    "challenge",
    "challenges_here",
    "entry",
    "entry_named",
    "events",
    "history",
    "last_event",
    "logs",
    "match",
    "matches",
    "pictures",
    "progress",
    "queue",
    "round_board",
    "round_of",
    "rounds",
    "samples",
    "scorings",
    "submission",
    "submissions",
    "track",
    "tracks",
]


PUBLISHED = select(Round.id).where(Round.state == "published")


def tracks(session: Session) -> list[views.TrackView]:
    """The tracks of every challenge that was opened here, challenge by challenge."""
    return [
        rules.track_view(scoring.current(session, each))
        for name in challenges.listed(session)
        for each in rules.of_challenge(name)
    ]


def track(session: Session, name: str) -> views.TrackView:
    """One track by name."""
    return rules.track_view(scoring.current(session, rules.track(name)))


def matches(
    session: Session,
    *,
    track: str | None = None,
    submission: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> views.Page[views.MatchRef]:
    """Matches between entries that anybody may see, newest first; of published rounds too."""
    model, attack = aliased(Submission), aliased(Submission)
    query = (
        select(Match)
        .join(model, model.id == Match.model_id)
        .join(attack, attack.id == Match.attack_id)
        .where(model.state.in_(PUBLIC_STATES), attack.state.in_(PUBLIC_STATES))
        .where(or_(Match.round_id.is_(None), Match.round_id.in_(PUBLISHED)))
        .order_by(Match.id.desc())
        .limit(limit + 1)
    )
    if track is not None:
        query = query.where(Match.rules_version == rules.rules_version(rules.track(track)))
    if submission is not None:
        query = query.where(or_(Match.model_id == submission, Match.attack_id == submission))
    if after is not None:
        query = query.where(Match.id < after)
    found = list(session.scalars(query))
    return views.Page[views.MatchRef](
        items=_match_refs(session, found[:limit]),
        next=found[limit - 1].id if len(found) > limit else None,
    )


def match(session: Session, match_id: str, actor: Actor | None = None) -> views.MatchView:
    """One match with its curves. Why an entry failed is for that one's owner."""
    actor = actor or ANONYMOUS
    row = _match(session, match_id, actor)
    samples = _samples(session, row.id)
    job = _latest_jobs(session, [row.id]).get(row.id)
    attempt = session.scalars(
        select(Attempt)
        .join(Job, Job.id == Attempt.job_id)
        .where(Job.match_id == row.id, Attempt.outcome == "succeeded")
        .order_by(Attempt.started_at.desc())
    ).first()
    shared = frozen.sharing(session, row.rules_version)
    if not shared:
        raise NotFound(f"match {match_id} was played by rules that this server no longer has")
    boxes = sorted({sample.sandbox for sample in samples})
    return views.MatchView(
        id=row.id,
        model=entry_ref(row.model),
        attack=entry_ref(row.attack),
        dataset=row.dataset,
        split=row.split,
        images=row.images,
        seed=row.seed,
        rules_version=row.rules_version,
        tracks=[each.name for each in shared],
        threat=rules.threat_view(shared[0]),
        state=job.state if job is not None else "queued",
        reason=_reason(session, job, actor),
        sandbox=boxes,
        isolated="process" not in boxes,
        hidden=any(rules.hidden(each) for each in shared),
        summary=summary(samples),
        accuracy_curve=accuracy_curve(samples),
        query_curve=query_curve(samples),
        created_at=when(row.created_at),
        finished_at=when(job.finished_at) if job is not None else None,
        provenance=attempt.provenance if attempt is not None else {},
    )


def samples(session: Session, match_id: str, actor: Actor | None = None) -> list[views.SampleView]:
    """All samples of a match in the data set's order; empty until it has been played.

    Their reasons are the attack's mistakes and its last output, so they are for its owner. A
    hidden split's samples are nobody's to see: NotFound.
    """
    actor = actor or ANONYMOUS
    row = _match(session, match_id, actor)
    if any(rules.hidden(each) for each in frozen.sharing(session, row.rules_version)):
        raise NotFound(f"match {match_id} was played on a hidden split; its samples stay hidden")
    private = actor.sees_private(row.attack.account_id)
    names = _class_names(row.dataset, row.split)
    return [sample_view(s, names, private=private) for s in _samples(session, row.id)]


def entry(session: Session, submission_id: str, actor: Actor | None = None) -> views.EntryView:
    """One entry with its matches."""
    row = visible(session, submission_id, actor or ANONYMOUS)
    private = (actor or ANONYMOUS).sees_private(row.account_id)
    of = rules.track(row.track)
    attempts = session.scalars(
        select(Attempt)
        .join(Job, Job.id == Attempt.job_id)
        .where(Job.submission_id == row.id)
        .order_by(Attempt.started_at.desc())
        .limit(50)
    )
    shown = row_of(session, of.name, row.id)
    played = matches(session, submission=row.id, limit=500).items
    return views.EntryView(
        ref=entry_ref(row),
        state=row.state,
        source=row.source,
        spec=row.spec,
        sha256=row.sha256,
        rules_version=rules.rules_version(of),
        row=shown,
        matches=played,
        isolated=all(each.isolated for each in played),
        attempts=[attempt_view(attempt) for attempt in attempts] if private else [],
        reason=row.reason if private else None,
        created_at=when(row.created_at),
        accepted_at=when(row.accepted_at),
    )


def entry_named(session: Session, submission_id: str) -> views.EntryRef:
    """An entry that everybody may see, by name and link."""
    return entry_ref(visible(session, submission_id, ANONYMOUS))


def events(
    session: Session, *, track: str | None, after: int, limit: int = 100
) -> list[views.EventView]:
    """Events after an id, oldest first; with a track, only that board's."""
    query = select(Event).where(Event.id > after).order_by(Event.id).limit(limit)
    if track is not None:
        query = query.where(Event.track == rules.track(track).name)
    return [event_view(row) for row in session.scalars(query)]


def _match(session: Session, match_id: str, actor: Actor) -> Match:
    """The match, if both sides are public or one is the actor's own, and its round is published."""
    row = session.get(Match, match_id)
    if row is None:
        raise NotFound(f"there is no match {match_id!r}")
    sides = (row.model, row.attack)
    own = any(actor.sees_private(side.account_id) for side in sides)
    if not own and any(side.state not in PUBLIC_STATES for side in sides):
        raise NotFound(f"there is no match {match_id!r}")
    if not is_seen(session, row.round_id, actor):
        raise NotFound(f"the matches of this round are shown once it is published: {match_id}")
    return row


def _samples(session: Session, match_id: str) -> list[SampleResult]:
    query = select(SampleResult).where(SampleResult.match_id == match_id)
    return list(session.scalars(query.order_by(SampleResult.sample)))


def _match_refs(session: Session, found: list[Match]) -> list[views.MatchRef]:
    ids = [row.id for row in found]
    latest = _latest_jobs(session, ids)
    by_match: dict[str, list[SampleResult]] = {}
    query = select(SampleResult).where(SampleResult.match_id.in_(ids))
    light = query.options(defer(SampleResult.trace), defer(SampleResult.distances))
    for sample in session.scalars(light):
        by_match.setdefault(sample.match_id, []).append(sample)
    refs = []
    for row in found:
        job, played = latest.get(row.id), by_match.get(row.id, [])
        refs.append(
            views.MatchRef(
                id=row.id,
                model=entry_ref(row.model),
                attack=entry_ref(row.attack),
                dataset=row.dataset,
                state=job.state if job is not None else "queued",
                reason=_reason(session, job, ANONYMOUS),
                isolated=all(sample.sandbox != "process" for sample in played),
                median_distance=median_distance(played),
                samples=len(played),
                created_at=when(row.created_at),
                finished_at=when(job.finished_at) if job is not None else None,
            )
        )
    return refs


def _latest_jobs(session: Session, match_ids: list[str]) -> dict[str, Job]:
    """The newest job of each match."""
    query = select(Job).where(Job.match_id.in_(match_ids)).order_by(Job.repeat)
    return {job.match_id: job for job in session.scalars(query) if job.match_id is not None}


def _reason(session: Session, job: Job | None, actor: Actor) -> str | None:
    """Why a match has no result: the whole story for who is at fault, the kind of it for all."""
    if job is None or job.reason is None:
        return None
    culprit = session.get(Submission, job.fault_id or job.submission_id)
    if culprit is not None and actor.sees_private(culprit.account_id):
        return job.reason
    return PUBLIC_REASONS.get(job.state)


@cache
def _class_names(dataset: str, split: str) -> tuple[str, ...] | None:
    """Names of the labels; None where the data set is not on this machine."""
    import bench

    try:
        return bench.dataset(dataset, split=split).class_names
    except TiltyardError:
        return None
