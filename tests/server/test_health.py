"""/healthz and /readyz: well, and ill in each of the ways that are told apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Client
from sqlalchemy import text, update

from server import health
from server.db import migrations
from server.db.engine import Database
from server.db.tables import Job


@pytest.fixture
def client(served: Any) -> Iterator[Client]:
    with served() as (_, made):
        yield made


def not_ready(client: Client) -> str:
    """Why the server is not ready; /healthz says the same."""
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tiltyard:problem:not-ready")
    detail: str = answer.json()["detail"]
    seen = client.get("/healthz")
    assert (seen.status_code, seen.json()["status"]) == (200, "degraded")
    assert detail in seen.json()["warnings"]
    return detail


def test_the_server_says_that_it_is_well(client: Client) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
    found = client.get("/healthz").json()
    assert (found["status"], found["database"], found["workers"]) == ("ok", "sqlite", 0)
    assert found["migration"] == migrations.head()


def test_it_is_not_ready_on_the_tables_of_another_version(client: Client, sqlite: Database) -> None:
    with sqlite.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "migration 9999" in not_ready(client)


def test_it_is_not_ready_when_its_storage_cannot_be_written(client: Client, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data" / "artefacts")
    assert "can't write to its storage (No such file or directory)" in not_ready(client)


def test_it_is_not_ready_without_its_database(served: Any, tmp_path: Path) -> None:
    with served() as (app, client):
        kept = app.state.tiltyard.database
        app.state.tiltyard.database = Database(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")
        assert "the database does not answer" in not_ready(client)
        app.state.tiltyard.database = kept


def test_jobs_that_nobody_runs_are_a_warning_until_a_worker_holds_one(
    client: Client, world: Any
) -> None:
    model, attack = world.entry("model", "baseline"), world.entry("untargeted-attack", "baseline")
    world.settle()
    job = world.job(world.match(model, attack))

    def hold(**values: Any) -> list[str]:
        with world.database.write() as session:
            if values:
                session.execute(update(Job).where(Job.id == job).values(**values))
        assert client.get("/readyz").status_code == 200
        warnings: list[str] = client.get("/healthz").json()["warnings"]
        return warnings

    assert hold(run_after=9e9) == []
    assert hold(run_after=0.0) == ["no worker has been seen while 1 jobs wait; start one"]
    other = world.entry("model", "baseline")
    world.settle()
    with world.database.write() as session:
        held = world.job(world.match(other, attack))
        session.execute(update(Job).where(Job.id == held).values(state="running", lease_until=9e9))
    assert hold() == []


def test_a_folder_that_is_none_is_told_of_with_the_mend(tmp_path: Path) -> None:
    assert health.unwritable(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert "make room or mend its permissions" in (health.unwritable(tmp_path / "no") or "")
