"""Processes that kill themselves in the middle of a job's life, on both databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_points.py"


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "every"), [("sqlite", 4), ("postgresql", 6)])
def test_whoever_is_killed_before_whichever_statement_nothing_is_lost_and_nothing_twice(
    engine: str, every: int, request: pytest.FixtureRequest
) -> None:
    """Some statements of each step here; `python benchmarks/kill_points.py` has them all."""
    options = ["--repeats", "1", "--quick", "--every", str(every), "--json"]
    if engine == "postgresql":
        options += ["--database", request.getfixturevalue("postgres_url")]
    done = subprocess.run(
        [sys.executable, SCRIPT, *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert len(report["steps"]) == 12
    assert all(step["kills"] >= 1 for step in report["steps"].values())
