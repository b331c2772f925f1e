"""Backups taken while matches run, and servers that are started from them."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import func, select, update

from bench.errors import InfrastructureError, UserError
from server import backup, checking, housekeeping, postgres_tools
from server import settings as server_settings
from server.db import queries
from server.db.engine import Database
from server.db.tables import Job, Upload
from server.settings import Settings

TRACKS = ("mnist5k-robust-model", "mnist5k-untargeted-attack")


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Settings of a new server on an empty database of the same kind as a given one."""
    made: list[tuple[Any, str]] = []

    def settings(like: Database) -> Settings:
        folder = tmp_path / "elsewhere"
        if like.is_sqlite:
            return server_settings.load(data_dir=folder, sandbox="process", workers=0)
        server = request.getfixturevalue("postgres_server")
        engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
        name = f"test_{uuid.uuid4().hex}"
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        made.append((engine, name))
        url = server.rpartition("/")[0] + f"/{name}"
        return server_settings.load(data_dir=folder, database_url=url, sandbox="process", workers=0)

    yield settings
    for engine, name in made:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()


def boards(database: Database) -> list[Any]:
    """What the boards show, but for when, and for the ids of matches that were made later."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            late = ("match_id", "updated_at", "accepted_at")
            return {key: bare(each) for key, each in value.items() if key not in late}
        return [bare(each) for each in value] if isinstance(value, list) else value

    with database.read() as session:
        found = [queries.board(session, track).model_dump(mode="json") for track in TRACKS]
        return [bare(board["rows"]) for board in found]


def running(database: Database) -> int:
    with database.read() as session:
        query = select(func.count()).select_from(Job).where(Job.state == "running")
        return session.scalar(query) or 0


@pytest.mark.parametrize("name", ["saved", "saved.tar"])
def test_a_backup_of_a_playing_server_is_one_that_plays_on_to_the_same_boards(
    database: Database, tracks: Any, tmp_path: Path, server_of: Any, elsewhere: Any, name: str
) -> None:
    made = server_of(database, tmp_path / "data")
    for _ in range(3):
        made.submit()
    playing = threading.Thread(target=made.play, args=(0.05,))
    playing.start()
    while not running(database):
        time.sleep(0.005)
    manifest = backup.backup(made.settings, tmp_path / name)
    assert playing.is_alive(), "the backup was taken when all was over"
    playing.join()
    final = boards(database)

    settings = elsewhere(database)
    assert backup.restore(tmp_path / name, settings) == manifest
    again = Database(settings.url)
    try:
        other = server_of(again, settings.data_dir, set_up=False)
        with again.write() as session:
            session.execute(update(Job).where(Job.lease_until > 0).values(lease_until=0.0))
        housekeeping.expire(again)
        assert checking.check(again, other.store).findings == ()
        assert boards(again) != final
        other.play()
        assert boards(again) == final
        assert checking.check(again, other.store).findings == ()
    finally:
        again.close()
    assert not list(tmp_path.glob("*.partial"))
    assert not (settings.data_dir / ".restoring").exists()


def test_a_server_serves_the_same_board_from_a_backup(
    played_here: Any, served: Any, tmp_path: Path
) -> None:
    backup.backup(played_here.settings, tmp_path / "saved", copy=True)
    settings = server_settings.load(data_dir=tmp_path / "elsewhere", sandbox="process", workers=0)
    backup.restore(tmp_path / "saved", settings)
    path = f"/api/v1/boards/{TRACKS[0]}"
    seen = []
    for each in (played_here.settings, settings):
        chosen = {"data_dir": each.data_dir, "database_url": each.url}
        with served(**chosen) as (_, client):
            seen.append(client.get(path, headers={"Accept": "text/csv"}).text)
            assert client.get("/readyz").status_code == 200
    assert seen[0] == seen[1]
    assert len(seen[0].splitlines()) > 3


def test_artefacts_are_linked_where_the_disk_is_the_same_and_copied_when_asked(
    played_here: Any, tmp_path: Path
) -> None:
    stray = played_here.store.put(b"nothing refers to this")
    sha256 = min(housekeeping.referenced(played_here.database))
    for copy in (False, True):
        folder = tmp_path / f"copy-{copy}"
        backup.backup(played_here.settings, folder, copy=copy)
        kept = folder / "artefacts" / sha256[:2] / sha256
        assert kept.samefile(played_here.store.path(sha256)) is not copy
        assert not (folder / "artefacts" / stray[:2] / stray).exists()
        assert folder.stat().st_mode & 0o077 == 0


def test_an_unfinished_upload_is_gone_on_with(played_here: Any, tmp_path: Path) -> None:
    with played_here.database.write() as session:
        upload = Upload(account_id=played_here.account, length=9, received=4, expires_at=9e9)
        session.add(upload)
        session.flush()
        name = upload.id
    file = played_here.settings.data_dir / "uploads" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"1234 and more that is not acknowledged")
    settings = server_settings.load(data_dir=tmp_path / "elsewhere", workers=0)
    backup.backup(played_here.settings, tmp_path / "saved")
    assert backup.restore(tmp_path / "saved", settings).uploads == {name: 4}
    assert (settings.data_dir / "uploads" / name).read_bytes() == b"1234"


def test_nothing_is_overwritten(played_here: Any, tmp_path: Path) -> None:
    backup.backup(played_here.settings, tmp_path / "saved")
    before = (tmp_path / "saved" / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="there is something at"):
        backup.backup(played_here.settings, tmp_path / "saved")
    assert (tmp_path / "saved" / "manifest.json").read_bytes() == before
    with pytest.raises(UserError, match="is not empty"):
        backup.restore(tmp_path / "saved", played_here.settings)


def test_a_database_with_tables_is_not_restored_into(
    database: Database, played_here: Any, tmp_path: Path
) -> None:
    backup.backup(played_here.settings, tmp_path / "saved")
    url = database.url.render_as_string(hide_password=False)
    settings = server_settings.load(data_dir=tmp_path / "elsewhere", database_url=url, workers=0)
    with pytest.raises(UserError, match=r"there is a database|the database holds tables"):
        backup.restore(tmp_path / "saved", settings)


def damage_record(folder: Path) -> None:
    (folder / "record.sqlite").write_bytes(b"else")


def damage_artefact(folder: Path) -> None:
    next(path for path in (folder / "artefacts").rglob("*") if path.is_file()).write_bytes(b"x")


def lose_artefact(folder: Path) -> None:
    next(path for path in (folder / "artefacts").rglob("*") if path.is_file()).unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def another(**values: Any) -> Any:
    def change(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_record, r"its record\.sqlite is not the one that was written"),
        (damage_artefact, "1 artefacts are changed"),
        (lose_artefact, r"it holds \d+ artefacts of \d+"),
        (lose_manifest, "is no backup"),
        (another(format=2), "this version reads 1"),
        (another(migration="9999"), "which this version does not know"),
        (another(engine="postgresql"), "give a postgresql with --database"),
        (another(uploads={"gone": 3}), "the upload gone is not there"),
    ],
)
def test_a_damaged_backup_is_refused_and_nothing_is_left(
    played_here: Any, tmp_path: Path, harm: Any, message: str
) -> None:
    backup.backup(played_here.settings, tmp_path / "saved", copy=True)
    harm(tmp_path / "saved")
    settings = server_settings.load(data_dir=tmp_path / "elsewhere", workers=0)
    with pytest.raises(UserError, match=message):
        backup.restore(tmp_path / "saved", settings)
    assert {path.name for path in settings.data_dir.iterdir()} <= {".restoring"}


def test_a_backup_without_an_artefact_is_not_made(played_here: Any, tmp_path: Path) -> None:
    lost = min(housekeeping.referenced(played_here.database))
    played_here.store.path(lost).unlink()
    with pytest.raises(InfrastructureError, match=f"refers to the artefact {lost}"):
        backup.backup(played_here.settings, tmp_path / "saved")
    assert not list(tmp_path.glob("saved*"))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive")
    settings = server_settings.load(data_dir=tmp_path / "elsewhere", workers=0)
    with pytest.raises(UserError, match="is no backup"):
        backup.restore(tmp_path / "x.tar", settings)
    with pytest.raises(UserError, match="there is no backup"):
        backup.restore(tmp_path / "y.tar", settings)


def test_without_postgresqls_programs_the_mend_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres_tools, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install Debian's package postgresql-client"):
        postgres_tools.program("pg_dump")
    for version in ("9.6", "15", "16"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "pg_dump").touch()
    assert postgres_tools.program("pg_dump") == str(tmp_path / "16" / "bin" / "pg_dump")
    shutil.rmtree(tmp_path / "16")
    assert "15" in postgres_tools.program("pg_dump")


def test_the_commands_back_up_and_restore(played_here: Any, tiltyard: Any, tmp_path: Path) -> None:
    done = tiltyard("admin", "backup", "x.tar", "--data-dir", played_here.settings.data_dir)
    assert done.returncode == 0, done.stderr
    assert "backed up to x.tar: sqlite record, " in done.stdout
    done = tiltyard("admin", "restore", "x.tar", "--data-dir", "new", "--json")
    assert json.loads(done.stdout)["engine"] == "sqlite"
    assert (tmp_path / "new" / "tiltyard.db").is_file()
