"""Fixtures for parts that a machine may lack: Docker, PostgreSQL, Chromium.

Where one is missing its tests skip and say why. With TILTYARD_REQUIRE_ALL=1 (continuous
integration) they fail instead, so that nothing is skipped there for want of a part.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # tests run beside servers and containers on small machines

REPOSITORY = Path(__file__).resolve().parent.parent


# No test asserts a time: a loaded machine may take as long as it likes to make an example.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


def missing(what: str, mend: str) -> NoReturn:
    """Skip, or fail where every part is required."""
    text = f"{what}; {mend}"
    if os.environ.get("TILTYARD_REQUIRE_ALL") == "1":
        pytest.fail(f"TILTYARD_REQUIRE_ALL is set and {text}", pytrace=False)
    pytest.skip(text)


@pytest.fixture(scope="session")
def lacking() -> Callable[[str, str], NoReturn]:
    """`missing`, for tests that find out by themselves what is not there."""
    return missing


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """The version of a running Docker engine."""
    from bench.errors import InfrastructureError
    from server.sandbox.engine import connect

    try:
        client = connect(timeout=10)
        try:
            return str(client.version()["Version"])
        finally:
            client.close()
    except (InfrastructureError, OSError) as error:
        missing(f"no Docker engine answers ({error})", "install docker.io and start dockerd")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The path of a Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    missing("there is no Chromium", "install Debian's package chromium")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; not part of it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}; these tests need data that is not in the repository")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A URL of a PostgreSQL server of our own, started for the session and stopped after it.

    TILTYARD_TEST_POSTGRES names one that runs already.
    """
    given = os.environ.get("TILTYARD_TEST_POSTGRES")
    if given:
        yield given
        return
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        missing("there is no PostgreSQL server", "install Debian's package postgresql")
    programs = binaries[-1]
    # Not below pytest's own folder: every start of pytest, nested ones too, shuts that to others.
    folder = Path(tempfile.mkdtemp(prefix="tiltyard-postgres-"))
    as_postgres: list[str] = []
    if os.geteuid() == 0:  # initdb refuses root
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    subprocess.run(
        [*as_postgres, programs / "initdb", "-D", data, "-U", "tiltyard", "-A", "trust"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*as_postgres, programs / "postgres", "-D", data, *options],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    text = (folder / "log").read_text(errors="replace")
                    pytest.fail(f"PostgreSQL did not start: {text[-2000:]}")
                time.sleep(0.1)
        yield f"postgresql+psycopg://tiltyard@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, dropped after the test."""
    import uuid

    import sqlalchemy

    name = f"test_{uuid.uuid4().hex}"
    admin = sqlalchemy.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield postgres_server.rpartition("/")[0] + f"/{name}"
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


@pytest.fixture
def tiltyard(tmp_path: Path) -> _Command:
    """Run the command line as a user does."""
    return _Command(tmp_path)


class _Command:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *arguments: str | Path, env: dict[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """The finished process, with its text; it runs in a folder of the test's own."""
        return subprocess.run(
            [sys.executable, "-m", "server.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=timeout,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "TILTYARD_CACHE": str(self.folder / "cache"),  # nobody else's results
                **(env or {}),
            },
        )
