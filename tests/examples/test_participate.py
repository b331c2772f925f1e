"""docs/participate.md, done as it is written: its commands and no others."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.plugins import load_track

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "participate.md").read_text()
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, flags=re.MULTILINE)
SMALL = """
from dataclasses import replace
from server import cli, rules
small = {name: replace(track, images=4) for name, track in rules.tracks().items()}
rules.tracks = lambda: small
cli.main()
"""
LIMITS = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, flags=re.MULTILINE))


def test_the_limits_of_the_page_are_those_of_the_tracks() -> None:
    for name in ("mnist5k-robust-model", "mnist5k-untargeted-attack"):
        track = load_track(name)
        rules = vars(track.limits) | {"max_queries": track.threat.max_queries}
        assert LIMITS
        assert {key: float(value) for key, value in LIMITS.items()} == {
            key: rules[key] for key in LIMITS
        }


@pytest.mark.slow
def test_the_commands_of_the_page_lead_to_scored_entries(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = dict(os.environ)
    said: dict[str, str] = {}

    def run(line: str) -> str:
        words = shlex.split(line.replace(":8000", f":{port}"))
        assert words[0] == "tiltyard"
        done = subprocess.run(
            [sys.executable, "-m", "server.cli", *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,  # against a hang: beside other work a match takes minutes
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    serve, *others = COMMANDS
    assert serve == "tiltyard serve --data-dir ground"
    with serving(tmp_path, port):
        for line in others:
            if line.startswith("export TILTYARD_TOKEN="):
                environment["TILTYARD_TOKEN"] = said["admin create-token"].strip()
            else:
                extra = " --sandbox process" if line.startswith("tiltyard test") else ""
                words = line.split()
                key = " ".join(words[1:3]) if words[1] == "admin" else " ".join(words[1:])
                said[key] = run(line + extra)
    for kind, track in (
        ("my-attack", "mnist5k-untargeted-attack"),
        ("my-targeted-attack", "mnist5k-targeted-attack"),
        ("my-model", "mnist5k-robust-model"),
    ):
        board = next(text for key, text in said.items() if key.startswith(f"board {track}"))
        row = next(line for line in board.splitlines() if kind in line)
        assert re.search(r"\d\.\d{3}", row), row


@contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    """`tiltyard serve` of the page, on a free port, without Docker, on four images a track."""
    command = [sys.executable, "-c", SMALL, "serve", "--data-dir", "ground"]
    options = ["--sandbox", "process", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, *options], cwd=folder, stdout=log, stderr=log)
        try:
            for _ in range(600):
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)
