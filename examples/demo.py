"""`make demo`: a server, the zoo, the two example submissions, every match, and the board.

Everything goes through the command line, as an organiser's and a participant's do. The server keeps
serving until Ctrl-C; DEMO_EXIT=1 ends it after the board. DEMO_SANDBOX=process does without Docker.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TRACKS = ("mnist5k-robust-model", "mnist5k-untargeted-attack")
SUBMISSIONS = ("model", "untargeted_attack")
START_SECONDS = 120
MATCH_SECONDS = 1800


def main() -> int:
    """Play the demo; returns the exit code."""
    started = time.monotonic()
    folder = Path(os.environ.get("DEMO_DIR", ".tiltyard/demo"))
    sandbox = choose_sandbox()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with server(folder, sandbox) as url:
        token = make_account(folder)
        say(f"the server listens on {url}; the zoo and the baseline attacks are entered")
        for name in SUBMISSIONS:
            say(f"submitting examples/{name}")
            command("submit", HERE / name, "--server", url, env={"TILTYARD_TOKEN": token})
        wait_for_matches(url)
        for track in TRACKS:
            command("board", track, "--server", url)
        if sandbox == "process":
            say("results marked 'process' were played without isolation, for want of Docker")
        say(f"played in {time.monotonic() - started:.0f} s")
        for track in TRACKS:
            say(f"the board: {url}/boards/{track}")
        if os.environ.get("DEMO_EXIT") == "1":
            return 0
        say("serving until you press Ctrl-C")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
    return 0


def say(text: str) -> None:
    """One line of progress."""
    print(f"demo: {text}", flush=True)


def choose_sandbox() -> str:
    """docker where an engine answers and the base image can be had, else process."""
    if os.environ.get("DEMO_SANDBOX") == "process":
        say("process sandbox, as DEMO_SANDBOX asks: nothing isolates the submissions")
        return "process"
    try:
        import docker

        client = docker.from_env(timeout=10)
        client.ping()
        client.close()
    except Exception:
        say("no Docker engine answers: using the process sandbox, which isolates nothing")
        return "process"
    made = subprocess.run(
        [sys.executable, "-m", "server.sandbox.base_image"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        reason = (made.stderr or made.stdout).strip().splitlines()[-1:]
        say(f"no base image for Docker ({' '.join(reason)}): using the process sandbox")
        return "process"
    return "docker"


def command(*arguments: str | Path, env: dict[str, str] | None = None) -> None:
    """Run `tiltyard ...` and show what it prints."""
    subprocess.run(
        [sys.executable, "-m", "server.cli", *map(str, arguments)],
        check=True,
        env={**os.environ, **(env or {})},
    )


def make_account(folder: Path) -> str:
    """An account for the submitter; returns its token."""
    options = ["--data-dir", str(folder)]
    cli = [sys.executable, "-m", "server.cli", "admin"]
    subprocess.run([*cli, "create-user", "you", *options], check=True, capture_output=True)
    made = subprocess.run(
        [*cli, "create-token", "you", *options], check=True, capture_output=True, text=True
    )
    return made.stdout.strip()


@contextlib.contextmanager
def server(folder: Path, sandbox: str) -> Iterator[str]:
    """A running `tiltyard serve`; yields its URL and stops it at the end."""
    port = free_port(int(os.environ.get("DEMO_PORT", "8000")))
    url = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    arguments = ["--port", str(port), "--data-dir", str(folder), "--sandbox", sandbox]
    say(f"starting the server ({sandbox} sandbox, SQLite, 2 workers; log: {log})")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve", "--workers", "2", *arguments],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
                raise SystemExit("demo: the server did not start; its log is above")
            time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port(wanted: int) -> int:
    """The wanted port, or any free one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise SystemExit("demo: no free port on 127.0.0.1")


def ready(url: str) -> bool:
    """Whether the server answers."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def fetch(url: str) -> Any:
    """A JSON document."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def wait_for_matches(url: str) -> None:
    """Until no match waits or runs, with a line whenever one has ended."""
    deadline = time.monotonic() + MATCH_SECONDS
    shown: set[str] = set()
    while time.monotonic() < deadline:
        boards = [fetch(f"{url}/api/v1/boards/{track}") for track in TRACKS]
        for match in fetch(f"{url}/api/v1/matches?limit=100")["items"]:
            if match["finished_at"] and match["id"] not in shown:
                shown.add(match["id"])
                distance = match["median_distance"]
                result = match["state"] if distance is None else f"median L2 {distance:.3f}"
                say(f"{match['model']['name']} x {match['attack']['name']}: {result}")
        if all(board["waiting"] == 0 for board in boards):
            return
        time.sleep(1)
    raise SystemExit(f"demo: matches still wait after {MATCH_SECONDS} s; see {url}/queue")


if __name__ == "__main__":
    sys.exit(main())
