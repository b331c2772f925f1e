"""server/worker.py with real entries: zoo ones in this process, packages in the process sandbox."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

import bench
from bench.plugins import load_attack, load_model
from bench.tracks.types import Track
from server import challenges, housekeeping, jobs, lifecycle, plays, rules
from server import settings as server_settings
from server.db.engine import Database
from server.db.tables import (
    Attempt,
    BoardRow,
    Job,
    Match,
    Outbox,
    QuotaDay,
    QuotaLedger,
    SampleResult,
    Submission,
    Upload,
)
from server.plays import Player
from server.policy import Actor
from server.sandbox.process import ProcessProvider
from server.schemas import SubmissionRequest
from server.storage import Store
from server.worker import Worker, open_jobs

MODELS, ATTACKS = "mnist5k-robust-model", "mnist5k-untargeted-attack"
PATIENCE_SECONDS = 120
Package = Callable[..., Any]


class Bench:
    """A worker on the test's database, with what is needed to submit and to look."""

    def __init__(self, database: Database, folder: Path, provider: ProcessProvider) -> None:
        self.database = database
        self.store = Store(folder / "artefacts")
        self.settings = server_settings.load(
            data_dir=folder,
            sandbox="process",
            workers=2,
            heartbeat_seconds=0.1,
            poll_seconds=0.05,
        )
        self.player = Player(provider, self.store)
        self.worker: Worker | None = None

    def start(self, instance: str | None = None) -> Worker:
        self.worker = Worker(self.settings, self.database, self.player, owner="here:1")
        self.worker.start(instance)
        return self.worker

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until it is so; a worker that hangs fails the test in the end."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < end, "still not so"
            time.sleep(0.02)

    def finish(self) -> None:
        """Wait until nothing is open and everything is on the boards."""
        self.until(lambda: open_jobs(self.database) == 0 and self.count(Outbox, False) == 0)

    def count(self, table: Any, *drained: bool) -> int:
        with self.database.read() as session:
            query = select(func.count()).select_from(table)
            if drained:
                query = query.where(Outbox.drained_at.is_(None))
            return session.scalar(query) or 0

    def submit(self, owner: str, track: str, package: Any) -> str:
        """Enter a source package."""
        upload = self.upload(owner, Path(package.path).read_bytes())
        return self.enter(owner, track, upload, None)

    def enter(self, owner: str, track: str, upload: str, key: str | None) -> str:
        """Enter an upload."""
        request = SubmissionRequest(track=track, name="mine", upload=upload)
        actor = Actor(owner, "ada", "participant", "submit")
        return lifecycle.enter(self.database, actor, request, "package", key)

    def upload(self, owner: str, data: bytes) -> str:
        """An upload that is complete."""
        with self.database.write() as session:
            upload = Upload(
                account_id=owner,
                length=len(data),
                received=len(data),
                sha256=self.store.put(data),
                expires_at=9e9,
            )
            session.add(upload)
            session.flush()
            return upload.id

    def submission(self, submission_id: str) -> Submission:
        with self.database.read() as session:
            return session.get_one(Submission, submission_id)

    def job(self, submission_id: str) -> Job:
        """The submission's first job."""
        with self.database.read() as session:
            query = select(Job).filter_by(submission_id=submission_id).order_by(Job.id)
            found = session.scalars(query).first()
            assert found is not None
            return found

    def attempt(self, job: Job) -> Attempt:
        with self.database.read() as session:
            return session.get_one(Attempt, (job.id, job.fence))


@pytest.fixture
def place_anywhere(
    database: Database, tracks: dict[str, Track], tmp_path: Path, process_provider: ProcessProvider
) -> Iterator[Bench]:
    """A worker on SQLite, and one on PostgreSQL."""
    made = Bench(database, tmp_path / "data", process_provider)
    yield made
    if made.worker is not None:
        made.worker.stop()


@pytest.fixture
def place(
    sqlite: Database,
    tracks: dict[str, Track],
    tmp_path: Path,
    process_provider: ProcessProvider,
) -> Iterator[Bench]:
    made = Bench(sqlite, tmp_path / "data", process_provider)
    yield made
    if made.worker is not None:
        made.worker.stop()


def enter_baselines(place: Bench) -> None:
    with place.database.write() as session:
        challenges.open_first(session, ["mnist5k"])
        lifecycle.enter_baselines(session)


