"""Backups: the record and the artefacts of one moment, taken while the server runs.

A backup is a folder, or the same as one .tar file::

    manifest.json           what is in it, with the SHA-256 of the record
    record.sqlite           the whole database (SQLite), or
    record.dump             the same of PostgreSQL, in pg_dump's custom format
    artefacts/ab/abcd...    every artefact that the record refers to, named by its SHA-256
    uploads/ID              the bytes of unfinished uploads

Artefacts never change and the server removes only old ones that nothing refers to. So all that are
there are taken first, then the record at one moment, then what the record refers to beyond those.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from bench.errors import InfrastructureError, UserError

from . import housekeeping, postgres_tools
from .checking import require_record
from .db import migrations
from .db.engine import Database
from .db.tables import Upload
from .settings import Settings
from .storage import Store, hash_file

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
RECORDS: Final = {"sqlite": "record.sqlite", "postgresql": "record.dump"}
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        format: of this folder; 1.
        version: of Tiltyard that made it.
        created_at: seconds since 1970.
        engine: whose record it is.
        migration: of its tables.
        record_sha256: of the record's file.
        artefacts, artefact_bytes: how many, and their sizes together.
        uploads: {id: bytes that count} of unfinished uploads.
    """

    format: int
    version: str
    created_at: float
    engine: Literal["sqlite", "postgresql"]
    migration: str
    record_sha256: str
    artefacts: int
    artefact_bytes: int
    uploads: dict[str, int]


def backup(settings: Settings, target: Path, *, copy: bool = False) -> Manifest:
    """Write a backup of the server of these settings, running or not.

    Args:
        target: a folder that is not there yet, or empty; or a file ``*.tar`` that is not there yet.
        copy: artefacts are copied. Else they are hard links where the disk is the same.

    Raises:
        UserError: there is something at ``target``, no server here, no pg_dump.
        InfrastructureError: an artefact that the record refers to is gone or rotten.
    """
    _require_new(target)
    database = Database(settings.url)
    try:
        require_record(database)
        with _staged(target) as folder:
            made = _write(settings, database, folder, copy)
            if target.suffix == ".tar":
                _pack(folder, target)
            else:
                if target.exists():
                    target.rmdir()
                folder.replace(target)
        return made
    finally:
        database.close()


def restore(source: Path, settings: Settings) -> Manifest:
    """Put a backup back as a new server's: its folder and database must be empty.

    Every digest is checked before anything is put in its place. The new folder is a server of its
    own name: jobs that ran when the backup was made are played again once their leases have run
    out.

    Raises:
        UserError: the target holds something, the backup is of another engine, of a newer version
            or damaged.
    """
    _require_empty(settings)
    database = Database(settings.url)
    try:
        _require_no_tables(database)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        staging = settings.data_dir / ".restoring"
        shutil.rmtree(staging, ignore_errors=True)  # of a restore that was killed
        with _opened(source, staging) as folder:
            made = _manifest(folder)
            if made.engine != database.url.get_backend_name():
                raise UserError(
                    f"the backup is of {made.engine}, and the target is "
                    f"{database.url.get_backend_name()}; give a {made.engine} with --database"
                )
            _verify(folder, made)
            _place(folder, made, settings, database, staging)
        shutil.rmtree(staging, ignore_errors=True)
        return made
    finally:
        database.close()


def _write(settings: Settings, database: Database, folder: Path, copy: bool) -> Manifest:
    store, taken = Store(settings.artefacts), Store(folder / "artefacts")
    for sha256 in list(store.all()):
        _take(store, taken, sha256, copy)
    record = folder / RECORDS[database.url.get_backend_name()]
    referenced, uploads = _take_record(database, record)
    for sha256 in referenced:
        if not _take(store, taken, sha256, copy):
            raise InfrastructureError(
                f"the record refers to the artefact {sha256}, which is not there; "
                "see `tiltyard admin check`"
            )
    for sha256 in list(taken.all()):
        if sha256 not in referenced:
            taken.path(sha256).unlink()
    uploads = {
        name: size for name, size in uploads.items() if _take_upload(settings, folder, name, size)
    }
    size = 0
    for sha256 in sorted(referenced):
        if hash_file(taken.path(sha256)) != sha256:
            raise InfrastructureError(
                f"the artefact {sha256} does not hash to its name any more; "
                "see `tiltyard admin check`"
            )
        size += taken.path(sha256).stat().st_size
    from .plays import versions

    made = Manifest(
        format=FORMAT,
        version=versions()["tiltyard"],
        created_at=time.time(),
        engine="sqlite" if database.is_sqlite else "postgresql",
        migration=migrations.head(),
        record_sha256=hash_file(record),
        artefacts=len(referenced),
        artefact_bytes=size,
        uploads=uploads,
    )
    (folder / MANIFEST).write_text(json.dumps(asdict(made), indent=2) + "\n")
    _sync(folder)
    return made


def _take_record(database: Database, record: Path) -> tuple[set[str], dict[str, int]]:
    """Copy the record as it is at one moment; what it refers to, and its unfinished uploads."""
    if not database.is_sqlite:
        with database.snapshot() as session:
            postgres_tools.dump(session, database.url, record)
            return housekeeping.referenced_in(session), _unfinished(session)
    _copy_sqlite(Path(database.url.database or ""), record)
    copy = Database(f"sqlite:///{record}")
    try:
        with copy.read() as session:
            return housekeeping.referenced_in(session), _unfinished(session)
    finally:
        copy.close()
        _make_single(record)


