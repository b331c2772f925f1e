"""Many short jobs while a random process is killed every half second: what is lost or doubled.

    python benchmarks/chaos.py [--database URL] [--entries 1000] [--minutes 10] [--pause 0.5]

Worker processes (each as `tiltyard serve` runs one: dispatcher, heart, housekeeper, slots) and one
that submits entries, each of which is validated and then played by nine baselines: ten jobs, whose
playing is rehearsed (`server/rehearsal.py`) and takes some hundredths of a second. All of them are
killed by SIGKILL, and started again up to two seconds later. The submitting one asks again with
the same key, as a client does. What was given up (three workers lost) is run again at the end. Then
everything is counted and `tiltyard admin check` looks at the record. The database has to be empty;
without one, a SQLite file is made.

Exit code 1: something was lost, doubled or late, or an invariant does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from bench.tracks.types import Baseline
from server import checking, jobs, lifecycle, rules, settings
from server.db import migrations
from server.db.engine import Database
from server.db.tables import Attempt, BoardRow, Job, Outbox, Submission
from server.instance import Instance
from server.policy import Actor
from server.rehearsal import MODELS, Rehearsal, Stage, small_tracks
from server.storage import Store
from server.worker import Worker, open_jobs

FOES = 9
PATIENCE_SECONDS = 600
"""For what is left when the killing is over."""


@dataclass
class Process:
    """One that is killed and started again."""

    name: str
    run: Callable[[], NoReturn]
    pid: int = 0
    start_at: float = 0.0
    kills: int = 0

    def start(self) -> None:
        """Fork, so that a start takes no time."""
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.run()
            except BaseException as error:
                print(f"{self.name}: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0
        self.kills += 1


def main() -> int:
    """Run, count and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--database", help="URL of an empty database; a SQLite file by default")
    parser.add_argument("--entries", type=int, default=1000, help="ten jobs each")
    parser.add_argument("--minutes", type=float, default=10.0, help="of killing, at most")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between kills; 0: none")
    parser.add_argument("--workers", type=int, default=3, help="worker processes")
    parser.add_argument("--slots", type=int, default=2, help="jobs at once in each")
    parser.add_argument("--seconds", type=float, default=0.02, help="mean of a job's playing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable()
    rules.tracks = tracks  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as place:
        url = options.database or f"sqlite:///{Path(place) / 'chaos.db'}"
        report = chaos(url, Path(place), options)
    print(json.dumps(report, indent=2))
    return 0 if all(not report[each] for each in ("lost", "doubled", "late", "findings")) else 1


def tracks() -> dict[str, Any]:
    """Small tracks with so many baseline attacks."""
    foes = tuple(Baseline(f"rehearsed attack {number}") for number in range(FOES))
    return {
        name: track if track.threat.targeted else replace(track, baseline_attacks=foes)
        for name, track in _SMALL.items()
    }


_SMALL = small_tracks()


def chaos(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Set up, kill, wait for the rest, count."""
    import torch

    torch.set_num_threads(1)  # loaded before the forks: otherwise each start takes seconds
    database = Database(url)
    migrations.upgrade(database)
    stage = Stage(database, folder)
    database.close()
    processes = [
        Process(f"worker {number}", lambda n=number: work(url, folder, n, options))  # type: ignore[misc]
        for number in range(options.workers)
    ]
    processes.append(Process("entrant", lambda: enter(url, folder, options.entries)))
    begun = time.monotonic()
    for process in processes:
        process.start()
    try:
        disturb(processes, stage, options)
        killed_until = time.monotonic() - begun
        wait_for_the_rest(processes, stage, options.entries)
        given_up = run_again(stage)
        wait_for_the_rest(processes, stage, options.entries)
    finally:
        for process in processes:
            if process.pid:
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
    report = counted(stage, options.entries)
    report |= {
        "given_up": given_up,
        "engine": database.url.get_backend_name(),
        "kills": {process.name: process.kills for process in processes},
        "seconds_of_killing": round(killed_until, 1),
        "seconds": round(time.monotonic() - begun, 1),
    }
    database.close()
    return report


def disturb(processes: list[Process], stage: Stage, options: argparse.Namespace) -> None:
    """Kill one that lives, every so often, until the time is over or all is done."""
    rng = random.Random(options.seed)
    end = time.monotonic() + 60 * options.minutes
    while options.pause and time.monotonic() < end and not finished(stage, options.entries):
        alive = [process for process in processes if process.pid]
        if alive:
            victim = rng.choice(alive)
            victim.kill()
            victim.start_at = time.monotonic() + rng.uniform(0.0, 2.0)
        restart(processes, stage)
        time.sleep(options.pause)


def run_again(stage: Stage) -> int:
    """Do what an operator does for jobs that were given up (:rerun); returns how many there were.

    A job that loses three workers is given up: it is suspected of killing them.
    """
    operator = Actor(None, "operator", "operator", "operate")
    with stage.database.write() as session:
        dead = session.execute(select(Job.id, Job.submission_id).where(Job.state == "dead")).all()
        for submission_id in sorted({row.submission_id for row in dead}):
            lifecycle.rerun(session, session.get_one(Submission, submission_id), operator)
    return len(dead)


def restart(processes: list[Process], stage: Stage) -> None:
    """Start whoever is due."""
    due = [each for each in processes if not each.pid and each.start_at <= time.monotonic()]
    if due:
        stage.database.close()  # a child must not inherit a connection
    for process in due:
        process.start()


def wait_for_the_rest(processes: list[Process], stage: Stage, entries: int) -> None:
    """Let everybody work undisturbed until nothing is left."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not finished(stage, entries) and time.monotonic() < end:
        restart(processes, stage)
        time.sleep(0.2)


def finished(stage: Stage, entries: int) -> bool:
    """Whether everything was entered, played and brought onto the boards."""
    with stage.database.read() as session:
        entered = select(func.count()).select_from(Submission).filter_by(source="package")
        if (session.scalar(entered) or 0) < entries:
            return False
        waiting = select(Outbox.id).where(Outbox.drained_at.is_(None)).limit(1)
        if session.scalars(waiting).first() is not None:
            return False
    return open_jobs(stage.database) == 0


def work(url: str, folder: Path, number: int, options: argparse.Namespace) -> NoReturn:
    """A server's worker, with a folder of its own and the store of all."""
    own = folder / f"worker-{number}"
    instance = Instance(own)
    chosen = settings.load(
        data_dir=own,
        artefacts_dir=folder / "artefacts",
        database_url=url,
        workers=options.slots,
        sandbox="process",
        lease_seconds=3.0,
        heartbeat_seconds=0.75,
        poll_seconds=0.1,
    )

    def seconds(entry: str, opponent: str) -> float:
        digest = hashlib.sha256(f"{entry} {opponent}".encode()).digest()
        return 2 * float(options.seconds) * digest[0] / 255

    player = Rehearsal(Store(chosen.artefacts), seconds)
    Worker(chosen, Database(url), player, owner=instance.owner()).start(instance.id)
    while True:
        time.sleep(3600)


def enter(url: str, folder: Path, entries: int) -> NoReturn:
    """A client that notes what it is about to send, and after a death sends it again."""
    stage = Stage(Database(url), folder, set_up=False)
    note = folder / "entrant.json"
    number, upload = json.loads(note.read_text()) if note.exists() else (0, "")
    while number < entries:
        if not upload:
            upload = stage.upload()
            write(note, (number, upload))
        stage.enter(upload, key=f"entry-{number}", track=MODELS)
        number, upload = number + 1, ""
        write(note, (number, upload))
    while True:
        time.sleep(3600)


def write(file: Path, value: object) -> None:
    """Whole or not at all."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(value))
    fresh.replace(file)


def counted(stage: Stage, entries: int) -> dict[str, Any]:
    """What became of everything."""
    with stage.database.read() as session:
        states = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
        outcomes = Counter(session.scalars(select(Attempt.outcome)))
        wins = (
            select(Attempt.job_id)
            .where(Attempt.outcome == "succeeded")
            .group_by(Attempt.job_id)
            .having(func.count() > 1)
        )
        keys = select(Submission.idempotency_key).where(Submission.idempotency_key.is_not(None))
        keyed = Counter(session.scalars(keys))
        lost = [f"entry-{number}" for number in range(entries) if not keyed[f"entry-{number}"]]
        stuck = list(session.scalars(select(Job.id).where(Job.state.in_(jobs.OPEN))))
        late = list(session.scalars(select(Job.id).where(Job.finished_at > Job.deadline)))
        scored = select(func.count()).select_from(BoardRow).where(BoardRow.state == "scored")
        first, second = aliased(Attempt), aliased(Attempt)
        again = (
            select(func.max(second.started_at - first.started_at))
            .select_from(first)
            .join(second, (second.job_id == first.job_id) & (second.fence == first.fence + 1))
            .where(first.outcome == "lease_lost")
        )
        report = {
            "jobs": sum(states.values()),
            "states": states,
            "attempts": dict(outcomes),
            "lost": lost + stuck,
            "doubled": [*session.scalars(wins), *(key for key, n in keyed.items() if n > 1)],
            "late": late,
            "rows_scored": session.scalar(scored),
            "longest_until_run_again_seconds": round(session.scalar(again) or 0.0, 2),
        }
    found = checking.check(stage.database, stage.store).findings
    return report | {"findings": [each.sentence() for each in found]}


if __name__ == "__main__":
    sys.exit(main())