def test_zoo_entries_are_played_to_the_board_with_the_figures_of_a_local_match(
    place_anywhere: Bench, tracks: dict[str, Track]
) -> None:
    place = place_anywhere
    enter_baselines(place)
    place.start()
    place.finish()
    track = tracks[MODELS]
    local = list(
        bench.play(
            bench.Match(
                model=load_model("small_cnn", dataset="mnist5k"),
                attack=load_attack("gaussian_noise"),
                dataset=bench.dataset("mnist5k").take(4),
                threat=rules.threat_model(track),
                seed=track.seed,
            )
        )
    )
    with place.database.read() as session:
        stored = session.scalars(select(SampleResult).order_by(SampleResult.sample)).all()
        boards = session.scalars(select(BoardRow).order_by(BoardRow.board)).all()
        attempt = session.scalars(select(Attempt)).one()
    assert [row.image_id for row in stored] == [outcome.image_id for outcome in local]
    for row, outcome in zip(stored, local, strict=True):
        assert row.distance == (outcome.distance if outcome.success else row.distance)
        assert (row.success, row.queries, row.status) == (
            outcome.success, outcome.queries, outcome.status,
        )  # fmt: skip
        assert row.sandbox == "trusted"
        if outcome.image is not None:
            kept = place.store.get_array(row.adversarial_sha256 or "")
            assert (kept.shape, kept.dtype.name) == ((28, 28, 1), "uint8")
            sent = outcome.image.permute(1, 2, 0).numpy() * 255
            np.testing.assert_allclose(kept, sent, atol=1e-3)
    assert any(row.adversarial_sha256 for row in stored)
    assert [row.data["state"] for row in boards] == ["scored", "scored"]
    assert attempt.outcome == "succeeded"
    assert attempt.provenance["rules"] == rules.rules_version(track)


def test_entering_the_baselines_again_changes_nothing(place: Bench) -> None:
    enter_baselines(place)
    before = [place.count(table) for table in (Submission, Match, Job)]
    enter_baselines(place)
    assert [place.count(table) for table in (Submission, Match, Job)] == before == [2, 1, 1]


def test_a_submitted_model_and_attack_meet_the_baselines_and_are_marked_as_not_isolated(
    place: Bench, world: Any, hostile_source: Package
) -> None:
    enter_baselines(place)
    owner = world.account()
    model = place.submit(owner, MODELS, hostile_source("model.py", "good"))
    attack = place.submit(owner, ATTACKS, hostile_source("attack.py", "good"))
    place.start()
    place.finish()
    assert [place.submission(each).state for each in (model, attack)] == ["accepted"] * 2
    rows = {row.entry.id: row for row in world.board("model") + world.board("untargeted-attack")}
    for entry in (model, attack):
        assert (rows[entry].state, rows[entry].isolated) == ("scored", False)
    assert place.count(SampleResult) == 4 * place.count(Match)
    with place.database.read() as session:
        results = select(SampleResult.sandbox).join(Match).filter_by(model_id=model)
        assert set(session.scalars(results)) == {"process"}
        used = session.scalars(select(QuotaDay.used)).all()
    assert used == [1, 1]


@pytest.mark.parametrize(
    ("track", "script", "reason"),
    [
        (MODELS, ("model.py", "exit_3"), "cannot find weights.npz"),
        (MODELS, ("model.py", "refuses"), "only 32x32 images, please"),
        (MODELS, ("model.py", "crash"), "assertion failed in layer 3"),
        (ATTACKS, ("attack.py", "no_such_mode"), "no_such_mode"),
        (ATTACKS, ("attack.py", "silent"), "ended in order and had neither asked nor stored"),
    ],
)
def test_an_entry_that_does_not_run_is_rejected_with_a_reason_and_its_logs(
    place: Bench,
    world: Any,
    hostile_source: Package,
    track: str,
    script: tuple[str, str],
    reason: str,
) -> None:
    submission = place.submit(world.account(), track, hostile_source(*script))
    place.start()
    place.finish()
    rejected = place.submission(submission)
    job = place.job(submission)
    attempt = place.attempt(job)
    logs = "".join(place.store.get(sha).decode() for sha in attempt.logs.values())
    assert (rejected.state, job.state, attempt.outcome) == ("rejected", *["failed_user"] * 2)
    assert reason in (rejected.reason or "") + logs
    assert job.fault_id == submission
    with place.database.read() as session:
        assert session.scalars(select(QuotaLedger.amount)).all() == [1], "the quota stays spent"


