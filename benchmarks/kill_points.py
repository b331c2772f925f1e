"""Every statement of the job protocol as a kill point: SIGKILL before it, and see what is left.

    python benchmarks/kill_points.py [--database URL] [--repeats 20] [--quick] [--every 1] [--json]

A process does one step of a job's life (enter, validate, play, fail, cancel, give back, take back,
tidy up) and kills itself before its first statement, commit or rename of an artefact, the next
process before its second, and so on until a step is done whole. Then the server's own recovery runs
once: everything has to be finished once, and `tiltyard admin check` has to find nothing. At the
end a worker is stopped (SIGSTOP) for longer than its lease and continued: its result is refused.

The database has to be empty; without one, a SQLite file is made. Exit code 1: something is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import event, func, select, update

from bench.errors import InfrastructureError
from server import checking, housekeeping, jobs, rules
from server.db import migrations
from server.db.engine import Database
from server.db.tables import Attempt, Job, QuotaLedger, SampleResult, Submission
from server.plays import EntryFacts, Fault
from server.rehearsal import Now, Rehearsal, Stage, small_tracks
from server.worker import Worker

LEASE_SECONDS = 0.5
MOST = 500
"""Points of one step; more would mean that it never ends."""
REFUSED = 7


class OneJob(Now):
    """Runs one job; then the process ends."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        super().submit(fn, *args, **kwargs)
        os._exit(0)


class FirstJob(Now):
    """Runs one job, and no other is claimed after it."""

    worker: Worker

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.worker.stop_claiming()
        return future


class Failing(Rehearsal):
    """Every validation and match ends by ``error``."""

    def __init__(self, stage: Stage, error: Callable[[EntryFacts], Exception]) -> None:
        super().__init__(stage.store)
        self.error = error

    def validate(self, entry: EntryFacts, *rest: Any) -> NoReturn:
        raise self.error(entry)

    def match(self, model: EntryFacts, attack: EntryFacts, *rest: Any) -> NoReturn:
        raise self.error(model)


@dataclass
class Step:
    """What a victim does; ``prepare`` is done before each, by nobody who is killed."""

    name: str
    act: Callable[[Stage], object]
    prepare: Callable[[Stage], object] = lambda stage: None
    killed: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Kill, recover, check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--database", help="URL of an empty database; a SQLite file by default")
    parser.add_argument("--repeats", type=int, default=20, help="times each point is met")
    parser.add_argument("--quick", action="store_true", help="each statement of a step once")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th point")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    logging.disable()
    small = small_tracks()
    rules.tracks = lambda: small  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as place:
        url = options.database or f"sqlite:///{Path(place) / 'killed.db'}"
        report = run(url, Path(place), options.repeats, options.every, options.quick)
    if options.json:
        print(json.dumps(report))
    else:
        print("| step | kill points | kills |\n|---|---:|---:|")
        for name, row in report["steps"].items():
            print(f"| {name} | {row['points']} | {row['kills']} |")
        for wrong in report["wrong"]:
            print(f"WRONG: {wrong}")
    return 1 if report["wrong"] else 0


def run(url: str, folder: Path, repeats: int, every: int, quick: bool) -> dict[str, Any]:
    """Everything on one database; {"steps": {name: points and kills}, "wrong": sentences}."""
    database = Database(url)
    migrations.upgrade(database)
    stage = Stage(database, folder, lease_seconds=LEASE_SECONDS)
    stage.play()
    steps = all_steps()
    for _ in range(repeats):
        for step in steps:
            killed_at_each(step, stage, every, quick)
    wrong = [*stopped(stage), *judged(stage)]
    database.close()
    return {
        "steps": {
            step.name: {"points": len(step.killed), "kills": step.killed.total()} for step in steps
        },
        "wrong": wrong,
    }


def killed_at_each(step: Step, stage: Stage, every: int, quick: bool) -> None:
    """Have one process after another killed, each a point later, until one gets to the end."""
    for point in range(1, MOST, every):
        step.prepare(stage)
        stage.database.close()  # a child must not inherit a connection
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            victim(step, stage, point, quick, writer)
        os.close(writer)
        with os.fdopen(reader) as told:
            where = told.read()
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status) != 0:
                raise SystemExit(f"{step.name} ended by itself with {os.WEXITSTATUS(status)}")
            return
        step.killed[f"{point} {where}"] += 1
    raise SystemExit(f"{step.name} has more than {MOST} points")


