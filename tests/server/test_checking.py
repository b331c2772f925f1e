"""`tiltyard admin check`: clean after real jobs, and each invariant named when it is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from bench.errors import UserError
from server import checking, housekeeping, invariants
from server import settings as server_settings
from server.checking import Report
from server.db.tables import Submission
from server.sandbox.process import ProcessProvider


def checked(played: Any, **how: Any) -> Report:
    return checking.check(played.database, played.store, **how)


def test_nothing_is_wrong_after_jobs_that_went_well(played_anywhere: Any) -> None:
    report = checked(played_anywhere)
    assert report.findings == ()
    assert set(report.checked) == {*invariants.ALL, "artefacts"}
    assert report.notes == ("sandboxes were not looked at",)
    with played_anywhere.database.read() as session:
        states = session.scalars(select(Submission.state).filter_by(source="package")).all()
        assert states == ["accepted"] * 3


JOB = "(SELECT id FROM job WHERE kind = 'match' ORDER BY id LIMIT 1)"
MATCH = f"(SELECT match_id FROM job WHERE id = {JOB})"
ENTRY = "(SELECT min(id) FROM submission WHERE source = 'package' AND kind = 'model')"
BREAKS = {
    "a validation without a job": (
        f"UPDATE submission SET state = 'validating' WHERE id = {ENTRY}",
        "jobs", "are being validated and no job does it",
    ),
    "an acceptance without a validation": (
        "UPDATE job SET state = 'cancelled' WHERE kind = 'validate' "
        f"AND submission_id = {ENTRY}",
        "jobs", "accepted without a validation",
    ),
    "an entry without its match": (
        "INSERT INTO submission (id, account_id, name, track, kind, source, spec, state, "
        "created_at, updated_at, accepted_at) SELECT 'new', account_id, 'new', track, kind, 'zoo', "
        f"'new', 'accepted', 1, 1, 1 FROM submission WHERE id = {ENTRY}",
        "jobs", "lack a match against an opponent",
    ),
    "a match without a job": (
        "INSERT INTO match (id, model_id, attack_id, rules_version, dataset, split, images, seed, "
        "created_at) SELECT 'new', model_id, attack_id, rules_version, dataset, split, images, 77, "
        f"1 FROM match WHERE id = {MATCH}",
        "jobs", "matches have no job: new",
    ),
    "a job past its deadline": (
        "UPDATE job SET state = 'queued', deadline = 1 WHERE id IN "
        "(SELECT id FROM job WHERE kind = 'validate' ORDER BY id LIMIT 1)",
        "deadlines", "wait beyond their deadline",
    ),
    "a lease that nobody took back": (
        f"UPDATE job SET state = 'running', lease_until = 1 WHERE id = {JOB}",
        "deadlines", "leases that have run out",
    ),
    "a lost attempt": (
        f"DELETE FROM attempt WHERE job_id = {JOB}",
        "attempts", "more or fewer attempts than their fence",
    ),
    "an attempt that ended otherwise": (
        f"UPDATE attempt SET outcome = 'released' WHERE job_id = {JOB}",
        "attempts", "disagree with their last attempt",
    ),
    "two successes": (
        "INSERT INTO attempt (job_id, fence, worker, host, started_at, ended_at, outcome, oom, "
        "logs, provenance) SELECT job_id, fence + 1, worker, host, started_at, ended_at, outcome, "
        f"oom, logs, provenance FROM attempt WHERE job_id = {JOB}",
        "attempts", "succeeded more than once",
    ),
    "a sample too few": (
        f"DELETE FROM sample_result WHERE match_id = {MATCH} AND sample = 1",
        "results", "other samples than their images",
    ),
    "facts of another fence": (
        f"UPDATE sample_result SET fence = 9 WHERE match_id = {MATCH} AND sample = 1",
        "results", "not of their one successful job",
    ),
    "facts of a job that failed": (
        f"UPDATE job SET state = 'dead' WHERE id = {JOB}",
        "results", "not of their one successful job",
    ),
    "a success without facts": (
        f"DELETE FROM sample_result WHERE match_id = {MATCH}",
        "results", "succeeded without facts",
    ),
    "a distance that was changed": (
        f"UPDATE sample_result SET queries = queries + 1 WHERE match_id = {MATCH} AND sample = 0",
        "boards", "(of other facts)",
    ),
    "a score that was changed": (
        f"UPDATE board_row SET score = 99 WHERE submission_id = {ENTRY}",
        "boards", "(score beside its data)",
    ),
    "a row that is gone": (
        f"DELETE FROM board_row WHERE submission_id = {ENTRY}",
        "boards", "(no row)",
    ),
    "a row of somebody who left": (
        f"UPDATE submission SET state = 'withdrawn' WHERE id = {ENTRY}",
        "boards", "(no entry of this board)",
    ),
    "an outbox that nobody drains": (
        "UPDATE outbox SET drained_at = NULL, created_at = 1 WHERE id = "
        "(SELECT min(id) FROM outbox)",
        "outbox", "not brought up to date",
    ),
    "a quota used otherwise": (
        "UPDATE quota_day SET used = used + 1 WHERE used = 2",
        "quotas", "used 3, booked 2",
    ),
    "a gap in the events": ("DELETE FROM event WHERE id = 2", "events", "before event 3"),
    "no first event": ("DELETE FROM event WHERE id = 1", "events", "before event 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_by_hand_is_named(
    played_here: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "PAUSE_SECONDS", 0.0)
    statement, invariant, words = BREAKS[what]
    with played_here.database.write() as session:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        changed = session.execute(text(statement))
        assert changed.rowcount >= 1, "the statement broke nothing"
    found = checked(played_here).findings
    assert invariant in {finding.invariant for finding in found}
    sentences = [each.sentence() for each in found if words in each.sentence()]
    assert sentences, [each.sentence() for each in found]
    assert sentences[0].startswith(f"{invariant}: ")
    assert sentences[0].endswith(".")


def test_a_lost_and_a_rotten_artefact_are_named(played_anywhere: Any) -> None:
    lost, rotten = sorted(housekeeping.referenced(played_anywhere.database))[:2]
    played_anywhere.store.path(lost).unlink()
    played_anywhere.store.path(rotten).write_bytes(b"else")
    found = {each.what: each.rows for each in checked(played_anywhere).findings}
    assert found == {
        "artefacts that rows refer to are not there or can't be read": (lost,),
        "artefacts do not hash to their names": (rotten,),
    }
    (only,) = checked(played_anywhere, quick=True).findings
    assert only.rows == (lost,)


def test_a_sandbox_that_no_job_owns_is_named(
    played_here: Any, process_provider: ProcessProvider
) -> None:
    folder = process_provider.running / "orphan"
    folder.mkdir()
    state = {"instance": "test", "job": "j", "fence": 1, "deadline": 9e9, "name": "orphan"}
    (folder / "state.json").write_text(json.dumps(state))
    try:
        (found,) = checked(played_here, provider=process_provider).findings
    finally:
        (folder / "state.json").unlink()
        folder.rmdir()
    assert (found.invariant, found.rows) == ("sandboxes", ("orphan",))


def test_a_board_that_is_about_to_change_is_not_called_wrong(
    played_anywhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "PAUSE_SECONDS", 0.0)
    with played_anywhere.database.write() as session:
        session.execute(
            text("UPDATE outbox SET drained_at = NULL, created_at = 9e9 WHERE id = "
                 "(SELECT min(id) FROM outbox)")
        )  # fmt: skip
        session.execute(text("UPDATE sample_result SET queries = queries + 1"))
    report = checked(played_anywhere)
    assert report.clean
    assert "boards were not compared" in report.notes[0]
    housekeeping.drain(played_anywhere.database)
    assert [each.invariant for each in checked(played_anywhere).findings] == ["boards"]


def test_many_rows_are_counted_and_not_all_named() -> None:
    rows = tuple(f"r{number}" for number in range(25))
    assert "r19 and 5 more. Mend" in invariants.Finding("x", "y", rows, "Mend it.").sentence()


def test_who_looks_in_the_wrong_place_makes_nothing_there(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match="there is no database"):
            checking.check_here(server_settings.load(data_dir=folder))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "tiltyard.db").touch()
    with pytest.raises(UserError, match="at migration none"):
        checking.check_here(server_settings.load(data_dir=tmp_path))


def test_the_command_says_what_is_wrong_and_ends_with_1(played_here: Any, tiltyard: Any) -> None:
    options = ("--data-dir", played_here.settings.data_dir, "--database", played_here.settings.url)
    with played_here.database.write() as session:
        session.execute(text("DELETE FROM event WHERE id = 2"))
    done = tiltyard("admin", "check", *options, env={"TILTYARD_SANDBOX": "process"})
    assert done.returncode == 1, done.stderr
    assert "events: events are missing: before event 3. Lines of the audit log" in done.stdout
