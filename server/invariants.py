"""What must always hold in the record, each as a query that finds what breaks it.

Every function reads one session (``Database.snapshot``, so that a running server does no harm) and
changes nothing. What a server is about to do by itself within ``GRACE_SECONDS`` is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Integer, and_, cast, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from . import boards, challenges, frozen, jobs, rules, scheduling, scoring, standings
from .db.engine import db_now
from .db.tables import (
    Attempt,
    BoardRow,
    Event,
    Job,
    Match,
    Outbox,
    QuotaDay,
    QuotaLedger,
    Round,
    SampleResult,
    Submission,
)

if TYPE_CHECKING:
    from bench.tracks.types import Track

GRACE_SECONDS: Final = 150.0
"""Leases and deadlines are looked after every minute, boards after half a second: what is still
undone after this is not going to be done."""
SHOWN: Final = 20
"""Rows that a finding names; it counts the others."""


class Finding(NamedTuple):
    """Something that does not hold: what is wrong with which rows, and how to mend it."""

    invariant: str
    what: str
    rows: tuple[str, ...]
    mend: str

    def sentence(self) -> str:
        """As one line."""
        named = ", ".join(self.rows[:SHOWN])
        more = f" and {len(self.rows) - SHOWN} more" if len(self.rows) > SHOWN else ""
        return f"{self.invariant}: {self.what}: {named}{more}. {self.mend}"


Rows = Iterable[tuple[str, Collection[str], str]]
"""What is wrong, with which rows, and the mend; nothing is wrong where there are no rows."""


def events(session: Session) -> Rows:
    """Event ids count up by one from 1."""
    count, last = session.execute(select(func.count(), func.max(Event.id))).one()
    if count == (last or 0):
        return
    before = aliased(Event)
    after_gap = select(Event.id).where(
        Event.id > 1, ~exists(select(before.id).where(before.id == Event.id - 1))
    )
    rows = [f"before event {number}" for number in session.scalars(after_gap.order_by(Event.id))]
    yield "events are missing", rows, "Lines of the audit log were removed: restore a backup."


def quotas(session: Session) -> Rows:
    """What a day's quota says was used is the sum of its ledger."""
    day = (QuotaLedger.account_id, QuotaLedger.track, QuotaLedger.day)
    summed = session.execute(select(*day, func.sum(QuotaLedger.amount)).group_by(*day))
    booked = {(account, track, when): amount for account, track, when, amount in summed}
    used = {
        (row.account_id, row.track, row.day): row.used for row in session.scalars(select(QuotaDay))
    }
    wrong = [
        f"{' '.join(key)}: used {used.get(key, 0)}, booked {booked.get(key, 0)}"
        for key in sorted({*used, *booked})
        if used.get(key, 0) != booked.get(key, 0)
    ]
    yield (
        "days were used otherwise than the ledger says",
        wrong,
        "Set quota_day.used of these days to what is booked.",
    )


def deadlines(session: Session) -> Rows:
    """No job is past its deadline, and none held by a lease that has run out."""
    past = db_now() - GRACE_SECONDS
    mend = (
        "A server's housekeeper ends these every minute: start one, or look at its log for what "
        "the housekeeper stumbled over."
    )
    waiting = select(Job.id).where(Job.state.in_(jobs.WAITING), Job.deadline <= past)
    yield "jobs wait beyond their deadline", session.scalars(waiting).all(), mend
    held = select(Job.id).where(
        Job.state.in_(jobs.HELD), or_(Job.lease_until.is_(None), Job.lease_until <= past)
    )
    yield "jobs are held by leases that have run out", session.scalars(held).all(), mend


