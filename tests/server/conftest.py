"""A database of each kind, two small tracks, sandboxes, and submissions to play with."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import socket
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select, update

from bench.tracks.types import Baseline, Track
from server import accounts, challenges, lifecycle, rules, settings
from server.app import create_app
from server.db import migrations, queries
from server.db.engine import Database
from server.db.tables import Account, Job, Match, SampleResult, Submission
from server.db.writes import insert_ignore
from server.rehearsal import Stage
from server.sandbox import base_image, images
from server.sandbox.docker import DockerProvider
from server.sandbox.process import ProcessProvider
from server.sandbox.types import Limits, Package, Provider
from server.schemas import (
    BoardRow,
    JobState,
    Kind,
    SandboxKind,
    SubmissionState,
)

HOSTILE = Path(__file__).parent / "hostile"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty database: what asks for it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        with _migrated(f"sqlite:///{tmp_path / 'test.db'}") as made:
            yield made
        return
    with _migrated(request.getfixturevalue("postgres_url")) as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """SQLite alone, for what does not depend on the kind of database."""
    with _migrated(f"sqlite:///{tmp_path / 'test.db'}") as made:
        yield made


@pytest.fixture
def tracks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Track]:
    """The real tracks of a challenge with four images, one baseline a side and small budgets."""
    small = {
        name: replace(
            track,
            images=4,
            threat=replace(track.threat, max_queries=30),
            limits=replace(track.limits, submissions_per_day=3),
            baseline_models=(Baseline("small_cnn"),),
            baseline_attacks=() if track.threat.targeted else (Baseline("gaussian_noise"),),
        )
        for name, track in rules.tracks().items()
        if track.challenge == "mnist5k"
    }
    monkeypatch.setattr(rules, "tracks", lambda: small)
    return small


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """An application behind a real socket: its address."""
    config = uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=60)
    assert not thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    """Serve an application until the test ends; gives its address."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving(app))


class World:
    """Entries and facts put into a database directly, as a worker would have left them."""

    def __init__(self, database: Database, tracks: dict[str, Track]) -> None:
        self.database = database
        self.tracks = {track.kind: track for track in tracks.values()}
        self.version = rules.rules_version(self.tracks["model"])
        with database.write() as session:
            challenges.open_first(session, ["mnist5k"])
        self._numbers = itertools.count()

    def account(self, name: str = "ada", role: str = "participant") -> str:
        """The id of an account, made on first use."""
        with self.database.write() as session:
            found = session.scalars(select(Account).filter_by(name=name)).one_or_none()
            return (found or accounts.create_user(session, name, role)).id

    def entry(self, kind: Kind, owner: str = "ada", state: SubmissionState = "accepted") -> str:
        """The id of a new entry; owner "baseline" makes a baseline."""
        zoo = owner == accounts.BASELINE
        if zoo:
            with self.database.write() as session:
                account = accounts.baseline_account(session).id
        else:
            account = self.account(owner)
        number = next(self._numbers)
        row = Submission(
            account_id=account,
            name=f"{kind} {number}",
            track=self.tracks[kind].name,
            kind=kind,
            source="zoo" if zoo else "image",
            spec=f"spec{number}" if zoo else None,
            state=state,
            accepted_at=1000.0 + number,
        )
        with self.database.write() as session:
            session.add(row)
            session.flush()
            return row.id

    def settle(self) -> None:
        """Bring matches and boards into line, as accepting an entry does."""
        with self.database.write() as session:
            lifecycle.settle(session, self.version)

    def match(self, model: str, attack: str) -> str:
        """The id of the scheduled match of two entries."""
        with self.database.read() as session:
            found = select(Match.id).filter_by(model_id=model, attack_id=attack)
            return session.scalars(found).one()

    def job(self, match: str) -> str:
        """The id of the newest job of a match."""
        with self.database.read() as session:
            found = select(Job.id).filter_by(match_id=match).order_by(Job.repeat.desc())
            return session.scalars(found.limit(1)).one()

    def play(
        self,
        model: str,
        attack: str,
        distances: Sequence[float | None],
        *,
        sandbox: SandboxKind = "docker",
        queries: int = 10,
    ) -> str:
        """Record a finished match: 0 is a clean error, None a failure (worst case 20)."""
        match = self.match(model, attack)
        job = self.job(match)
        rows = [
            {
                "match_id": match,
                "sample": index,
                "rules_version": self.version,
                "image_id": f"mnist5k-{index:05}",
                "clean_label": 7,
                "predicted": 1 if distance == 0 else 7,
                "clean_correct": distance != 0,
                "success": bool(distance),
                "distance": distance,
                "worst_case": 20.0,
                "distances": None,
                "queries": 0 if distance == 0 else queries,
                "seconds": 0.1,
                "status": "failed"
                if distance is None
                else "success"
                if distance
                else "clean_error",
                "reason": "secret reason" if distance is None else None,
                "adversarial_sha256": None,
                "trace": [[5, distance]] if distance else [],
                "sandbox": sandbox,
                "job_id": job,
                "fence": 1,
            }
            for index, distance in enumerate(distances)
        ]
        with self.database.write() as session:
            insert_ignore(session, SampleResult, rows)
            session.execute(update(Job).where(Job.id == job).values(state="succeeded"))
        self.settle()
        return match

    def end(self, match: str, state: JobState, fault: str | None = None) -> None:
        """End a match's job without a result."""
        values = {"state": state, "fault_id": fault, "reason": "secret reason"}
        with self.database.write() as session:
            session.execute(update(Job).where(Job.id == self.job(match)).values(**values))
        self.settle()

    def board(self, kind: Kind) -> list[BoardRow]:
        """The rows of a board."""
        with self.database.read() as session:
            return queries.board(session, self.tracks[kind].name).rows

    def token(self, name: str = "ada", scope: str = "submit", role: str = "participant") -> str:
        """A new token of an account."""
        self.account(name, role)
        with self.database.write() as session:
            return accounts.create_token(session, name, scope)