def victim(step: Step, stage: Stage, point: int, quick: bool, writer: int) -> NoReturn:
    """Do the step, and be killed before its ``point``-th statement, commit or rename.

    ``quick``: a statement that was met before is no other point.
    """
    try:
        met: list[str] = []

        def meet(where: str) -> None:
            if quick and where in met:
                return
            met.append(where)
            if len(met) == point:
                os.write(writer, where[:100].encode())
                os.kill(os.getpid(), signal.SIGKILL)

        engine = stage.database.engine
        event.listen(engine, "before_cursor_execute", lambda *given: meet(given[2]))
        event.listen(engine, "commit", lambda connection: meet(f"COMMIT after {met[-1]}"))
        sys.addaudithook(lambda name, given: meet(name) if name == "os.rename" else None)
        step.act(stage)
    except BaseException as error:
        print(f"{step.name}: {type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def worker(stage: Stage, player: Rehearsal) -> Worker:
    """A worker that runs one job in this thread and ends the process."""
    name = f"victim:{os.getpid()}"
    return Worker(stage.settings, stage.database, player, owner=name, executor=OneJob())


def one_job(stage: Stage) -> None:
    """Claim, begin, beat, and finish with what was found."""
    made: list[Worker] = []
    made.append(worker(stage, Rehearsal(stage.store, during=lambda: made[0].beat())))
    made[0].dispatch()


def failing(error: Callable[[EntryFacts], Exception]) -> Callable[[Stage], None]:
    """One job that ends badly."""
    return lambda stage: worker(stage, Failing(stage, error)).dispatch()


def cancelled(stage: Stage) -> None:
    """One job that is cancelled while it runs, and obeys."""
    made: list[Worker] = []

    def during() -> None:
        with stage.database.write() as session:
            held = select(Job.id).where(Job.owner == made[0].owner, Job.state == "running")
            jobs.request_cancel(session, session.scalars(held).one())
        made[0].beat()
        raise InfrastructureError("the sandbox was closed")

    made.append(worker(stage, Rehearsal(stage.store, during=during)))
    made[0].dispatch()


def given_back(stage: Stage) -> None:
    """One job whose worker is told to end in order."""
    made: list[Worker] = []

    def during() -> None:
        made[0].stop_claiming()
        raise InfrastructureError("the sandbox was closed")

    made.append(worker(stage, Rehearsal(stage.store, during=during)))
    made[0].dispatch()


def entered(stage: Stage) -> None:
    """Enter the newest upload, with a key: whoever is killed asks again."""
    stage.enter(newest_upload(stage), key=newest_upload(stage))


def newest_upload(stage: Stage) -> str:
    """The upload that was made last; ids are in the order of time."""
    from server.db.tables import Upload

    with stage.database.read() as session:
        return session.scalars(select(func.max(Upload.id))).one()


def ensure(kind: str) -> Callable[[Stage], None]:
    """Have a job of this kind that is claimed next, and none of the other."""

    def prepare(stage: Stage) -> None:
        housekeeping.drain(stage.database)
        with stage.database.write() as session:
            other = update(Job).where(Job.kind != kind, Job.state == "queued")
            session.execute(other.values(run_after=9e9))
            own = update(Job).where(Job.kind == kind, Job.state == "queued")
            session.execute(own.values(run_after=0.0))
            ready = session.scalar(
                select(func.count()).select_from(Job).where(Job.kind == kind, Job.state == "queued")
            )
        if not ready:
            if kind == "validate":
                stage.submit()
            else:
                stage.baseline(f"made {time.time_ns()}")
            prepare(stage)

    return prepare


def taken_back(stage: Stage) -> None:
    """What the housekeeper does."""
    housekeeping.expire(stage.database)


def lost(**values: Any) -> Callable[[Stage], None]:
    """Have a job that is held, and whose lease is over."""

    def prepare(stage: Stage) -> None:
        ensure("match")(stage)
        with stage.database.write() as session:
            held = jobs.claim(session, owner="gone:1", host="h", lease_seconds=-1.0)
            assert held is not None
            own = update(Job).where(Job.id == held.job_id)
            session.execute(own.values(lease_until=0.0, **values))

    return prepare


def one_played(stage: Stage) -> None:
    """Have a match that was played, and of which the boards know nothing yet."""
    ensure("match")(stage)
    first = FirstJob()
    first.worker = Worker(
        stage.settings, stage.database, Rehearsal(stage.store), owner="stage:1", executor=first
    )
    first.worker.dispatch()


def all_steps() -> list[Step]:
    """The steps of a job's life."""
    fault = failing(lambda entry: Fault(entry.id, "exit code 1"))
    ours = failing(lambda entry: InfrastructureError("disk full"))
    return [
        Step("enter", entered, lambda stage: stage.upload()),
        Step("validate", one_job, ensure("validate")),
        Step("play", one_job, ensure("match")),
        Step("boards", lambda stage: housekeeping.drain(stage.database), one_played),
        Step("validation fails", fault, ensure("validate")),
        Step("match fails", fault, ensure("match")),
        Step("we fail", ours, ensure("match")),
        Step("cancel", cancelled, ensure("match")),
        Step("give back", given_back, ensure("match")),
        Step("take back", taken_back, lost()),
        Step("take back for the third time", taken_back, lost(leases_lost=jobs.LEASES - 1)),
        Step("take back what is cancelled", taken_back, lost(cancel_requested_at=1.0)),
    ]


def stopped(stage: Stage) -> list[str]:
    """Stop a worker for longer than its lease, have its job played, and let it go on."""
    housekeeping.expire(stage.database, instance="victim")
    ensure("match")(stage)
    stage.database.close()
    child = os.fork()
    if child == 0:
        sleeper(stage)
    os.waitpid(child, os.WUNTRACED)
    time.sleep(1.5 * LEASE_SECONDS)
    with stage.database.read() as session:
        held = select(Job).where(Job.owner == f"victim:{child}", Job.state == "running")
        (job,) = session.scalars(held).all()
    finish(stage)
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status) != REFUSED:
        return [f"a worker that was stopped for longer than its lease ended with {status}"]
    with stage.database.read() as session:
        facts = select(SampleResult.fence).where(SampleResult.match_id == job.match_id).distinct()
        fences = list(session.scalars(facts))
        tries = select(Attempt.outcome).filter_by(job_id=job.id).order_by(Attempt.fence)
        outcomes = list(session.scalars(tries))
    if fences != [job.fence + 1] or outcomes[-2:] != ["lease_lost", "succeeded"]:
        return [f"a stopped worker has written: fences {fences}, attempts {outcomes}"]
    return []