def _take(store: Store, taken: Store, sha256: str, copy: bool) -> bool:
    """Have an artefact in the backup; False when it is in neither."""
    if taken.has(sha256):
        return True
    path, target = store.path(sha256), taken.path(sha256)
    target.parent.mkdir(exist_ok=True)
    try:
        if copy:
            shutil.copyfile(path, target)
            return True
        try:
            os.link(path, target)
        except FileNotFoundError:
            raise
        except OSError:  # another disk
            shutil.copyfile(path, target)
    except FileNotFoundError:
        return False
    return True


def _take_upload(settings: Settings, folder: Path, name: str, size: int) -> bool:
    """Copy the bytes of an upload that count; False when it was given up or finished meanwhile."""
    try:
        with (settings.data_dir / "uploads" / name).open("rb") as file:
            data = file.read(size)
    except FileNotFoundError:
        return False
    if len(data) < size:
        return False
    target = folder / "uploads" / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data)
    return True


def _unfinished(session: Session) -> dict[str, int]:
    rows = session.execute(select(Upload.id, Upload.received).where(Upload.sha256.is_(None)))
    return {row.id: row.received for row in rows}


def _copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's online backup, in one step: of one moment, and writers go on."""
    origin, copy = sqlite3.connect(source), sqlite3.connect(target)
    try:
        origin.backup(copy, pages=-1)
    finally:
        origin.close()
        copy.close()


def _make_single(record: Path) -> None:
    """Leave one file: the log that stands beside a database in use is put into it."""
    connection = sqlite3.connect(record)
    try:
        (problem,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()
    if problem != "ok":
        raise InfrastructureError(f"the copy of the database is damaged: {problem}")


def _require_new(target: Path) -> None:
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise UserError(f"there is something at {target}; name a new folder, or a new .tar file")


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside the target, removed if anything goes wrong."""
    folder = target.with_name(f"{target.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)  # it holds what nobody else may see
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pack(folder: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.new")
    partial.touch(mode=0o600)
    with tarfile.open(partial, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, path.relative_to(folder).as_posix())
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)


@contextmanager
def _opened(source: Path, staging: Path) -> Iterator[Path]:
    """The backup as a folder."""
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise UserError(f"there is no backup {source}; name a folder or a .tar file")
    folder = staging / "unpacked"
    folder.mkdir(parents=True)
    try:
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise UserError(f"{source} is no backup: {error}; name what `backup` wrote") from error
    yield folder


def _manifest(folder: Path) -> Manifest:
    try:
        values: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        made = Manifest(**values)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder} is no backup: its {MANIFEST} can't be read: {error}") from error
    if made.format != FORMAT:
        raise UserError(f"the backup has format {made.format}; this version reads {FORMAT}")
    if made.migration not in migrations.known():
        raise UserError(
            f"the backup is at migration {made.migration} of version {made.version}, which this "
            "version does not know; restore it with that version or a later one"
        )
    return made


def _verify(folder: Path, made: Manifest) -> None:
    """Raise UserError unless every byte is what was backed up."""
    damaged = UserError(f"the backup in {folder} is damaged")
    record = folder / RECORDS[made.engine]
    if not record.is_file() or hash_file(record) != made.record_sha256:
        raise UserError(f"{damaged}: its {record.name} is not the one that was written")
    artefacts = Store(folder / "artefacts")
    names = list(artefacts.all())
    wrong = [name for name in names if _digest(artefacts, name) != name]
    if wrong:
        raise UserError(f"{damaged}: {len(wrong)} artefacts are changed, the first is {wrong[0]}")
    if len(names) != made.artefacts:
        raise UserError(f"{damaged}: it holds {len(names)} artefacts of {made.artefacts}")
    for name, size in made.uploads.items():
        file = folder / "uploads" / name
        if not file.is_file() or file.stat().st_size != size:
            raise UserError(f"{damaged}: the upload {name} is not there or not whole")


def _digest(store: Store, name: str) -> str:
    try:
        return hash_file(store.path(name))
    except ValueError:
        return "no name of an artefact"


def _require_empty(settings: Settings) -> None:
    folders = (settings.data_dir, settings.artefacts)
    for folder in folders:
        held = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        if set(held) - {".restoring"}:
            raise UserError(
                f"{folder} is not empty ({sorted(held)[0]}); restore into a new folder and start "
                "the server on that"
            )


def _require_no_tables(database: Database) -> None:
    if database.is_sqlite:
        if Path(database.url.database or "").exists():
            raise UserError(f"there is a database {database.url.database}; restore into a new one")
        return
    tables = inspect(database.engine).get_table_names()
    if tables:
        raise UserError(
            f"the database holds tables ({tables[0]}); create an empty one and name it with "
            "--database"
        )


def _place(
    folder: Path, made: Manifest, settings: Settings, database: Database, staging: Path
) -> None:
    """Copy everything to its place, the record last: without it there is no server."""
    source, store = Store(folder / "artefacts"), Store(settings.artefacts)
    for name in source.all():
        target = store.path(name)
        target.parent.mkdir(exist_ok=True)
        _copy(source.path(name), target, expected=name)
    for name in made.uploads:
        target = settings.data_dir / "uploads" / name
        target.parent.mkdir(exist_ok=True)
        _copy(folder / "uploads" / name, target)
    record = folder / RECORDS[made.engine]
    if not database.is_sqlite:
        postgres_tools.load(database.url, record)
        return
    final = Path(database.url.database or "")
    final.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(exist_ok=True)
    copied = final.with_name(f"{final.name}.new")
    _copy(record, copied, expected=made.record_sha256)
    copied.replace(final)
    _sync(final.parent)


def _copy(source: Path, target: Path, expected: str | None = None) -> None:
    """Copy a file to the disk; raises UserError when it is not what was expected."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(_BLOCK):
            digest.update(block)
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())
    if expected is not None and digest.hexdigest() != expected:
        raise UserError(f"{source} changed while it was read; restore again")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