@pytest.fixture
def world(sqlite: Database, tracks: dict[str, Track]) -> World:
    """A world on SQLite."""
    return World(sqlite, tracks)


@pytest.fixture
def anywhere(database: Database, tracks: dict[str, Track]) -> World:
    """A world on SQLite, and one on PostgreSQL."""
    return World(database, tracks)


@pytest.fixture
def server_of() -> type[Stage]:
    """A server's folder on a database of one's own: nothing entered yet but the baselines."""
    return Stage


@pytest.fixture
def played_anywhere(database: Database, tracks: dict[str, Track], tmp_path: Path) -> Stage:
    """Three entries of a participant, all matches played, on SQLite and on PostgreSQL."""
    return _played(database, tmp_path / "data")


_TEMPLATES: dict[str, Path] = {}


@pytest.fixture
def played_here(
    tracks: dict[str, Track], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """The same on SQLite alone, in ``data_dir``; a copy of one that was played once."""
    if "here" not in _TEMPLATES:
        template = tmp_path_factory.mktemp("played")
        with _migrated(f"sqlite:///{template / 'tiltyard.db'}") as made:
            _played(made, template)
        _TEMPLATES["here"] = template
    folder = tmp_path / "data"
    shutil.copytree(_TEMPLATES["here"], folder)
    with _migrated(f"sqlite:///{folder / 'tiltyard.db'}") as made:
        yield Stage(made, folder, set_up=False)


def _played(database: Database, folder: Path) -> Stage:
    made = Stage(database, folder)
    for _ in range(2):
        made.submit()
    made.submit("mnist5k-untargeted-attack")
    made.play()
    return made


Served = Callable[..., AbstractContextManager[tuple[FastAPI, httpx.Client]]]


@pytest.fixture
def served(tmp_path: Path, sqlite: Database, tracks: dict[str, Track]) -> Served:
    """The application on the world's database, without a worker, behind a real socket.

    `with served(metrics="everybody") as (app, client): ...`; ``prepare`` is given the application.
    """

    @contextmanager
    def serve(
        prepare: Callable[[FastAPI], None] | None = None, **chosen: Any
    ) -> Iterator[tuple[FastAPI, httpx.Client]]:
        usual = {
            "data_dir": tmp_path / "data",
            "database_url": sqlite.url.render_as_string(),
            "workers": 0,
            "sandbox": "process",
            "baselines": "none",
        }
        made = settings.load(**usual | chosen)
        app = create_app(made)
        if prepare is not None:
            prepare(app)
        with serving(app) as address, httpx.Client(base_url=address) as client:
            yield app, client

    return serve


@contextmanager
def _migrated(url: str) -> Iterator[Database]:
    made = Database(url)
    migrations.upgrade(made)
    yield made
    made.close()


@pytest.fixture(scope="session")
def docker_provider(docker_engine: str) -> Iterator[DockerProvider]:
    """The isolated provider, with an instance name of this session's own."""
    base_image.ensure()
    made = DockerProvider(f"test-{uuid.uuid4().hex}")
    yield made
    left = made.reap(list)
    made.close()
    assert left == [], "a test left sandboxes behind"


@pytest.fixture(scope="session")
def process_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessProvider]:
    """The provider without isolation."""
    made = ProcessProvider("test", scratch=tmp_path_factory.mktemp("process"))
    yield made
    assert made.reap(list) == [], "a test left sandboxes behind"
    made.close()


