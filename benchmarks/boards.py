"""How long a board takes to follow a finished match, against the number of entries.

    python benchmarks/boards.py [--entries 100 1000 10000] [--images 50]

A database (SQLite) with so many models on `mnist5k`, each played by every baseline attack, and one
more model that comes in, is played, and withdraws. What is timed is what the server does after a
match has ended (`housekeeping.drain`), after an entry was accepted, for the whole board as data,
and, over HTTP from a server of its own process, for the first page of its web view: by rank,
and of a search sorted by name. Statements are those of the first page.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from sqlalchemy import event, insert, select

from server import accounts, challenges, housekeeping, jobs, lifecycle, rules
from server.db import migrations, queries
from server.db.engine import Database
from server.db.ids import new_id
from server.db.tables import Job, Match, SampleResult, Submission
from server.schemas import BoardQuery

TRACK = "mnist5k-robust-model"
ROUNDS = 5
PAGES = 20


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--images", type=int, default=50)
    options = parser.parse_args()
    print(
        "| entries | after a match, ms | after an acceptance, ms | the board as data, ms "
        "| first page, ms | a search by name, ms | statements |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for entries in options.entries:
        with tempfile.TemporaryDirectory() as folder:
            database = Database(f"sqlite:///{Path(folder) / 'boards.db'}")
            migrations.upgrade(database)
            print(_line(database, Path(folder), entries, options.images), flush=True)
            database.close()


def _line(database: Database, folder: Path, entries: int, images: int) -> str:
    rng = random.Random(0)
    with database.write() as session:
        challenges.open_first(session, ["mnist5k"])
        lifecycle.enter_baselines(session)
        owner = accounts.create_user(session, "ada").id
    models = [_model(database, owner, number) for number in range(entries)]
    with database.write() as session:
        lifecycle.settle(session, rules.rules_version(rules.track(TRACK)))
    _play(database, models, images, rng)
    with database.write() as session:
        lifecycle.settle(session, rules.rules_version(rules.track(TRACK)))
    accepted, finished, shown = [], [], []
    for number in range(ROUNDS):
        model = _model(database, owner, entries + number, state="validating")
        accepted.append(_timed(lambda model=model: _accept(database, model)))  # type: ignore[misc]
        _play(database, [model], images, rng, drain=True)
        finished.append(_timed(lambda: housekeeping.drain(database)))
        shown.append(_timed(lambda: _board(database)))
    first, search, statements = _pages(database, folder)
    timed = (finished, accepted, shown, first, search)
    cells = [f"{statistics.median(values) * 1000:.0f}" for values in timed]
    return f"| {entries} | {' | '.join([*cells, str(statements)])} |"


def _pages(database: Database, folder: Path) -> tuple[list[float], list[float], int]:
    """Seconds of the first page and of a search, and how many statements the first page takes."""
    said: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *call: said.append(str(call[2])))
    with database.read() as session:
        board = queries.board(session, TRACK, BoardQuery(limit=100))
        queries.pictures(session, board.rows)
    statements = sum(text.lstrip().upper().startswith("SELECT") for text in said)
    environment = dict(os.environ, TILTYARD_DATABASE_URL=str(database.url), OMP_NUM_THREADS="1")
    environment["TILTYARD_DATA_DIR"] = str(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from server.cli import main; main()", "serve"]
    command += ["--port", str(port), "--workers", "0", "--sandbox", "process"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
                _until_up(client, server)
                first = _asked(client, f"/boards/{TRACK}")
                search = _asked(client, f"/boards/{TRACK}?q=7&sort=entry")
        finally:
            server.terminate()
    return first, search, statements


def _until_up(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            if client.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def _asked(client: httpx.Client, path: str) -> list[float]:
    client.get(path).raise_for_status()  # templates are compiled once
    return [_timed(lambda: client.get(path).raise_for_status()) for _ in range(PAGES)]


def _timed(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def _model(database: Database, owner: str, number: int, state: str = "accepted") -> str:
    row = {
        "id": new_id(),
        "account_id": owner,
        "name": f"model {number}",
        "track": TRACK,
        "kind": "model",
        "source": "image",
        "sha256": "a" * 64,
        "state": state,
        "accepted_at": 1000.0 + number,
    }
    with database.write() as session:
        session.execute(insert(Submission).values(**row))
    return str(row["id"])


def _accept(database: Database, model: str) -> None:
    with database.write() as session:
        lifecycle.accept(session, model)


def _board(database: Database) -> None:
    with database.read() as session:
        queries.board(session, TRACK).model_dump_json()


def _play(
    database: Database, models: list[str], images: int, rng: random.Random, drain: bool = False
) -> None:
    """Record the open matches of these models as played, the better the later they came."""
    with database.write() as session:
        todo = session.execute(
            select(Match.id, Match.rules_version, Match.model_id, Job.id)
            .join(Job, Job.match_id == Match.id)
            .where(Job.state == "queued")
        ).all()
        wanted = set(models)
        for match, version, model, job in todo:
            if model not in wanted:
                continue
            session.execute(insert(SampleResult), _facts(match, version, job, images, rng))
            session.get_one(Job, job).state = "succeeded"
            if drain:
                row = session.get_one(Match, match)
                entries = [row.model_id, row.attack_id]
                jobs.post(session, job, "board", {"rules_version": version, "entries": entries})


def _facts(
    match: str, version: str, job: str, images: int, rng: random.Random
) -> list[dict[str, object]]:
    return [
        {
            "match_id": match,
            "sample": sample,
            "rules_version": version,
            "image_id": f"mnist5k-{sample:05}",
            "clean_label": 1,
            "predicted": 1,
            "clean_correct": True,
            "success": True,
            "distance": rng.uniform(1, 3),
            "worst_case": 20.0,
            "distances": None,
            "queries": 900,
            "seconds": 0.1,
            "status": "success",
            "reason": None,
            "adversarial_sha256": None,
            "trace": [],
            "sandbox": "docker",
            "job_id": job,
            "fence": 1,
        }
        for sample in range(images)
    ]


if __name__ == "__main__":
    main()
