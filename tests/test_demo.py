"""`make demo` as a user runs it, and what it proves: a sandbox changes no figure."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"
BOARDS = ("mnist5k-robust-model", "mnist5k-untargeted-attack")


def demo(folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=1500,
        check=False,
        env={
            **os.environ,
            "DEMO_EXIT": "1",
            "DEMO_PORT": "0",
            "DEMO_DIR": str(folder / "demo"),
            **environment,
        },
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def played_by_the_server(folder: Path, model: str, attack: str) -> dict[str, tuple[Any, ...]]:
    """{image id: (distance, queries, status)} of a match in the demo's database."""
    database = sqlite3.connect(folder / "demo" / "tiltyard.db")
    rows = database.execute(
        "SELECT r.image_id, r.distance, r.queries, r.status FROM sample_result r "
        "JOIN match m ON m.id = r.match_id JOIN submission a ON a.id = m.model_id "
        "JOIN submission b ON b.id = m.attack_id WHERE a.name = ? AND b.name = ? "
        "AND b.kind = 'untargeted-attack'",
        (model, attack),
    ).fetchall()
    database.close()
    return {row[0]: tuple(row[1:]) for row in rows}


def played_here(tiltyard: Any, model: str | Path, attack: str | Path) -> dict[str, tuple[Any, ...]]:
    done = tiltyard(
        "play", "--model", model, "--attack", attack, "--norm", "l2", "--quantised",
        "--max-queries", "1000", "--images", "50", "--seed", "0", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = tiltyard.folder / json.loads(done.stdout)["outcomes"]
    facts = [json.loads(line) for line in path.read_text().splitlines()]
    return {fact["image_id"]: (fact["distance"], fact["queries"], fact["status"]) for fact in facts}


@pytest.mark.slow
def test_in_docker_every_match_is_scored_and_the_figures_are_those_of_a_local_run(
    tmp_path: Path, tiltyard: Any, docker_engine: str
) -> None:
    shown = demo(tmp_path)
    assert "docker sandbox" in shown
    assert "not isolated" not in shown
    for name in ("example-model", "example-attack", "small_cnn", "boundary"):
        assert name in shown
    for board in BOARDS:
        assert f"/boards/{board}" in shown

    attack = EXAMPLES / "untargeted_attack" / "attack.py"
    server = played_by_the_server(tmp_path, "small_cnn", "example-attack")
    assert len(server) == 50
    assert server == played_here(tiltyard, "small_cnn", attack)
    model = EXAMPLES / "model" / "model.py"
    server = played_by_the_server(tmp_path, "example-model", "boundary")
    assert len(server) == 50
    assert server == played_here(tiltyard, model, "boundary")


@pytest.mark.slow
def test_without_docker_it_says_so_and_marks_every_result(tmp_path: Path) -> None:
    shown = demo(tmp_path, DOCKER_HOST="unix:///nowhere/docker.sock")
    assert "no Docker engine answers: using the process sandbox" in shown
    assert "process: not isolated" in shown
    database = sqlite3.connect(tmp_path / "demo" / "tiltyard.db")
    kinds = database.execute(
        "SELECT DISTINCT r.sandbox FROM sample_result r JOIN match m ON m.id = r.match_id "
        "JOIN submission a ON a.id = m.model_id JOIN submission b ON b.id = m.attack_id "
        "WHERE a.source <> 'zoo' OR b.source <> 'zoo'"
    ).fetchall()
    database.close()
    assert kinds == [("process",)]
