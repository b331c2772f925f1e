"""Metrics in Prometheus's text format.

What must be right over several servers of one database is computed from the database when it is
asked for: every server gives the same figures, and a restart loses nothing. Only the times of HTTP
requests and the slots of the worker are this process's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from . import jobs
from .db.engine import Database, db_now
from .db.tables import Attempt, Event, Job, Outbox, SampleResult, Submission

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
KEPT_SECONDS: Final = 2.0
"""How long an answer is given again, so that many who ask cost no more than one."""
OVERLAP_SECONDS: Final = 600.0
"""A transaction that was begun earlier may be committed later, by so much at most."""
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MANY: Final = 500

Labelled = dict[tuple[str, ...], float]


class Answers(NamedTuple):
    """What samples came to: how many, and how many queries they took."""

    samples: int
    queries: int


class Found(NamedTuple):
    """What the database says. Keys are the values of labels, in the order of the family's."""

    jobs: Labelled
    oldest: Labelled
    overdue: float
    holders: float
    waits: tuple[float, float]  # jobs that were claimed, and the seconds that they waited in all
    attempts: Labelled
    attempt_seconds: Labelled
    failures: Labelled
    submissions: Labelled
    outbox: float
    outbox_age: float
    events: float
    answers: dict[str, Answers]


class Tally:
    """Samples and queries of all finished matches, counted on from the last time.

    Facts are only ever added, with their job's success, so jobs that finished since are enough.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Answers] = {}
        self._seen: dict[str, float] = {}
        self._until = 0.0

    def update(self, session: Session) -> dict[str, Answers]:
        """{status: its samples} up to now."""
        done = select(Job.id, Job.match_id, Job.finished_at).where(
            Job.kind == "match",
            Job.state == "succeeded",
            Job.finished_at > self._until - OVERLAP_SECONDS,
        )
        fresh = [row for row in session.execute(done) if row.id not in self._seen]
        for start in range(0, len(fresh), _MANY):
            self._add(session, [row.match_id for row in fresh[start : start + _MANY]])
        self._seen.update({row.id: row.finished_at for row in fresh})
        self._until = max([self._until, *(row.finished_at for row in fresh)])
        horizon = self._until - OVERLAP_SECONDS
        self._seen = {job: at for job, at in self._seen.items() if at > horizon}
        return dict(self._totals)

    def _add(self, session: Session, matches: list[str]) -> None:
        counted = (
            select(SampleResult.status, func.count(), func.sum(SampleResult.queries))
            .where(SampleResult.match_id.in_(matches))
            .group_by(SampleResult.status)
        )
        for status, samples, queries in session.execute(counted):
            before = self._totals.get(status, Answers(0, 0))
            self._totals[status] = Answers(before.samples + samples, before.queries + queries)


class Metrics:
    """The metrics of one application; ``worker`` gives (busy slots, all slots) of this process."""

    def __init__(self, database: Database, worker: Callable[[], tuple[int, int]]) -> None:
        self.database = database
        self._worker = worker
        self._tally = Tally()
        self._lock = threading.Lock()
        self._kept: tuple[float, bytes] = (float("-inf"), b"")
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "tiltyard_http_request_seconds",
            "Time from a request's first byte to its answer's, by route; of this process",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Asked(self._families))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note a request that was answered."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def exposition(self) -> bytes:
        """All metrics as text, at most KEPT_SECONDS old."""
        with self._lock:
            asked, text = self._kept
            if time.monotonic() - asked > KEPT_SECONDS:
                text = generate_latest(self._registry)
                self._kept = (time.monotonic(), text)
            return text

    def _families(self) -> Iterator[Metric]:
        with self.database.read() as session:
            found = read(session, self._tally)
        yield from families(found)
        busy, slots = self._worker()
        yield GaugeMetricFamily("tiltyard_worker_slots", "Matches at once, here", value=slots)
        yield GaugeMetricFamily("tiltyard_worker_busy", "Of those, in use", value=busy)


class _Asked(Collector):
    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        return ()  # the database is not asked before it is there


def read(session: Session, tally: Tally) -> Found:
    """Everything that the database knows of the metrics."""
    attempts = _attempts(session)
    return Found(
        jobs=_counts(session, Job.kind, Job.state),
        oldest=_oldest(session),
        overdue=_one(session, func.count(), Job.state.in_(jobs.HELD), Job.lease_until <= db_now()),
        holders=_one(
            session,
            func.count(Job.owner.distinct()),
            Job.state.in_(jobs.HELD),
            Job.lease_until > db_now(),
        ),
        waits=_waits(session),
        attempts={key: count for key, (count, _) in attempts.items()},
        attempt_seconds={key: seconds for key, (_, seconds) in attempts.items()},
        failures=_failures(session),
        submissions=_counts(session, Submission.kind, Submission.state),
        outbox=session.scalar(
            select(func.count()).select_from(Outbox).where(Outbox.drained_at.is_(None))
        )
        or 0,
        outbox_age=session.scalar(
            select(db_now() - func.min(Outbox.created_at)).where(Outbox.drained_at.is_(None))
        )
        or 0.0,
        events=session.scalar(select(func.max(Event.id))) or 0,
        answers=tally.update(session),
    )


def families(found: Found) -> Iterator[Metric]:
    """What was found, as Prometheus wants it."""
    state = ["kind", "state"]
    yield _gauge("tiltyard_jobs", "Jobs by kind and state", state, found.jobs)
    yield _gauge(
        "tiltyard_job_oldest_seconds",
        "How long the longest has been in this state; queued: since it could be run",
        ["state"],
        found.oldest,
    )
    yield GaugeMetricFamily(
        "tiltyard_queue_age_seconds",
        "How long the next job has been waiting for a worker; 0 when none waits",
        value=found.oldest[("queued",)],
    )
    yield GaugeMetricFamily(
        "tiltyard_leases_overdue", "Jobs whose worker has not been heard of", value=found.overdue
    )
    yield GaugeMetricFamily(
        "tiltyard_workers_holding", "Servers that hold a job now", value=found.holders
    )
    yield SummaryMetricFamily(
        "tiltyard_job_wait_seconds",
        "From a job's making to its first claim",
        count_value=int(found.waits[0]),
        sum_value=found.waits[1],
    )
    ended = ["kind", "outcome"]
    yield _counter("tiltyard_attempts", "Attempts that ended", ended, found.attempts)
    yield _counter("tiltyard_attempt_seconds", "Time that they took", ended, found.attempt_seconds)
    yield _counter(
        "tiltyard_failures",
        "Attempts that failed: user (an entry's fault), infrastructure (ours), lease_lost",
        ["fault", "reason"],
        found.failures,
    )
    yield _gauge("tiltyard_submissions", "Entries by kind and state", state, found.submissions)
    yield GaugeMetricFamily(
        "tiltyard_outbox_waiting", "Boards to bring up to date", value=found.outbox
    )
    yield GaugeMetricFamily(
        "tiltyard_outbox_oldest_seconds", "Age of the oldest of those", value=found.outbox_age
    )
    yield CounterMetricFamily("tiltyard_events", "Lines of the audit log", value=found.events)
    answers = found.answers.items()
    yield _counter(
        "tiltyard_samples",
        "Images played, by what came of them",
        ["status"],
        {(status,): value.samples for status, value in answers},
    )
    yield _counter(
        "tiltyard_queries",
        "Queries of finished matches",
        ["status"],
        {(status,): value.queries for status, value in answers},
    )


def _one(session: Session, what: Any, *guards: Any) -> float:
    return session.scalar(select(what).select_from(Job).where(*guards)) or 0


def _counts(session: Session, kind: Any, state: Any) -> Labelled:
    rows = session.execute(select(kind, state, func.count()).group_by(kind, state))
    return {(row[0], row[1]): row[2] for row in rows}


def _oldest(session: Session) -> Labelled:
    """For each state that a job can leave, seconds since the first of them came to it."""
    since = case(
        (Job.state == "queued", Job.run_after),
        (Job.state == "blocked", Job.created_at),
        else_=Job.started_at,
    )
    query = (
        select(Job.state, db_now() - func.min(since))
        .where(Job.state.in_(jobs.OPEN), since <= db_now())
        .group_by(Job.state)
    )
    found = {state: max(0.0, age) for state, age in session.execute(query)}
    return {(state,): found.get(state, 0.0) for state in jobs.OPEN}


def _waits(session: Session) -> tuple[float, float]:
    query = (
        select(func.count(), func.sum(Attempt.started_at - Job.created_at))
        .select_from(Attempt)
        .join(Job, Job.id == Attempt.job_id)
        .where(Attempt.fence == 1)
    )
    count, seconds = session.execute(query).one()
    return count, seconds or 0.0


def _attempts(session: Session) -> dict[tuple[str, ...], tuple[float, float]]:
    query = (
        select(
            Job.kind, Attempt.outcome, func.count(),
            func.sum(Attempt.ended_at - Attempt.started_at),
        )
        .join(Job, Job.id == Attempt.job_id)
        .where(Attempt.ended_at.is_not(None))
        .group_by(Job.kind, Attempt.outcome)
    )  # fmt: skip
    rows = session.execute(query)
    return {(kind, outcome or ""): (n, s or 0.0) for kind, outcome, n, s in rows}


def _failures(session: Session) -> Labelled:
    faults = {"failed_user": "user", "infrastructure": "infrastructure", "lease_lost": "lease_lost"}
    kind = func.coalesce(Attempt.provenance["failure"].as_string(), "")
    query = (
        select(Attempt.outcome, kind, func.count())
        .where(Attempt.outcome.in_(faults))
        .group_by(Attempt.outcome, kind)
    )
    rows = session.execute(query)
    return {(faults[outcome], reason or "unknown"): count for outcome, reason, count in rows}


def _gauge(name: str, text: str, labels: list[str], values: Labelled) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: list[str], values: Labelled) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family
