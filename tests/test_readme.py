"""The README's examples are run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=600,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_runs_and_prints_two_numbers(tmp_path: Path) -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S)
                if "perturb" in block)  # fmt: skip
    printed = run([sys.executable, "-c", code.replace("take(50)", "take(4)")], tmp_path)
    assert len(re.findall(r"tensor\([\d.]+\)", printed)) == 2


def test_the_play_and_report_commands_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef create(*, width: int = 32):\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"
    )
    commands = re.findall(r"^    (tiltyard (?:play|report) .*?)(?:  +#.*)?$", README, re.M)
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "play":
            words = [word for word in words if word != "200"]
            if "--images" in words:
                words.remove("--images")
            words += ["--images", "3"]
        run([sys.executable, "-m", "server.cli", *words], tmp_path)
    assert (tmp_path / "runs" / "mine" / "report.html").stat().st_size > 10_000