def sleeper(stage: Stage) -> NoReturn:
    """Stop in the middle of a job; REFUSED when the record takes nothing after that."""
    try:
        with stage.database.write() as session:
            held = jobs.claim(
                session, owner=f"victim:{os.getpid()}", host="h", lease_seconds=LEASE_SECONDS
            )
            assert held is not None
            jobs.begin(session, held.job_id, held.fence)
        os.kill(os.getpid(), signal.SIGSTOP)
        with stage.database.write() as session:
            jobs.succeed(session, held.job_id, held.fence, {})
    except jobs.Superseded:
        os._exit(REFUSED)
    except BaseException as error:
        print(f"stopped: {type(error).__name__}: {error}", file=sys.stderr)
    os._exit(1)


def finish(stage: Stage) -> None:
    """Take back what is lost, and play all that waits, also what was to wait."""
    housekeeping.expire(stage.database)
    with stage.database.write() as session:
        session.execute(update(Job).where(Job.state == "queued").values(run_after=0.0))
    stage.play()


def judged(stage: Stage) -> list[str]:
    """Recover as a server does at its start, play what is left, and say what is wrong then."""
    housekeeping.expire(stage.database, instance="victim")
    with stage.database.write() as session:
        session.execute(update(Job).where(Job.lease_until > 0).values(lease_until=0.0))
    finish(stage)
    wrong = [each.sentence() for each in checking.check(stage.database, stage.store).findings]
    with stage.database.read() as session:
        keyed = select(func.count()).select_from(Submission)
        again = keyed.where(Submission.idempotency_key.is_not(None))
        keys = select(func.count(Submission.idempotency_key.distinct()))
        if session.scalar(again) != session.scalar(keys):
            wrong.append("an upload was entered twice under one key")
        booked = select(QuotaLedger.submission_id).where(QuotaLedger.reason == "submitted")
        doubled = booked.group_by(QuotaLedger.submission_id).having(func.count() > 1)
        wrong += [f"quota of {each} was taken twice" for each in session.scalars(doubled)]
    return wrong


if __name__ == "__main__":
    sys.exit(main())
