from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from server import local_test, packaging

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KINDS = [("model", "example-model"), ("untargeted-attack", "example-attack")]
TEMPLATES = [
    ("model", "numpy"),
    ("model", "pytorch"),
    ("untargeted-attack", "numpy"),
    ("untargeted-attack", "foolbox"),
    ("targeted-attack", "numpy"),
    ("targeted-attack", "foolbox"),
]


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for caches and compiled Python."""
    files = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    return {
        inside.as_posix(): path.read_bytes()
        for inside, path in files.items()
        if not any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
    }


def folder_of(kind: str) -> Path:
    return EXAMPLES / kind.replace("-", "_")


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_an_example_is_what_new_writes_without_the_kit(
    kind: str, name: str, tmp_path: Path
) -> None:
    packaging.new(kind, tmp_path / "fresh", name)
    fresh = contents(tmp_path / "fresh")
    kit = {path for path in fresh if path.startswith("kit/")}
    assert "kit/__init__.py" in kit
    assert contents(folder_of(kind)) == {p: fresh[p] for p in fresh if p not in kit}


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_an_example_can_be_packed_as_it_is(kind: str, name: str, tmp_path: Path) -> None:
    packed = packaging.source_package(folder_of(kind), tmp_path / "package.tar.gz")
    assert packed.stat().st_size < 300_000
    assert packaging.read_manifest(folder_of(kind)).name == name


@pytest.mark.parametrize(("kind", "template"), TEMPLATES)
def test_the_tests_of_a_new_submission_pass(kind: str, template: str, tmp_path: Path) -> None:
    packaging.new(kind, tmp_path / "mine", template=template)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        command, cwd=tmp_path / "mine", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_the_weights_of_the_model_are_small_plain_whole_numbers() -> None:
    path = EXAMPLES / "model" / "weights.npz"
    assert path.stat().st_size <= 300_000
    with np.load(path, allow_pickle=False) as weights:
        assert {weights[name].dtype.kind for name in weights.files} == {"i"}


def test_every_sum_in_the_model_is_exact() -> None:
    with np.load(EXAMPLES / "model" / "weights.npz", allow_pickle=False) as stored:
        weights = {name: np.abs(stored[name].astype(np.float64)) for name in stored.files}
    hidden = 255 * weights["first"].sum(axis=0) + weights["first_bias"]
    scores = hidden @ weights["second"] + weights["second_bias"]
    assert scores.max() < 2**53


def test_training_learns_within_five_epochs(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "--epochs", "5", "--out", str(tmp_path / "w.npz")]
    done = subprocess.run(
        command, cwd=EXAMPLES / "model", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.split("test split: ")[1].split()[0])
    assert accuracy > 0.8
    assert (tmp_path / "w.npz").is_file()


@pytest.mark.parametrize(("kind", "template"), TEMPLATES)
def test_a_new_submission_passes_the_test_of_the_server(
    kind: str, template: str, tmp_path: Path
) -> None:
    packaging.new(kind, tmp_path / "mine", template=template)
    lines: list[str] = []
    result = local_test.test_submission(
        tmp_path / "mine", sandbox="process", images=2, report=lines.append
    )
    assert result.passed, lines
    assert len(result.outcomes) == 2
    if kind != "model":
        assert all(outcome.success for outcome in result.outcomes), lines


def test_a_foolbox_attack_is_a_submission_in_under_twenty_lines() -> None:
    folder = Path(packaging.KIT) / "templates" / "untargeted_attack_foolbox"
    tree = ast.parse((folder / "attack.py").read_text())
    docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    code = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)} - docstrings
    assert 10 < len(code) < 20


def test_a_template_that_there_is_not_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no template 'jax' for a model; there are: numpy, pytorch"):
        packaging.new("model", tmp_path / "mine", template="jax")
    assert not (tmp_path / "mine").exists()
