"""How long a board takes to follow a finished match, against the number of entries.

    python benchmarks/boards.py [--entries 100 1000 10000] [--images 50]

A database (SQLite) with so many models on `mnist5k`, each played by every baseline attack, and one
more model that comes in, is played, and withdraws. What is timed is what the server does after a
match has ended (`housekeeping.drain`), after an entry was accepted, and for the board's page.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import insert, select

from server import accounts, challenges, housekeeping, jobs, lifecycle, rules
from server.db import migrations, queries
from server.db.engine import Database
from server.db.ids import new_id
from server.db.tables import Job, Match, SampleResult, Submission

TRACK = "mnist5k-robust-model"
ROUNDS = 5


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--images", type=int, default=50)
    options = parser.parse_args()
    print("| entries | after a match, ms | after an acceptance, ms | the board as data, ms |")
    print("|---:|---:|---:|---:|")
    for entries in options.entries:
        with tempfile.TemporaryDirectory() as folder:
            database = Database(f"sqlite:///{Path(folder) / 'boards.db'}")
            migrations.upgrade(database)
            print(_line(database, entries, options.images), flush=True)
            database.close()


def _line(database: Database, entries: int, images: int) -> str:
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
    cells = [statistics.median(values) * 1000 for values in (finished, accepted, shown)]
    return f"| {entries} | {' | '.join(f'{value:.0f}' for value in cells)} |"


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
