from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_it_names_every_part_with_a_mend_and_downloads_nothing(
    tiltyard: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    done = tiltyard("doctor", "--json", env={"TILTYARD_CACHE": str(cache)})
    found = {check["part"]: check for check in json.loads(done.stdout)}
    assert done.returncode == (0 if all(c["ok"] for c in found.values() if c["required"]) else 1)
    assert {"python", "torch", "docker", "chromium", "data: mnist5k", "data: mnist"} <= set(found)
    assert found["torch"]["ok"]
    assert found["data: mnist5k"]["detail"] == "1000 images in the test split"
    assert not found["data: mnist"]["ok"]
    assert "put it at" in found["data: mnist"]["detail"]
    assert not cache.exists() or not list(cache.rglob("*.gz"))


def test_without_docker_it_says_how_to_get_it(tiltyard: Any) -> None:
    done = tiltyard("doctor", "--json", env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    docker = next(c for c in json.loads(done.stdout) if c["part"] == "docker")
    assert not docker["ok"]
    assert not docker["required"]
    assert docker["detail"]
