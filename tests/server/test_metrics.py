"""/metrics: what the database says, in every process the same, and who may read it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from server import jobs, metrics
from server.db.engine import Database, db_now
from server.db.tables import Job
from server.metrics import Metrics

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Values:
    """{(name, labels): value} by Prometheus's own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(database: Database) -> Values:
    return parsed(Metrics(database, lambda: (0, 0)).exposition().decode())


def of(values: Values, name: str, **labels: str) -> float:
    return values[(name, tuple(sorted(labels.items())))]


def held(world: Any, model: str, attack: str) -> jobs.Held:
    with world.database.write() as session:
        found = jobs.claim(session, owner="here:1", host="h", lease_seconds=60)
        assert found is not None
        jobs.begin(session, found.job_id, found.fence)
    return found


def test_jobs_attempts_and_failures_are_counted_from_the_record(anywhere: Any) -> None:
    world = anywhere
    attack = world.entry("untargeted-attack", "baseline")
    models = [world.entry("model", "baseline") for _ in range(4)]
    world.settle()
    ours, theirs, lost = (held(world, model, attack) for model in models[:3])
    with world.database.write() as session:
        jobs.fail_user(
            session, theirs.job_id, theirs.fence, "secret", fault_id=models[0],
            provenance={"failure": "out of memory"},
        )  # fmt: skip
        jobs.fail_infra(session, ours.job_id, ours.fence, "disk", {"failure": "EngineFailed"})
        session.execute(update(Job).where(Job.id == lost.job_id).values(lease_until=0.0))
    values = scraped(world.database)
    assert of(values, "tiltyard_jobs", kind="match", state="failed_user") == 1
    assert of(values, "tiltyard_jobs", kind="match", state="queued") == 2
    assert of(values, "tiltyard_leases_overdue") == 1
    assert of(values, "tiltyard_workers_holding") == 0
    with world.database.write() as session:
        jobs.expire(session)
    values = scraped(world.database)
    for fault, reason in (
        ("user", "out of memory"),
        ("infrastructure", "EngineFailed"),
        ("lease_lost", "unknown"),
    ):
        assert of(values, "tiltyard_failures_total", fault=fault, reason=reason) == 1
    assert of(values, "tiltyard_attempts_total", kind="match", outcome="infrastructure") == 1
    seconds = of(values, "tiltyard_attempt_seconds_total", kind="match", outcome="infrastructure")
    assert 0 < seconds < 60
    assert of(values, "tiltyard_job_wait_seconds_count") == 3
    assert "secret" not in str(values)


def test_the_age_of_the_queue_is_that_of_what_could_be_run(anywhere: Any) -> None:
    world = anywhere
    model, attack = world.entry("model", "baseline"), world.entry("untargeted-attack", "baseline")
    world.settle()
    job = world.job(world.match(model, attack))
    for late, low, high in ((100.0, 100.0, 130.0), (-100.0, 0.0, 0.0)):
        with world.database.write() as session:
            run_after = db_now() - late
            session.execute(update(Job).where(Job.id == job).values(run_after=run_after))
        age = of(scraped(world.database), "tiltyard_queue_age_seconds")
        assert low <= age <= high


def test_queries_are_counted_once_however_often_and_by_whom_they_are_asked_for(
    anywhere: Any,
) -> None:
    world = anywhere
    attack = world.entry("untargeted-attack", "baseline")
    models = [world.entry("model", "baseline") for _ in range(3)]
    world.settle()
    tally = metrics.Tally()

    def counted() -> dict[str, metrics.Answers]:
        with world.database.read() as session:
            return tally.update(session)

    def play(model: str) -> None:
        match = world.play(model, attack, [1.0, None, 0.0, 2.0], queries=7)
        with world.database.write() as session:
            done = update(Job).where(Job.match_id == match)
            session.execute(done.values(finished_at=db_now()))

    assert counted() == {}
    play(models[0])
    assert counted() == counted()
    play(models[1])
    play(models[2])
    expected = {
        "success": metrics.Answers(6, 42),
        "failed": metrics.Answers(3, 21),
        "clean_error": metrics.Answers(3, 0),
    }
    assert counted() == expected
    values = scraped(world.database)  # another process, from the start
    assert of(values, "tiltyard_queries_total", status="success") == 42
    assert of(values, "tiltyard_samples_total", status="failed") == 3


@pytest.mark.parametrize(
    ("audience", "nobody", "ada", "operator"),
    [("operators", 401, 403, 200), ("everybody", 200, 200, 200), ("nobody", 404, 404, 404)],
)
def test_who_may_see_the_metrics_is_a_setting(
    world: Any, served: Any, audience: str, nobody: int, ada: int, operator: int
) -> None:
    tokens = {
        None: nobody,
        world.token("ada"): ada,
        world.token("root", "operate", "operator"): operator,
        world.token("root", "read", "operator"): ada,
    }
    with served(metrics=audience) as (_, client):
        for token, status in tokens.items():
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            assert client.get("/metrics", headers=headers).status_code == status


def test_requests_are_timed_by_route_and_not_by_path(served: Any) -> None:
    with served(metrics="everybody") as (_, client):
        for path in ("/nothing", "/nothing/else"):
            assert client.get(path).status_code == 404
        for track in ("mnist5k-robust-model", "nope"):
            client.get(f"/api/v1/boards/{track}")
        client.request("CONNECT", "/api/v1/tracks")
        answer = client.get("/metrics")
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    values = parsed(answer.text)
    name = "tiltyard_http_request_seconds_count"
    assert of(values, name, method="GET", route="none", status="404") == 2
    for status in ("200", "404"):
        assert of(values, name, method="GET", route="/api/v1/boards/{track}", status=status) == 1
    assert of(values, name, method="other", route="/api/v1/tracks", status="405") == 1
    assert "nothing" not in answer.text
