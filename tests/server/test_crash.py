"""The server process is killed with SIGKILL and started again: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, inspect, select

from bench.errors import UserError
from server import checking, jobs, rules
from server.db.engine import Database
from server.db.tables import (
    Attempt,
    BoardRow,
    Job,
    Outbox,
    SampleResult,
    Submission,
)
from server.instance import Instance
from server.storage import Store

PATIENCE_SECONDS = 300

SMALL = """
import sys, uvicorn
from dataclasses import replace
from server import rules, settings
from server.app import create_app
small = {n: replace(t, images=6, threat=replace(t.threat, max_queries=200))
         for n, t in rules.tracks().items()}
rules.tracks = lambda: small
chosen = settings.load(data_dir=sys.argv[1], workers=2, sandbox="process", poll_seconds=0.05)
uvicorn.run(create_app(chosen), port=int(sys.argv[2]), log_level="warning")
"""
"""A server on six images, so that a whole board takes seconds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, killed with SIGKILL at the end of the block."""
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, *arguments], stdout=file, stderr=file)
        try:
            yield process
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def until(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def check_invariants(database: Database, store: Store) -> None:
    """What must hold after any crash (page "Sandboxes and jobs" of the design)."""
    assert checking.check(database, store).findings == ()


def check_final_boards(database: Database) -> None:
    """Every entry is scored, and nothing is left to do."""
    with database.read() as session:
        assert session.scalars(select(Outbox).where(Outbox.drained_at.is_(None))).all() == []
        assert set(session.scalars(select(BoardRow.state))) == {"scored"}
        accepted = select(func.count()).select_from(Submission).filter_by(state="accepted")
        rows = session.scalar(select(func.count()).select_from(BoardRow))
        assert rows == session.scalar(accepted) != 0


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody drains a dead server's outbox: it is no use to wait for it."""
    monkeypatch.setattr(checking, "PAUSE_SECONDS", 0.0)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_match_finishes_it_and_the_result_stands_once(
    tmp_path: Path,
) -> None:
    folder, log, port = tmp_path / "data", tmp_path / "log", free_port()
    command = ["-m", "server.cli", "serve", "--data-dir", str(folder), "--port", str(port)]
    command += ["--sandbox", "process", "--workers", "1"]
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{address}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def running() -> list[dict[str, str]]:
        listed = httpx.get(f"{address}/api/v1/queue").json()["jobs"]
        return [job for job in listed if job["state"] == "running"]

    with server(command, log) as process:
        until(ready, process, log)
        until(lambda: bool(running()), process, log)
        (job,) = running()
    database = Database(f"sqlite:///{folder / 'tiltyard.db'}")
    store = Store(folder / "artefacts")
    with database.read() as session:
        assert session.get_one(Job, job["id"]).state == "running"
        assert session.scalars(select(SampleResult)).all() == []
    check_invariants(database, store)
    with server(command, log) as process:
        until(ready, process, log)
        match = f"{address}/api/v1/matches/{job['match_id']}"
        until(lambda: httpx.get(match).json()["state"] == "succeeded", process, log)
        seen = httpx.get(f"{match}/samples").json()
    check_invariants(database, store)
    with database.read() as session:
        attempts = session.scalars(
            select(Attempt.outcome).filter_by(job_id=job["id"]).order_by(Attempt.fence)
        ).all()
        stored = session.scalars(select(SampleResult).filter_by(match_id=job["match_id"])).all()
    database.close()
    assert attempts == ["lease_lost", "succeeded"]
    assert len(seen) == len(stored) == 50


@pytest.mark.slow
def test_a_server_killed_again_and_again_ends_with_the_board_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {
        name: replace(track, images=6, threat=replace(track.threat, max_queries=200))
        for name, track in rules.tracks().items()
    }
    monkeypatch.setattr(rules, "tracks", lambda: small)

    def scores(folder: Path, kills: list[tuple[int, float]]) -> dict[str, float | None]:
        """The final board of a server that is killed so many seconds after so many matches."""
        log, url = folder.with_suffix(".log"), f"sqlite:///{folder / 'tiltyard.db'}"
        store = Store(folder / "artefacts")
        arguments = ["-c", SMALL, str(folder), str(free_port())]
        database = Database(url)
        for matches, seconds in kills:
            with server(arguments, log) as process:
                until(lambda n=matches: played(database, n), process, log)  # type: ignore[misc]
                time.sleep(seconds)
            if has_tables(database):
                check_invariants(database, store)

        def finished() -> bool:
            if not played(database, 1):
                return False
            with database.read() as session:
                waiting = select(Job.id).where(Job.state.in_(jobs.OPEN))
                undrained = select(Outbox.id).where(Outbox.drained_at.is_(None))
                return not session.scalars(waiting).all() and not session.scalars(undrained).all()

        with server(arguments, log) as process:
            until(finished, process, log)
        check_invariants(database, store)
        check_final_boards(database)
        with database.read() as session:
            rows = select(Submission.name, BoardRow.score).join(
                BoardRow, BoardRow.submission_id == Submission.id
            )
            found = {row.name: row.score for row in session.execute(rows)}
        database.close()
        return found

    whole = scores(tmp_path / "whole", [])
    # a job that loses its worker three times is given up, so only two kills meet a running job
    killed = scores(tmp_path / "killed", [(-1, 0.0), (-1, 0.2), (0, 0.1), (2, 0.0)])
    assert killed == whole


def has_tables(database: Database) -> bool:
    return "sample_result" in inspect(database.engine).get_table_names()


def played(database: Database, matches: int) -> bool:
    """Whether so many matches have a result; -1: at once; 0: as soon as one is being played."""
    if matches < 0:
        return True
    if not has_tables(database):
        return False
    with database.read() as session:
        if matches == 0:
            return session.scalars(select(Job).filter_by(state="running")).first() is not None
        done = select(func.count(SampleResult.match_id.distinct()))
        return (session.scalar(done) or 0) >= matches


def test_a_data_folder_has_one_server_and_a_dead_one_lets_it_go(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from server.instance import Instance\n"
    script += "held = Instance(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(UserError, match=rf"another server \(process {holder.pid}\)"):
                Instance(tmp_path)
        finally:
            holder.kill()
    name = (tmp_path / "instance").read_text()
    mine = Instance(tmp_path)
    assert mine.id == name
    mine.close()