def expected_jobs(session: Session) -> Rows:
    """Each entry has the jobs that its state asks for, and each match has one."""
    tried = exists(
        select(Job.id).where(
            Job.submission_id == Submission.id, Job.kind == "validate", Job.state.in_(jobs.OPEN)
        )
    )
    stuck = select(Submission.id).where(Submission.state == "validating", ~tried)
    yield (
        "submissions are being validated and no job does it",
        session.scalars(stuck).all(),
        "Set them to rejected, and ask for POST /submissions/{id}:rerun.",
    )
    passed = exists(
        select(Job.id).where(
            Job.submission_id == Submission.id, Job.kind == "validate", Job.state == "succeeded"
        )
    )
    untried = select(Submission.id).where(
        Submission.state == "accepted", Submission.source != "zoo", ~passed
    )
    yield (
        "submissions were accepted without a validation that succeeded",
        session.scalars(untried).all(),
        "Withdraw them and have them submitted again.",
    )
    jobless = select(Match.id).where(~exists(select(Job.id).where(Job.match_id == Match.id)))
    yield (
        "matches have no job",
        session.scalars(jobless).all(),
        "Remove them: at its next start the server schedules them again.",
    )
    yield (
        "accepted entries lack a match against an opponent",
        [
            f"{entry} against {foe} on {track.name}"
            for track in _tracks(session)
            for entry, foe in scheduling.unmatched(session, standings.due(session, track, None))
        ],
        "Start the server anew: it schedules what is missing.",
    )


def attempts(session: Session) -> Rows:
    """A job was tried as often as its fence says, and its last try ended as it did."""
    counted = (
        select(Job.id)
        .outerjoin(Attempt, Attempt.job_id == Job.id)
        .group_by(Job.id, Job.fence)
        .having(func.count(Attempt.fence) != Job.fence)
    )
    mend = "Somebody has written to the tables job or attempt: restore a backup."
    yield "jobs have more or fewer attempts than their fence", session.scalars(counted).all(), mend
    last = and_(Attempt.job_id == Job.id, Attempt.fence == Job.fence)
    outcome = (
        select(Job.id)
        .join(Attempt, last)
        .where(
            or_(
                and_(Job.state.in_(jobs.HELD), Attempt.ended_at.is_not(None)),
                and_(Job.state.not_in(jobs.HELD), Attempt.ended_at.is_(None)),
                and_(Job.state == "succeeded", Attempt.outcome != "succeeded"),
                and_(Job.state != "succeeded", Attempt.outcome == "succeeded"),
            )
        )
    )
    yield "jobs disagree with their last attempt", session.scalars(outcome).all(), mend
    doubled = (
        select(Attempt.job_id)
        .where(Attempt.outcome == "succeeded")
        .group_by(Attempt.job_id)
        .having(func.count() > 1)
    )
    yield "jobs have succeeded more than once", session.scalars(doubled).all(), mend


def results(session: Session) -> Rows:
    """A match has all its facts, of the one job that succeeded, or none."""
    ruled = SampleResult.rules_version == Match.rules_version
    facts = (
        select(
            SampleResult.match_id.label("match_id"),
            func.count().label("samples"),
            func.min(SampleResult.sample).label("first"),
            func.max(SampleResult.sample).label("last"),
            func.min(SampleResult.job_id).label("job_id"),
            func.count(SampleResult.job_id.distinct()).label("jobs"),
            func.min(SampleResult.fence).label("fence"),
            func.max(SampleResult.fence).label("last_fence"),
            func.sum(cast(ruled, Integer)).label("ruled"),
        )
        .join(Match, Match.id == SampleResult.match_id)
        .group_by(SampleResult.match_id)
        .subquery()
    )
    mend = (
        "Remove these matches' facts and set their newest job to queued: they are played again "
        "with the same seed."
    )
    partial = select(Match.id).join(facts, facts.c.match_id == Match.id).where(
        or_(
            facts.c.samples != Match.images,
            facts.c.first != 0,
            facts.c.last != Match.images - 1,
            facts.c.ruled != facts.c.samples,
        )
    )  # fmt: skip
    yield "matches have other samples than their images", session.scalars(partial).all(), mend
    writer = and_(Job.id == facts.c.job_id, Job.match_id == facts.c.match_id)
    foreign = (
        select(facts.c.match_id)
        .outerjoin(Job, writer)
        .where(
            or_(
                Job.id.is_(None),
                Job.state != "succeeded",
                facts.c.jobs != 1,
                facts.c.fence != Job.fence,
                facts.c.last_fence != Job.fence,
            )
        )
    )
    yield (
        "matches have facts that are not of their one successful job",
        session.scalars(foreign).all(),
        mend,
    )
    won = select(Match.id).join(Job, Job.match_id == Match.id).where(Job.state == "succeeded")
    factless = won.where(
        ~exists(select(SampleResult.sample).where(SampleResult.match_id == Match.id))
    )
    yield "matches have succeeded without facts", session.scalars(factless).all(), mend
    twice = won.group_by(Match.id).having(func.count() > 1)
    yield "matches have succeeded twice", session.scalars(twice).all(), mend


