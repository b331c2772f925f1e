"""A database of each kind, two small tracks, sandboxes, and submissions to play with."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.tracks.types import Track
from server import rules
from server.db import migrations
from server.db.engine import Database
from server.sandbox import base_image, images
from server.sandbox.docker import DockerProvider
from server.sandbox.process import ProcessProvider
from server.sandbox.types import Limits, Package, Provider

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
    """The real tracks with four images, one baseline a side and small budgets."""
    small = {
        name: replace(
            track,
            images=4,
            threat=replace(track.threat, max_queries=20),
            limits=replace(track.limits, submissions_per_day=3),
            baseline_models=("small_cnn",),
            baseline_attacks=("gaussian_noise",),
        )
        for name, track in rules.tracks().items()
    }
    monkeypatch.setattr(rules, "tracks", lambda: small)
    return small


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
    base = _built(api, "tiltyard/test:hostile", files)
    made = [base]

    def entry(*argv: str) -> Package:
        command = json.dumps(["python3", *argv])
        lines = f"FROM tiltyard/test:hostile\nCMD {command}\n".encode()
        identity = _built(api, "tiltyard/test:entry", {"Dockerfile": lines})
        api.tag(identity, *images.tag(identity).split(":"))
        made.append(images.tag(identity))
        return Package("image", identity, Path("never-saved"), 0, 0)

    yield entry
    for name in {*made[1:], "tiltyard/test:entry", "tiltyard/test:hostile"}:
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