Entry = Callable[..., Package]


@pytest.fixture(scope="session")
def hostile_image(docker_provider: DockerProvider) -> Iterator[Entry]:
    """Packages of the scripts in hostile/, as images: `hostile_image("model.py", "good")`."""
    api = docker_provider.api
    files = {path.name: path.read_bytes() for path in HOSTILE.glob("*.py")}
    files["Dockerfile"] = (
        b"FROM debian:bookworm-slim\n"
        b'RUN python3 -c "import numpy" 2>/dev/null || (apt-get update && apt-get install -y '
        b"--no-install-recommends python3 python3-numpy && rm -rf /var/lib/apt/lists/*)\n"
        b"RUN mkdir -m 777 /data && cp /usr/bin/id /usr/bin/id-as-root && chmod u+s "
        b"/usr/bin/id-as-root\n"
        b"WORKDIR /submission\nCOPY *.py ./\nEXPOSE 8989\nVOLUME /data\n"
        b"HEALTHCHECK CMD touch /tmp/health\nLABEL tiltyard.instance=stolen\n"
    )
    # Names and contents of this session's own: another one may run beside it on the same engine.
    session = docker_provider.instance
    base, latest = f"tiltyard/test:{session}", f"tiltyard/test:{session}-entry"
    _built(api, base, files)
    made: list[str] = []

    def entry(*argv: str) -> Package:
        command = json.dumps(["python3", *argv])
        lines = f"FROM {base}\nLABEL session={session}\nCMD {command}\n".encode()
        identity = _built(api, latest, {"Dockerfile": lines})
        api.tag(identity, *images.tag(identity).split(":"))
        made.append(identity)
        return Package("image", identity, Path("never-saved"), 0, 0)

    yield entry
    for digest in made:
        docker_provider.forget(digest)
    for name in (latest, base):
        api.remove_image(name, force=True)


@pytest.fixture(scope="session")
def hostile_source(
    process_provider: ProcessProvider, tmp_path_factory: pytest.TempPathFactory
) -> Entry:
    """Packages of the scripts in hostile/, as source packages."""
    folder = tmp_path_factory.mktemp("sources")

    def entry(*argv: str) -> Package:
        command = json.dumps(["python3", *argv])
        files = {path.name: path.read_bytes() for path in HOSTILE.glob("*.py")}
        files["tiltyard.toml"] = f"[submission]\ncommand = {command}\n".encode()
        path = folder / f"{uuid.uuid4().hex}.tar.gz"
        path.write_bytes(_packed(files, "w:gz"))
        return process_provider.load(path, Limits())

    return entry


@pytest.fixture
def sandboxes(provider_name: str, request: pytest.FixtureRequest) -> tuple[Provider, Entry]:
    """A provider and its packages; a test is parametrised by `provider_name`."""
    entry = {"docker": "hostile_image", "process": "hostile_source"}[provider_name]
    provider: Provider = request.getfixturevalue(f"{provider_name}_provider")
    return provider, request.getfixturevalue(entry)


def _packed(files: dict[str, bytes], mode: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _built(api: Any, tag: str, files: dict[str, bytes]) -> str:
    context = io.BytesIO(_packed(files, "w"))
    lines = list(api.build(fileobj=context, custom_context=True, tag=tag, rm=True, decode=True))
    assert "error" not in lines[-1], lines
    return str(api.inspect_image(tag)["Id"])
