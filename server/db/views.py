"""From rows of tables to views: small conversions that queries.py is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, overload

from bench.reports.curves import query_points

from .. import schemas as views
from ..boards import raw_median
from ..standings import fact_of
from .tables import Attempt, Event, Job, SampleResult, Submission

PUBLIC_STATES = ("accepted",)
"""States in which an entry may be seen by anybody; its owner and operators see it in any."""
PUBLIC_REASONS = {
    "failed_user": "an entry failed by its own fault; its author sees how",
    "dead": "it could not be played by our fault; an operator runs it again",
    "cancelled": "cancelled",
}
"""Why a match has no result, for those who may not read the whole story."""
HIDDEN_NAME = "(not public yet)"


@overload
def when(seconds: float) -> datetime: ...
@overload
def when(seconds: None) -> None: ...
def when(seconds: float | None) -> datetime | None:
    """A moment in UTC from seconds since 1970."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def entry_ref(row: Submission) -> views.EntryRef:
    """A submission by name and link."""
    return views.EntryRef(
        id=row.id,
        name=row.name,
        owner=row.account.name,
        kind=row.kind,
        track=row.track,
        baseline=row.source == "zoo",
    )


def interval(pair: Sequence[float] | None) -> views.Interval | None:
    """Two bounds as an interval; None when one of them is infinite."""
    if pair is None or not all(math.isfinite(bound) for bound in pair):
        return None
    return views.Interval(lower=pair[0], upper=pair[1])


def median_sample(
    data: dict[str, Any] | None, refs: dict[str, views.EntryRef]
) -> views.MedianSample | None:
    """The stored median sample with its opponent's name; None when that one is gone."""
    if data is None or data["opponent_id"] not in refs:
        return None
    return views.MedianSample(
        image_id=data["image_id"],
        distance=data["distance"],
        failed=data["failed"],
        match_id=data["match_id"],
        opponent=refs[data["opponent_id"]],
    )


def met(data: list[dict[str, Any]], refs: dict[str, views.EntryRef]) -> list[views.Met]:
    """The stored matches of a row, against opponents that are still there."""
    return [
        views.Met(
            opponent=refs[each["opponent_id"]],
            match_id=each["match_id"],
            state=each["state"],
            median_distance=each["median_distance"],
            isolated=each["isolated"],
        )
        for each in data
        if each["opponent_id"] in refs
    ]


def worst_opponent(
    data: dict[str, Any] | None, refs: dict[str, views.EntryRef]
) -> views.WorstOpponent | None:
    """The stored worst opponent with its name."""
    sample = median_sample(data["median_sample"] if data else None, refs)
    if data is None or sample is None:
        return None
    return views.WorstOpponent(
        opponent=refs[data["opponent_id"]],
        match_id=data["match_id"],
        median_distance=data["median_distance"],
        median_sample=sample,
    )


def summary(samples: Sequence[SampleResult]) -> views.MatchSummary | None:
    """The figures of a match; failures are infinite distances here, as in ``tiltyard score``."""
    if not samples:
        return None
    import numpy as np

    from bench.score import median_interval

    distances = raw_distances(samples)
    attacked = [row for row in samples if row.status != "clean_error"]
    return views.MatchSummary(
        n=len(samples),
        clean_accuracy=sum(row.clean_correct for row in samples) / len(samples),
        median_distance=median_distance(samples),
        interval=interval(median_interval(np.asarray(distances, dtype=np.float64))),
        mean_queries=sum(row.queries for row in attacked) / max(1, len(attacked)),
        successes=sum(row.success for row in attacked),
        failures=sum(not row.success for row in attacked),
    )


def median_distance(samples: Sequence[SampleResult]) -> float | None:
    """The median of the distances; None when it is infinite or there are none."""
    return raw_median([fact_of(row) for row in samples])


def raw_distances(samples: Sequence[SampleResult]) -> list[float]:
    """Distances with 0 for clean errors and infinity for failures."""
    return [fact_of(row).raw for row in samples]


def accuracy_curve(samples: Sequence[SampleResult]) -> list[views.CurvePoint]:
    """Accuracy left against distance."""
    from bench.score import accuracy_curve as steps

    return [views.CurvePoint(x=x, y=y) for x, y in steps(raw_distances(samples))]


def query_curve(samples: Sequence[SampleResult]) -> list[views.CurvePoint]:
    """Median best distance against queries; the worst case stands in until one is found."""
    traces = [
        [(0, row.worst_case), *((int(q), float(d)) for q, d in row.trace)]
        for row in samples
        if row.status != "clean_error"
    ]
    points = query_points(traces)
    return [views.CurvePoint(x=x, y=y) for x, y in points if math.isfinite(y)]


def sample_view(
    row: SampleResult, names: Sequence[str] | None, *, private: bool
) -> views.SampleView:
    """One sample; its reason only where ``private`` says that the viewer may read it."""
    return views.SampleView(
        index=row.sample,
        image_id=row.image_id,
        clean_label=row.clean_label,
        predicted=row.predicted,
        clean_correct=row.clean_correct,
        label_name=_name(names, row.clean_label),
        predicted_name=_name(names, row.predicted),
        status=row.status,
        success=row.success,
        distance=row.distance,
        distances=row.distances,
        queries=row.queries,
        seconds=row.seconds,
        adversarial_sha256=row.adversarial_sha256,
        reason=row.reason if private else None,
        trace=[(int(q), float(d)) for q, d in row.trace],
    )


def job_view(
    job: Job,
    submission: Submission,
    *,
    position: int | None,
    now: float,
    private: bool,
    public_name: bool,
) -> views.JobView:
    """A job; reasons and the names of unaccepted submissions only for their owners."""
    others_fault = job.fault_id is not None and job.fault_id != submission.id
    reason = PUBLIC_REASONS.get(job.state) if others_fault else job.reason
    return views.JobView(
        id=job.id,
        kind=job.kind,
        state=job.state,
        submission_id=submission.id,
        submission_name=submission.name if private or public_name else HIDDEN_NAME,
        match_id=job.match_id,
        attempt=job.fence,
        position=position,
        waits_for=_waits_for(job, position, now),
        reason=reason if private else None,
        cancel_requested=job.cancel_requested_at is not None,
        created_at=when(job.created_at),
        run_after=when(job.run_after),
        deadline=when(job.deadline),
        started_at=when(job.started_at),
        finished_at=when(job.finished_at),
    )


def attempt_view(row: Attempt) -> views.AttemptView:
    """One try at a job."""
    return views.AttemptView(
        fence=row.fence,
        worker=row.worker,
        host=row.host,
        started_at=when(row.started_at),
        ended_at=when(row.ended_at),
        outcome=row.outcome,
        exit_code=row.exit_code,
        oom=row.oom,
        provenance=row.provenance,
    )


def event_view(row: Event) -> views.EventView:
    """One event."""
    return views.EventView(
        id=row.id,
        kind=row.kind,
        track=row.track,
        submission_id=row.submission_id,
        payload=row.payload,
        created_at=when(row.created_at),
    )


def _waits_for(job: Job, position: int | None, now: float) -> str | None:
    if job.state == "blocked":
        return "another job has to end first"
    if job.state != "queued":
        return None
    if job.run_after > now:
        return f"tried again in {job.run_after - now:.0f} s, after a failure on our side"
    if position is not None and position > 1:
        return f"{position - 1} jobs come first"
    return "a free worker"


def _name(names: Sequence[str] | None, label: int) -> str | None:
    return names[label] if names is not None and 0 <= label < len(names) else None