def outbox(session: Session) -> Rows:
    """What a finished job left to do is done soon."""
    late = select(Outbox.job_id).where(
        Outbox.drained_at.is_(None), Outbox.created_at <= db_now() - GRACE_SECONDS
    )
    yield (
        "boards were not brought up to date after jobs",
        session.scalars(late).all(),
        "A server's dispatcher does it: start one with workers, or look at its log.",
    )


def board_rows(session: Session) -> Rows:
    """Each row of a board is what its facts give, and each entry has one.

    Boards of which a finished match waits in the outbox are left out: see ``busy``.
    """
    waiting = busy(session)
    wrong: list[str] = []
    for due in _boards(session):
        if rules.rules_version(due.track) not in waiting:
            wrong += _differing(session, due)
    yield (
        "rows of boards differ from what their facts give",
        wrong,
        "Remove them from board_row and start the server anew: it computes them from the facts.",
    )


def busy(session: Session) -> set[str]:
    """The rules versions of which the boards are about to be brought up to date."""
    payloads = session.scalars(select(Outbox.payload).where(Outbox.drained_at.is_(None)))
    touched = {payload["rules_version"] for payload in payloads}
    return touched | {
        rules.rules_version(track) for version in touched for track in rules.concerned(version)
    }


ALL: Final[dict[str, Callable[[Session], Rows]]] = {
    "jobs": expected_jobs,
    "deadlines": deadlines,
    "attempts": attempts,
    "results": results,
    "boards": board_rows,
    "outbox": outbox,
    "quotas": quotas,
    "events": events,
}
"""The invariants of the record by name."""


def broken(session: Session) -> Iterator[Finding]:
    """Everything in the record that does not hold."""
    for name, look in ALL.items():
        for what, rows, mend in look(session):
            if rows:
                yield Finding(name, what, tuple(rows), mend)


def _tracks(session: Session) -> list[Track]:
    return [scoring.current(session, track) for track in challenges.tracks(session)]


def _boards(session: Session) -> Iterator[standings.Due]:
    """All boards that follow their facts: of open and closed challenges, and of rounds."""
    for track in _tracks(session):
        yield standings.due(session, track, None)
    for row in session.scalars(select(Round).filter_by(state="playing")):
        yield from frozen.dues(session, row, None)


def _differing(session: Session, due: standings.Due) -> Iterator[str]:
    track = due.track
    stored = {
        row.submission_id: row
        for row in session.scalars(
            select(BoardRow).filter_by(board=track.name, rules_version=rules.board_version(track))
        )
    }
    for entry in standings.entries_of(session, due):
        row = stored.pop(entry.id, None)
        if row is None:
            yield f"{entry.id} on {track.name} (no row)"
        elif row.inputs_hash != boards.inputs_hash(track, entry, due.foes, due.required):
            yield f"{entry.id} on {track.name} (of other facts)"
        elif row.data != boards.compute(track, entry, due.foes, due.required):
            yield f"{entry.id} on {track.name} (computed otherwise)"
        elif (row.score, row.state) != (row.data["score"], row.data["state"]):
            yield f"{entry.id} on {track.name} (score beside its data)"
    for entry_id in stored:
        yield f"{entry_id} on {track.name} (no entry of this board)"
