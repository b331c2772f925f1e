"""How many workers one database serves: costs of the real queue, measured; a day of it, simulated.

    python benchmarks/scale.py [--database URL] [--jobs 1000 10000 100000] [--workers 1 8 64 1000]

First the server's own functions are timed on a database that holds so many jobs (`jobs.claim`, and
begin, heartbeat, the finishing transaction with its facts, and the boards after it, by rehearsed
matches). Then a simulation serves workers with them: a worker claims, begins, plays for an
exponentially distributed time, beats every 15 s, and finishes; the database does one of these
things after another, as SQLite does (``--lanes`` for one that does several). What comes out is how
much faster so many workers are than one. The database has to be empty; without one, a SQLite file
is made.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import logging
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import insert, select, update

from server import housekeeping, jobs, lifecycle, rules
from server.db import migrations
from server.db.engine import Database
from server.db.ids import new_id
from server.db.tables import Account, Job, Submission
from server.rehearsal import MODELS, Now, Rehearsal, Stage, small_tracks
from server.worker import Holding, Worker

ACCOUNTS = 100
TIMES = 7
BEAT_SECONDS = 15.0
BATCH = 5000


class Costs(NamedTuple):
    """Seconds that the database works for one job: ``beat`` for each heartbeat."""

    claim: float
    begin: float
    beat: float
    finish: float
    boards: float

    @property
    def once(self) -> float:
        """What a job costs but for its heartbeats."""
        return self.claim + self.begin + self.finish + self.boards


def main() -> None:
    """Measure, simulate, print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--database", help="URL of an empty database; a SQLite file by default")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8, 32, 128, 512, 1000])
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0, 40.0, 300.0])
    parser.add_argument("--simulated", type=int, default=100_000, help="jobs that are simulated")
    parser.add_argument("--lanes", type=int, default=1, help="things the database does at once")
    options = parser.parse_args()
    logging.disable()
    small = small_tracks(images=50)
    rules.tracks = lambda: small  # type: ignore[assignment]
    print(
        "| jobs in the database | claim, ms | begin | heartbeat | finish | boards | jobs a second |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    measured: list[Costs] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        url = options.database or f"sqlite:///{folder / 'scale.db'}"
        database = Database(url)
        migrations.upgrade(database)
        stage = Stage(database, folder)
        stage.play()
        for count in sorted(options.jobs):
            measured.append(costs(stage, count))
            cells = " | ".join(f"{1000 * each:.1f}" for each in measured[-1])
            print(f"| {count:,} | {cells} | {1 / measured[-1].once:.0f} |", flush=True)
        database.close()
    print(
        f"\nSimulated, {options.simulated:,} jobs, with the costs at {max(options.jobs):,} jobs:\n"
    )
    print("| workers | " + " | ".join(f"matches of {each:g} s" for each in options.seconds) + " |")
    print("|---:|" + "---:|" * len(options.seconds))
    for workers in options.workers:
        row = []
        for seconds in options.seconds:
            took = simulated(measured[-1], workers, options.simulated, seconds, options.lanes)
            alone = options.simulated * (seconds + measured[-1].once)
            speed = alone / took
            row.append(f"{speed:,.1f}x ({100 * speed / workers:.0f} %)")
        print(f"| {workers:,} | {' | '.join(row)} |", flush=True)


def costs(stage: Stage, count: int) -> Costs:
    """Measure with so many jobs in the database, half of them finished."""
    fill(stage.database, count)
    claims = [timed(lambda: claimed(stage)) for _ in range(TIMES)]
    with stage.database.write() as session:  # the filling must not be claimed in the next part
        session.execute(update(Job).where(Job.kind == "validate").values(run_after=9e9))
    begins, beats, finishes, boards = zip(*(played(stage, n) for n in range(TIMES)), strict=True)
    with stage.database.write() as session:
        own = update(Job).where(Job.kind == "validate", Job.state == "queued")
        session.execute(own.values(run_after=0.0))
    middle = statistics.median
    return Costs(middle(claims), middle(begins), middle(beats), middle(finishes), middle(boards))


def timed(what: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def claimed(stage: Stage) -> None:
    """Claim one job of the filling."""
    with stage.database.write() as session:
        assert jobs.claim(session, owner="scale:1", host="h", lease_seconds=3600) is not None


def played(stage: Stage, number: int) -> tuple[float, float, float, float]:
    """A match of a new model: seconds of begin, a heartbeat, finishing, and its boards."""
    with stage.database.write() as session:
        row = Submission(
            account_id=stage.account, name=f"scale {number}", track=MODELS, kind="model",
            source="image", sha256="a" * 64, state="accepted", accepted_at=time.time(),
        )  # fmt: skip
        session.add(row)
        session.flush()
        lifecycle.settle(session, rules.rules_version(rules.track(MODELS)), {row.id})
    with stage.database.write() as session:
        held = jobs.claim(session, owner="scale:1", host="h", lease_seconds=3600)
        assert held is not None
    spent: dict[str, float] = {}

    def begin() -> None:
        with stage.database.write() as session:
            jobs.begin(session, held.job_id, held.fence)

    def beat() -> None:
        with stage.database.write() as session:
            jobs.beat(session, held.job_id, held.fence, 3600)

    spent["begin"], spent["beat"] = timed(begin), timed(beat)
    worker = Worker(
        stage.settings, stage.database, Rehearsal(stage.store), owner="scale:1", executor=Now()
    )
    finish = timed(lambda: worker.play_and_record(Holding(held)))
    boards = timed(lambda: housekeeping.drain(stage.database))
    return spent["begin"], spent["beat"], finish, boards


def fill(database: Database, count: int) -> None:
    """Have so many jobs of a hundred participants, half of them finished a while ago."""
    with database.write() as session:
        there = len(session.scalars(select(Job.id)).all())
        owners = list(session.scalars(select(Account.id).where(Account.name.like("filler %"))))
        while len(owners) < ACCOUNTS:
            row = Account(name=f"filler {len(owners)}", role="participant")
            session.add(row)
            session.flush()
            owners.append(row.id)
        entry = Submission(
            account_id=owners[0], name="filler", track="none", kind="model", source="image",
            state="rejected",
        )  # fmt: skip
        session.add(entry)
        session.flush()
        for start in range(there, count, BATCH):
            rows = [
                job(entry.id, owners[n % ACCOUNTS], n)
                for n in range(start, min(count, start + BATCH))
            ]
            session.execute(insert(Job), rows)
    with (
        database.engine.connect() as connection
    ):  # the planner knows what is there, as it does in service
        connection.exec_driver_sql("ANALYZE")
        connection.commit()


def job(submission: str, account: str, number: int) -> dict[str, object]:
    """A row: every other one has succeeded."""
    done = number % 2 == 0
    return {
        "id": new_id(),
        "key": f"filler {number} {new_id()}",
        "kind": "validate",
        "state": "succeeded" if done else "queued",
        "submission_id": submission,
        "account_id": account,
        "run_seconds": 60.0,
        "run_after": 0.0,
        "deadline": 9e9,
        "started_at": 1.0 + number if done else None,
        "finished_at": 2.0 + number if done else None,
        "fence": 0,
    }


def simulated(costs: Costs, workers: int, count: int, seconds: float, lanes: int) -> float:
    """Seconds in which so many workers finish so many jobs, the database serving in turn."""
    cost = {"claim": costs.claim + costs.begin, "beat": costs.beat}
    cost["finish"] = costs.finish + costs.boards
    rng, order = random.Random(0), itertools.count()
    events: list[tuple[float, int, str, float]] = []  # when, order, what is over, left to play
    waiting: deque[tuple[str, float]] = deque()
    now, free, todo, finished = 0.0, lanes, count, 0

    def after(pause: float, what: str, left: float) -> None:
        heapq.heappush(events, (now + pause, next(order), what, left))

    def ask(what: str, left: float) -> None:
        nonlocal free
        if free:
            free -= 1
            after(cost[what], what, left)
        else:
            waiting.append((what, left))

    def play(left: float) -> None:
        after(min(left, BEAT_SECONDS), "play", max(0.0, left - BEAT_SECONDS))

    for _ in range(min(workers, count)):
        todo -= 1
        ask("claim", 0.0)
    while finished < count:
        now, _, what, left = heapq.heappop(events)
        if what == "play":
            ask("beat" if left else "finish", left)
            continue
        free += 1
        if waiting:
            ask(*waiting.popleft())
        if what == "finish":
            finished += 1
            if todo:
                todo -= 1
                ask("claim", 0.0)
        else:
            play(left if what == "beat" else rng.expovariate(1 / seconds))
    return now


if __name__ == "__main__":
    main()
