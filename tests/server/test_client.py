from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.errors import InfrastructureError, UserError
from bench.tracks.types import Track
from server import accounts, client, packaging, settings, submitting
from server.app import create_app
from server.client import Client
from server.db.engine import Database
from server.storage import Store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODELS, ATTACKS = "mnist5k-robust-model", "mnist5k-untargeted-attack"


class Ground:
    """A running server with workers and the process sandbox, and a token for it."""

    def __init__(self, folder: Path, database: Database, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.store = Store(folder / "data" / "artefacts")
        with database.write() as session:
            accounts.create_user(session, "ada")
            self.token = accounts.create_token(session, "ada", "submit", None)


@pytest.fixture
def ground(
    tmp_path: Path,
    sqlite: Database,
    tracks: dict[str, Track],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[[FastAPI], str],
) -> Ground:
    monkeypatch.setattr(client, "PAUSES", (0.01, 0.05))
    monkeypatch.setattr(client, "POLLS", (0.02, 0.05))
    works = getattr(request, "param", False)
    app = create_app(
        settings.load(
            data_dir=tmp_path / "data",
            database_url=sqlite.url.render_as_string(),
            workers=1 if works else 0,
            sandbox="process",
            baselines="quick" if works else "none",
            poll_seconds=0.05,
        )
    )
    app.router.routes.insert(0, Route("/api/v1/boards/crash", _crash))
    return Ground(tmp_path, sqlite, int(serve(app).rpartition(":")[2]))


working = pytest.mark.parametrize("ground", [True], indirect=True)


def _crash(request: Request) -> Response:
    raise RuntimeError("a secret of ours")


@pytest.fixture
def ada(ground: Ground) -> Iterator[Client]:
    with Client(ground.url, ground.token) as made:
        yield made


class Wire:
    """A line between client and server that can be cut and noisy.

    Args:
        port: of the server.
        cuts: for one connection after another, how many bytes of the client's get through before
            it is cut; None: all. Further connections are fine.
        answers: how many connections are cut when the server has begun to answer.
        noise: position of a byte of the first connection that is changed on the way.
    """

    def __init__(
        self, port: int, cuts: list[int], *, answers: int = 0, noise: int | None = None
    ) -> None:
        self.port, self.cuts, self.answers, self.noise = port, cuts, answers, noise
        self.opened = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                number, self.opened = self.opened, self.opened + 1
                for target, pair in ((self._there, (near, far)), (self._back, (far, near))):
                    thread = threading.Thread(target=target, args=(number, *pair))
                    thread.start()
                    self.threads.append(thread)

    def _there(self, number: int, near: socket.socket, far: socket.socket) -> None:
        left = self.cuts[number] if number < len(self.cuts) else None
        position = 0
        with contextlib.suppress(OSError):
            while data := bytearray(near.recv(65536)):
                if number == 0 and self.noise is not None:
                    at = self.noise - position
                    if 0 <= at < len(data):
                        data[at] ^= 1
                position += len(data)
                far.sendall(data if left is None else data[: max(0, left)])
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        break
        _hang_up(near, far)

    def _back(self, number: int, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if number < self.answers:
                    break
                near.sendall(data)
        _hang_up(near, far)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()


def _hang_up(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def over(wire: Wire, token: str) -> Iterator[Client]:
    with Client(wire.url, token) as made:
        yield made
    wire.close()


def file_of(folder: Path, size: int) -> tuple[Path, str]:
    """A file of random bytes, and its SHA-256."""
    data = random.Random(size).randbytes(size)
    (folder / "file").write_bytes(data)
    return folder / "file", hashlib.sha256(data).hexdigest()


def test_rules_and_tracks_are_the_servers(ground: Ground, tracks: dict[str, Track]) -> None:
    with Client(ground.url + "/") as anybody:
        assert [track["name"] for track in anybody.tracks()] == [
            MODELS, ATTACKS, "mnist5k-targeted-attack",
        ]  # fmt: skip
        rules = anybody.rules(MODELS)
        assert rules["threat"]["max_queries"] == tracks[MODELS].threat.max_queries
        assert rules["image"]["shape"] == [28, 28, 1]
        with pytest.raises(UserError, match=f"there is no track 'mnist'; choose one of {MODELS}"):
            anybody.rules("mnist")


def test_a_server_that_only_shows_pages_knows_the_sandbox_of_its_workers(ground: Ground) -> None:
    with Client(ground.url) as anybody:
        assert anybody.sandbox() == "process"


def test_a_file_goes_over_in_chunks(
    ground: Ground, ada: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CHUNK_BYTES", 1000)
    file, sha256 = file_of(tmp_path, 2500)
    seen: list[tuple[int, int]] = []
    ada.upload(file, lambda there, size: seen.append((there, size)))
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
    assert ground.store.get(sha256) == file.read_bytes()


def test_an_upload_goes_on_where_the_connection_broke(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CHUNK_BYTES", 100_000)
    file, sha256 = file_of(tmp_path, 450_000)
    seen: list[int] = []
    wire = Wire(ground.port, [250_000, 50, 150_000])
    with over(wire, ground.token) as ada:
        ada.upload(file, lambda there, size: seen.append(there))
        opened = wire.opened
    assert opened >= 4
    assert seen == sorted(seen)
    assert seen[-1] == 450_000
    assert ground.store.get(sha256) == file.read_bytes()


def test_a_chunk_that_was_damaged_on_the_way_is_sent_again(ground: Ground, tmp_path: Path) -> None:
    file, sha256 = file_of(tmp_path, 20_000)
    wire = Wire(ground.port, [], noise=15_000)
    seen: list[int] = []
    with over(wire, ground.token) as ada:
        ada.upload(file, lambda there, size: seen.append(there))
    assert seen == [0, 20_000]
    assert ground.store.get(sha256) == file.read_bytes()


def test_an_upload_that_never_gets_on_is_given_up(ground: Ground, tmp_path: Path) -> None:
    file, _ = file_of(tmp_path, 20_000)
    wire = Wire(ground.port, [2000] * 50)
    with (
        over(wire, ground.token) as ada,
        pytest.raises(InfrastructureError, match="broke off 6 times at 0 of 20000 bytes"),
    ):
        ada.upload(file)


def test_an_empty_file_is_not_sent(ada: Client, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is empty; wanted a source package or a saved image"):
        ada.upload(tmp_path / "file")


def test_the_same_key_never_makes_a_second_submission(ada: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(gzip.compress(b"a folder"))
    upload = ada.upload(tmp_path / "file")
    first = ada.submit(MODELS, "mine", upload, key="once")
    assert ada.submit(MODELS, "mine", upload, key="once")["id"] == first["id"]
    assert first["state"] == "validating"
    assert ada.submission(first["id"])["name"] == "mine"
    assert [each["id"] for each in ada.submissions()] == [first["id"]]


def test_a_submission_whose_answer_was_lost_is_not_entered_twice(
    ground: Ground, ada: Client, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(gzip.compress(b"a folder"))
    upload = ada.upload(tmp_path / "file")
    wire = Wire(ground.port, [], answers=2)
    with over(wire, ground.token) as unlucky:
        made = unlucky.submit(MODELS, "mine", upload)
    assert wire.opened == 3
    assert [each["id"] for each in ada.submissions()] == [made["id"]]


@working
def test_an_example_of_each_kind_goes_from_its_folder_to_the_board(
    ground: Ground, ada: Client, tmp_path: Path
) -> None:
    assert ada.sandbox() == "process"
    for kind, track in (("model", MODELS), ("untargeted_attack", ATTACKS)):
        package = packaging.source_package(EXAMPLES / kind, tmp_path / kind)
        seen: list[client.Json] = []
        made = ada.submit(track, f"my-{kind}", ada.upload(package))
        done = ada.wait(made["id"], seen.append, seconds=120)
        assert done["state"] == "accepted", done["reason"]
        assert seen[0]["state"] in ("validating", "accepted")
        assert seen[-1] == done
        row = next(row for row in ada.board(track)["rows"] if row["entry"]["id"] == made["id"])
        assert row["state"] == "scored"
        assert row["score"] > 0
        assert row["isolated"] is False
        lines = list(csv.DictReader(io.StringIO(ada.board_csv(track))))
        assert f"my-{kind}" in [line["name"] for line in lines]
    text, after = ada.logs(made["id"])
    assert "done: adversarials for" in text
    assert ada.logs(made["id"], after) == ("", after)


@working
def test_submit_follows_to_the_rank_or_to_the_last_lines_of_what_it_printed(
    ground: Ground, tmp_path: Path
) -> None:
    lines: list[str] = []
    sent: dict[str, Any] = {"server": ground.url, "token": ground.token, "wait": True}
    sent |= {"track": None, "name": None, "report": lines.append}
    packaging.new("untargeted-attack", tmp_path / "good")
    view = submitting.submit(tmp_path / "good", **sent)
    assert view["state"] == "accepted"
    assert re.fullmatch(r"rank [12] of 2: \d+\.\d{3} \[\d+\.\d{3}, \d+\.\d{3}\]", lines[-1])
    assert f"submitted: {ground.url}/entries/{view['id']}" in lines
    packaging.new("untargeted-attack", tmp_path / "bad")
    (tmp_path / "bad" / "attack.py").write_text("raise SystemExit('no weights here')")
    view = submitting.submit(tmp_path / "bad", **sent)
    assert view["state"] == "rejected"
    assert lines[-4].startswith("reason: ")
    assert (lines[-3], lines[-1]) == ("its last output:", "  no weights here")


@working
def test_a_refused_submission_says_why(ada: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(gzip.compress(b"not a folder"))
    made = ada.submit(MODELS, "broken", ada.upload(tmp_path / "file"))
    done = ada.wait(made["id"], seconds=60)
    assert done["state"] == "rejected"
    assert "it is not a tar archive" in done["reason"]


def test_waiting_ends_when_it_takes_too_long_and_the_server_goes_on(
    ada: Client, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(gzip.compress(b"a folder"))
    made = ada.submit(MODELS, "mine", ada.upload(tmp_path / "file"))
    with pytest.raises(UserError, match="is still validating after 0 s; the server goes on"):
        ada.wait(made["id"], seconds=0)


def test_a_bad_token_is_the_users_mistake_with_its_mend(ground: Ground, tmp_path: Path) -> None:
    file, _ = file_of(tmp_path, 10)
    for token, reason in (("wrong", "unknown, expired or revoked"), (None, "needs a token")):
        with (
            Client(ground.url, token) as nobody,
            pytest.raises(UserError, match=f"{reason}.*TILTYARD_TOKEN"),
        ):
            nobody.upload(file)


def test_a_fault_of_the_server_is_not_the_users(ada: Client) -> None:
    with pytest.raises(InfrastructureError, match="this is our fault; .* request id"):
        ada.board("crash")


def test_nobody_there_is_said_with_a_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}") as anybody,
        pytest.raises(UserError, match=f"no answer from http://127.0.0.1:{port} .*--server"),
    ):
        anybody.tracks()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", ""])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(UserError, match=r"is no URL of a server; wanted http://HOST:PORT"):
        Client(url)


def test_another_server_is_not_taken_for_ours() -> None:
    class Greeter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with (
            Client(f"http://127.0.0.1:{server.server_address[1]}") as anybody,
            pytest.raises(UserError, match="is it a Tiltyard server?"),
        ):
            anybody.board(MODELS)
        server.shutdown()
        thread.join()