def test_a_model_that_is_too_slow_in_all_is_at_fault(
    place: Bench,
    world: Any,
    hostile_source: Package,
    tracks: dict[str, Track],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enter_baselines(place)
    limits = replace(tracks[MODELS].limits, run_seconds=0.0)
    monkeypatch.setitem(tracks, MODELS, replace(tracks[MODELS], limits=limits))
    model = place.submit(world.account(), MODELS, hostile_source("model.py", "good"))
    place.start()
    place.finish()
    (row,) = [row for row in world.board("model") if row.entry.id == model]
    assert row.state == "failed"
    with place.database.read() as session:
        job = session.scalars(select(Job).filter_by(state="failed_user")).one()
    assert "for all answers of one match; make it faster" in (job.reason or "")
    assert (job.fault_id, job.kind) == (model, "match")


@pytest.fixture
def hanging(place: Bench, world: Any, hostile_source: Package) -> str:
    """An attack that is running and would go on for ever."""
    submission = place.submit(world.account(), ATTACKS, hostile_source("attack.py", "hang"))
    place.start()
    place.until(lambda: place.job(submission).state == "running")
    return submission


def test_a_running_job_is_cancelled_by_the_next_heartbeat(
    place: Bench, world: Any, hanging: str
) -> None:
    actor = Actor(world.account(), "ada", "participant", "submit")
    with place.database.write() as session:
        lifecycle.cancel(session, session.get_one(Submission, hanging), actor)
    place.finish()
    job = place.job(hanging)
    assert (job.state, place.attempt(job).outcome) == ("cancelled", "cancelled")
    rejected = place.submission(hanging)
    assert (rejected.state, rejected.reason) == ("rejected", "cancelled on request")


def test_a_worker_that_lost_its_lease_stops_and_records_nothing(place: Bench, hanging: str) -> None:
    job = place.job(hanging)
    with place.database.write() as session:
        session.execute(update(Job).values(fence=Job.fence + 1, owner="elsewhere:1"))
    assert place.worker is not None
    place.until(lambda: place.worker is not None and not place.worker.busy)
    with place.database.read() as session:
        assert session.get_one(Job, job.id).state == "running"
        assert session.get_one(Attempt, (job.id, job.fence)).outcome is None


def test_a_worker_that_cannot_reach_the_record_gives_up_before_its_lease_can_pass_on(
    place: Bench, world: Any, hostile_source: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object) -> None:
        raise OperationalError("no connection", None, OSError())

    place.settings = place.settings.model_copy(update={"lease_seconds": 1.0})
    submission = place.submit(world.account(), ATTACKS, hostile_source("attack.py", "hang"))
    worker = place.start()
    place.until(lambda: place.job(submission).state == "running")
    monkeypatch.setattr(jobs, "beat", unreachable)
    place.until(lambda: worker.busy == 0)
    job = place.job(submission)
    assert (job.state, place.attempt(job).outcome) == ("running", None)
    worker.stop()
    place.worker = None

    def taken_back() -> bool:
        housekeeping.expire(place.database)
        return place.job(submission).state == "queued"

    place.until(taken_back)
    assert place.job(submission).leases_lost == 1


def test_an_orderly_stop_gives_the_job_back_unharmed(place: Bench, hanging: str) -> None:
    assert place.worker is not None
    place.worker.stop()
    assert not place.worker.alive
    job = place.job(hanging)
    assert (job.state, job.failures, job.leases_lost) == ("queued", 0, 0)
    assert place.attempt(job).outcome == "released"
    place.worker = None


def test_what_a_killed_worker_held_is_taken_back_when_its_folder_starts_again(
    place: Bench, world: Any, hostile_source: Package
) -> None:
    submission = place.submit(world.account(), MODELS, hostile_source("model.py", "good"))
    with place.database.write() as session:
        job = jobs.claim(session, owner="folder:1", host="h", lease_seconds=3600)
        assert job is not None
        jobs.begin(session, job.job_id, job.fence)
    place.start(instance="folder")
    place.until(lambda: place.submission(submission).state == "accepted")
    with place.database.read() as session:
        first = session.get_one(Attempt, (job.job_id, job.fence))
        second = session.get_one(Attempt, (job.job_id, job.fence + 1))
    assert (first.outcome, second.outcome) == ("lease_lost", "succeeded")


def test_our_own_failure_is_tried_again_refunded_and_in_the_end_given_up(
    place: Bench, world: Any, hostile_source: Package
) -> None:
    submission = place.submit(world.account(), MODELS, hostile_source("model.py", "good"))
    sha256 = place.submission(submission).sha256 or ""
    hidden = place.store.path(sha256).rename(place.store.folder / ".new-hidden")
    place.start()
    for failures in range(1, jobs.RETRIES + 1):
        place.until(lambda n=failures: place.job(submission).failures == n)  # type: ignore[misc]
        with place.database.write() as session:
            session.execute(update(Job).values(run_after=0.0))
    place.until(lambda: place.job(submission).state == "dead")
    rejected = place.submission(submission)
    assert rejected.state == "rejected"
    assert "our side failed" in (rejected.reason or "")
    assert "it cost you nothing" in (rejected.reason or "")
    with place.database.read() as session:
        assert session.scalars(select(QuotaDay.used)).all() == [0]
    hidden.rename(place.store.path(sha256))
    actor = Actor(world.account(), "ada", "participant", "submit")
    with place.database.write() as session:
        lifecycle.rerun(session, session.get_one(Submission, submission), actor)
    place.until(lambda: place.submission(submission).state == "accepted")


def test_a_zoo_entry_without_weights_is_our_failure_not_its(place: Bench) -> None:
    enter_baselines(place)
    with place.database.write() as session:
        session.execute(
            update(Submission).where(Submission.kind == "model").values(spec="small_cnn:width=0")
        )
    place.start()
    with place.database.read() as session:
        job = session.scalars(select(Job)).one()
    place.until(lambda: place.job(job.submission_id).failures == 1)
    assert place.attempt(place.job(job.submission_id)).outcome == "infrastructure"


def test_the_same_key_at_the_same_moment_makes_one_submission(
    place_anywhere: Bench, anywhere: Any
) -> None:
    owner = anywhere.account()
    upload = place_anywhere.upload(owner, b"package")
    with ThreadPoolExecutor(6) as pool:
        made = list(
            pool.map(lambda _: place_anywhere.enter(owner, MODELS, upload, "key"), range(6))
        )
    assert len(set(made)) == 1
    assert place_anywhere.count(Job) == 1
    with place_anywhere.database.read() as session:
        assert session.scalars(select(QuotaDay.used)).all() == [1]


def test_a_finished_match_drains_its_outbox_once(place: Bench) -> None:
    enter_baselines(place)
    place.start()
    place.finish()
    assert place.count(Outbox) == 1
    assert housekeeping.drain(place.database) == 0


def test_expired_uploads_are_removed_and_used_ones_stay(
    place: Bench, world: Any, hostile_source: Package
) -> None:
    owner = world.account()
    submission = place.submit(owner, MODELS, hostile_source("model.py", "good"))
    with place.database.write() as session:
        session.add(Upload(id="half", account_id=owner, length=9, received=4, expires_at=0.0))
        session.execute(update(Upload).values(expires_at=0.0))
    half = place.settings.data_dir / "uploads" / "half"
    half.parent.mkdir(parents=True)
    half.touch()
    os.utime(half, (1.0, 1.0))
    housekeeping.collect(place.database, place.store, place.settings.data_dir)
    assert not half.exists()
    assert place.count(Upload) == 1
    assert place.submission(submission).sha256 in housekeeping.referenced(place.database)


def test_a_guarded_model_stops_when_told() -> None:
    import threading

    import torch

    stop = threading.Event()
    guarded = plays.Guarded(load_model("small_cnn", dataset="mnist5k"), stop)
    images = torch.zeros(1, 1, 28, 28)
    assert guarded(images).shape == (1, 10)
    stop.set()
    with pytest.raises(plays.StopRequested):
        guarded(images)


def test_a_verdict_on_a_submission_that_is_gone_changes_nothing(place: Bench, world: Any) -> None:
    gone = world.entry("model", state="disqualified")
    with place.database.write() as session:
        lifecycle.accept(session, gone)
        lifecycle.reject(session, gone, "too late")
    assert place.submission(gone).state == "disqualified"
