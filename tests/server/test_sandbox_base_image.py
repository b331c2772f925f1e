"""The base image's command, with a `docker` that is a script of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.sandbox import base_image


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: str | None) -> Path:
    """A PATH that holds a `docker` of our own, which logs its arguments, and nothing else."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    log.touch()
    if docker is not None:
        script = folder / "docker"
        script.write_text(f'#!/bin/sh\necho "$*" >> {log}\n{docker}\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin" if docker else str(folder))
    monkeypatch.setattr("shutil.which", lambda name: _which(folder, name))
    return log


def _which(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).exists() else None


def test_an_image_that_is_there_is_taken_without_asking_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = machine(tmp_path, monkeypatch, "exit 0")
    assert base_image.ensure() == "present"
    assert "pull" not in log.read_text()


def test_an_image_that_can_be_pulled_is_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = machine(
        tmp_path,
        monkeypatch,
        'case "$1" in image) exit 1;; pull) echo "bookworm-slim: Pulling"; exit 0;; esac',
    )
    assert base_image.ensure() == "pulled"
    assert "pull debian:bookworm-slim" in log.read_text()


@pytest.mark.parametrize("pull", ["exit 1", "exec sleep 60"])
def test_without_a_network_and_debootstrap_it_gives_up_soon_and_says_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pull: str
) -> None:
    machine(tmp_path, monkeypatch, f'case "$1" in image) exit 1;; pull) {pull};; esac')
    monkeypatch.setattr(base_image, "ANSWER_SECONDS", 0.3)
    with pytest.raises(base_image.NoBaseImageError, match="apt-get install debootstrap"):
        base_image.ensure()


def test_a_pull_that_fails_half_way_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path, monkeypatch, 'case "$1" in image) exit 1;; pull) echo x; exit 1;; esac')
    assert base_image.pull(base_image.IMAGE) is False


@pytest.mark.parametrize(
    ("docker", "words"),
    [(None, "there is no docker command"), ("exit 1", "the Docker engine does not answer")],
)
def test_without_an_engine_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: str | None, words: str
) -> None:
    machine(tmp_path, monkeypatch, docker)
    with pytest.raises(base_image.NoBaseImageError, match=words):
        base_image.ensure()


def test_the_command_prints_how_it_went(docker_engine: str) -> None:
    base_image.ensure()
    done = subprocess.run(
        [sys.executable, "-m", "server.sandbox.base_image"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ,
    )
    assert (done.returncode, done.stdout) == (0, "debian:bookworm-slim: present\n"), done.stderr


def test_the_base_image_has_python_and_numpy_without_a_network(docker_engine: str) -> None:
    base_image.ensure()
    run = ["docker", "run", "--rm", "--network", "none", base_image.IMAGE]
    code = "import numpy; print(numpy.ones(3).sum())"
    done = subprocess.run(
        [*run, "python3", "-c", code], capture_output=True, text=True, check=False
    )
    if "executable file not found" in done.stderr:
        return  # the slim image of a registry has neither: the Dockerfiles install them
    assert done.stdout == "3.0\n", done.stderr
