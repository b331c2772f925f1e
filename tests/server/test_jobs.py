"""server/jobs.py: every move of the table, fences, leases, retries, on both databases."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from server import jobs
from server.accounts import create_user
from server.db.engine import Database, db_now
from server.db.tables import Account, Attempt, Job, Outbox, Submission
from server.jobs import Held, Superseded
from server.schemas import JobState

STATES = get_args(JobState)
LEASE = 60.0
_numbers = itertools.count()


def entry(session: Session, owner: str = "ada") -> Submission:
    account = session.scalars(select(Account).filter_by(name=owner)).one_or_none()
    account = account or create_user(session, owner)
    submission = Submission(
        account_id=account.id, name="x", track="t", kind="model", source="image",
        state="accepted",
    )  # fmt: skip
    session.add(submission)
    session.flush()
    return submission


def add(database: Database, owner: str = "ada", *, priority: int = 0) -> str:
    with database.write() as session:
        submission = entry(session, owner)
        job_id = jobs.enqueue(
            session,
            key=jobs.key_of(test=next(_numbers)),
            kind="validate",
            submission_id=submission.id,
            account_id=submission.account_id,
            run_seconds=1.0,
            priority=priority,
        )
    assert job_id is not None
    return job_id


def claim(database: Database, owner: str = "here:1") -> Held | None:
    with database.write() as session:
        return jobs.claim(session, owner=owner, host="h", lease_seconds=LEASE)


def held(database: Database) -> Held:
    found = claim(database)
    assert found is not None
    return found


def running(database: Database) -> Held:
    add(database)
    found = held(database)
    with database.write() as session:
        jobs.begin(session, found.job_id, found.fence)
    return found


def state(database: Database, job_id: str) -> str:
    with database.read() as session:
        return session.get_one(Job, job_id).state


def force(database: Database, job_id: str, **values: object) -> None:
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))


def outcome(database: Database, job: Held) -> str | None:
    with database.read() as session:
        return session.get_one(Attempt, (job.job_id, job.fence)).outcome


def test_a_job_is_claimed_begun_and_finished_once(database: Database) -> None:
    job = running(database)
    assert (job.fence, state(database, job.job_id)) == (1, "running")
    assert claim(database) is None
    with database.write() as session:
        jobs.succeed(session, job.job_id, job.fence, {"engine": "test"})
        jobs.post(session, job.job_id, "board")
        jobs.post(session, job.job_id, "board")
    assert state(database, job.job_id) == "succeeded"
    assert outcome(database, job) == "succeeded"
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Outbox)) == 1


def test_a_key_is_queued_once(database: Database) -> None:
    add(database)
    with database.write() as session:
        submission = entry(session)
        again = jobs.enqueue(
            session,
            key=session.scalars(select(Job.key)).one(),
            kind="validate",
            submission_id=submission.id,
            account_id=submission.account_id,
            run_seconds=1.0,
        )
        assert again is None


Step = Callable[[Session, str, int], object]
STEPS: dict[str, tuple[JobState, Step]] = {
    "begin": ("running", lambda s, j, f: jobs.begin(s, j, f)),
    "succeed": ("succeeded", lambda s, j, f: jobs.succeed(s, j, f, {})),
    "fail_user": (
        "failed_user",
        lambda s, j, f: jobs.fail_user(s, j, f, "no", fault_id=s.get_one(Job, j).submission_id),
    ),
    "fail_infra": ("queued", lambda s, j, f: jobs.fail_infra(s, j, f, "disk full")),
    "release": ("queued", lambda s, j, f: jobs.release(s, j, f)),
    "stop_cancelled": ("cancelled", lambda s, j, f: jobs.stop_cancelled(s, j, f)),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("before", STATES)
def test_a_step_moves_a_job_only_as_the_table_says(
    sqlite: Database, before: JobState, name: str
) -> None:
    job = running(sqlite)
    force(sqlite, job.job_id, state=before)
    after, step = STEPS[name]
    if after in jobs.MOVES[before]:
        with sqlite.write() as session:
            step(session, job.job_id, job.fence)
        assert state(sqlite, job.job_id) == after
    else:
        with pytest.raises(Superseded), sqlite.write() as session:
            step(session, job.job_id, job.fence)
        assert state(sqlite, job.job_id) == before


@pytest.mark.parametrize("name", STEPS)
def test_a_step_under_an_old_fence_is_discarded(database: Database, name: str) -> None:
    job = running(database)
    if name == "begin":
        force(database, job.job_id, state="leased")
    before = state(database, job.job_id)
    with pytest.raises(Superseded), database.write() as session:
        STEPS[name][1](session, job.job_id, job.fence - 1)
    assert state(database, job.job_id) == before
    assert outcome(database, job) is None


def test_a_superseded_worker_writes_nothing_that_it_found(database: Database) -> None:
    old = running(database)
    force(database, old.job_id, lease_until=0.0)
    with database.write() as session:
        jobs.expire(session)
    new = held(database)
    assert (new.job_id, new.fence) == (old.job_id, old.fence + 1)

    def finish(job: Held) -> None:
        with database.write() as session:
            jobs.post(session, job.job_id, "board")
            jobs.succeed(session, job.job_id, job.fence, {})

    with pytest.raises(Superseded):
        finish(old)
    with database.read() as session:
        assert session.scalars(select(Outbox)).all() == []
    assert outcome(database, old) == "lease_lost"
    with database.write() as session:
        jobs.begin(session, new.job_id, new.fence)
    finish(new)
    assert state(database, new.job_id) == "succeeded"


def test_only_blocked_jobs_are_unblocked(sqlite: Database) -> None:
    for before in STATES:
        job_id = add(sqlite)
        force(sqlite, job_id, state=before)
        with sqlite.write() as session:
            assert jobs.unblock(session, job_id) == (before == "blocked")
        force(sqlite, job_id, state="cancelled")


def test_eight_workers_never_claim_the_same_job(database: Database) -> None:
    expected = {add(database, owner=f"team{n % 3}") for n in range(20)}
    claimed: list[tuple[str, int]] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        while (job := claim(database, f"here:{number}")) is not None:
            claimed.append((job.job_id, job.fence))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # with SKIP LOCKED a worker may see nothing while others hold the last rows
    while (job := claim(database)) is not None:
        claimed.append((job.job_id, job.fence))
    assert Counter(claimed) == Counter({(job_id, 1): 1 for job_id in expected})


def test_teams_take_turns_however_many_jobs_one_has(database: Database) -> None:
    many = [add(database, "ada") for _ in range(5)]
    single = add(database, "bob")
    order = []
    while (job := claim(database)) is not None:
        order.append(job.job_id)
        with database.write() as session:
            jobs.begin(session, job.job_id, job.fence)
            jobs.succeed(session, job.job_id, job.fence, {})
    assert order == [many[0], single, *many[1:]]


def test_the_more_urgent_of_a_team_comes_first_then_the_older(database: Database) -> None:
    late, urgent, last = add(database), add(database, priority=2), add(database)
    order = [held(database).job_id for _ in range(3)]
    assert order == [urgent, late, last]


def test_a_heartbeat_extends_the_lease_and_brings_back_the_cancel_flag(database: Database) -> None:
    job = running(database)
    force(database, job.job_id, lease_until=0.0)
    with database.write() as session:
        assert jobs.beat(session, job.job_id, job.fence, LEASE) == jobs.Beat(True, False)
        assert jobs.expire(session) == []
    assert state(database, job.job_id) == "running"
    with database.write() as session:
        assert jobs.request_cancel(session, job.job_id) == "running"
        assert jobs.request_cancel(session, job.job_id) == "running"
        assert jobs.beat(session, job.job_id, job.fence, LEASE) == jobs.Beat(True, True)
        jobs.stop_cancelled(session, job.job_id, job.fence)
        assert jobs.beat(session, job.job_id, job.fence, LEASE) == jobs.Beat(False, False)
    assert state(database, job.job_id) == "cancelled"


def test_what_waits_is_cancelled_at_once_and_what_ended_stays(database: Database) -> None:
    job_id = add(database)
    with database.write() as session:
        assert jobs.request_cancel(session, job_id) == "cancelled"
        assert jobs.request_cancel(session, job_id) == "cancelled"
    done = running(database)
    with database.write() as session:
        jobs.succeed(session, done.job_id, done.fence, {})
        assert jobs.request_cancel(session, done.job_id) == "succeeded"


def test_a_cancelled_job_is_not_queued_again_by_a_failure_of_ours(database: Database) -> None:
    for step in ("fail_infra", "release"):
        job = running(database)
        with database.write() as session:
            jobs.request_cancel(session, job.job_id)
            STEPS[step][1](session, job.job_id, job.fence)
        assert state(database, job.job_id) == "cancelled"


def test_our_failures_are_retried_three_times_after_growing_pauses(database: Database) -> None:
    add(database)
    pauses = []
    for attempt in range(1, jobs.RETRIES + 2):
        job = held(database)
        assert job.fence == attempt
        with database.write() as session:
            jobs.begin(session, job.job_id, job.fence)
            ended = jobs.fail_infra(session, job.job_id, job.fence, "engine gone")
            if ended.state == "queued":
                now = session.execute(select(db_now())).scalar_one()
                pauses.append(ended.run_after - now)
        assert claim(database) is None, "a pause comes first"
        force(database, job.job_id, run_after=0.0)
    assert len(pauses) == jobs.RETRIES
    assert pauses == sorted(pauses)
    assert state(database, job.job_id) == "dead"
    assert claim(database) is None


def test_a_submission_failure_is_final(database: Database) -> None:
    job = running(database)
    with database.write() as session:
        jobs.fail_user(
            session, job.job_id, job.fence, "exit code 1", fault_id=job.submission_id,
            exit_code=1, oom=True,
        )  # fmt: skip
    with database.read() as session:
        attempt = session.get_one(Attempt, (job.job_id, job.fence))
        assert (attempt.outcome, attempt.exit_code, attempt.oom) == ("failed_user", 1, True)
        assert session.get_one(Job, job.job_id).fault_id == job.submission_id
    assert claim(database) is None


@pytest.mark.parametrize("begun", [False, True])
def test_a_lease_that_runs_out_goes_back_to_the_queue(database: Database, begun: bool) -> None:
    add(database)
    job = held(database)
    with database.write() as session:
        if begun:
            jobs.begin(session, job.job_id, job.fence)
        assert jobs.expire(session) == []
    assert claim(database) is None
    force(database, job.job_id, lease_until=0.0)
    with database.write() as session:
        assert jobs.expire(session) == []
    assert held(database).fence == 2


def test_a_job_that_outlives_three_workers_is_dead(database: Database) -> None:
    add(database)
    for _ in range(jobs.LEASES):
        job = held(database)
        force(database, job.job_id, lease_until=0.0)
        with database.write() as session:
            ended = jobs.expire(session)
    assert [each.id for each in ended] == [job.job_id]
    assert ended[0].reason == "its worker was lost 3 times"
    assert claim(database) is None


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(database: Database) -> None:
    job = running(database)
    with database.write() as session:
        jobs.request_cancel(session, job.job_id)
    force(database, job.job_id, lease_until=0.0)
    with database.write() as session:
        assert [each.state for each in jobs.expire(session)] == ["cancelled"]


def test_a_dead_server_gives_back_its_own_leases_only(database: Database) -> None:
    add(database), add(database), add(database)
    mine, other, alike = (claim(database, o) for o in ("a%:1", "b:1", "ab:1"))
    assert mine is not None
    assert other is not None
    assert alike is not None
    with database.write() as session:
        jobs.expire(session, instance="a%")
    states = [state(database, job.job_id) for job in (mine, other, alike)]
    assert states == ["queued", "leased", "leased"]


@pytest.mark.parametrize("waiting", ["blocked", "queued"])
def test_what_waits_past_its_deadline_is_given_up_with_a_reason(
    database: Database, waiting: str
) -> None:
    job_id = add(database)
    force(database, job_id, state=waiting, deadline=0.0)
    assert claim(database) is None
    with database.write() as session:
        (ended,) = jobs.expire(session)
    assert ended.state == "dead"
    assert "our queue is too long" in (ended.reason or "")


def test_terminal_states_lead_nowhere_and_every_other_one_can_be_left() -> None:
    ended = {"succeeded", "failed_user", "dead", "cancelled"}
    assert {state for state, after in jobs.MOVES.items() if not after} == ended
    assert set(jobs.MOVES) == set(STATES)
    assert all("cancelled" in jobs.MOVES[state] for state in STATES if state not in ended)


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1))
def test_a_key_does_not_depend_on_the_order_of_its_parts(parts: dict[str, object]) -> None:
    backwards = dict(reversed(list(parts.items())))
    assert jobs.key_of(**parts) == jobs.key_of(**backwards)
    assert jobs.key_of(**parts) != jobs.key_of(**parts, another=1)
