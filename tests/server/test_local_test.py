from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from bench.errors import UserError
from server import local_test, packaging
from server.local_test import SandboxName

BAD_ATTACKS = {
    "exit_1": ("raise SystemExit(1)", "ended with exit code 1"),
    "crash": ("import nothing_of_the_kind", "ModuleNotFoundError: No module named"),
    "silent": ("pass", "had neither asked nor stored anything adversarial"),
}
BAD_MODELS = {
    "exit_3": ("import sys; print('no weights'); sys.exit(3)", "exit code 3 while starting"),
    "random": (
        "rng = np.random.default_rng()\nclass M:\n"
        "    def predict(self, images): return rng.integers(10, size=len(images))\nkit.serve(M())",
        "the model gave image .* one image must always get the same label",
    ),
    "scores": (
        "class M:\n    def predict(self, images): return np.ones((len(images), 10))\n"
        "kit.serve(M())",
        r"answered 500: .*return the labels, scores.argmax\(axis=1\)",
    ),
    "out of range": (
        "class M:\n    def predict(self, images): return [10] * len(images)\nkit.serve(M())",
        "answered the label 10, wanted 0 to 9",
    ),
}


def test_the_last_output_of_a_failed_submission_is_shown(tmp_path: Path) -> None:
    folder = made("model", tmp_path / "mine", BAD_MODELS["exit_3"][0])
    lines: list[str] = []
    local_test.test_submission(folder, sandbox="process", images=2, report=lines.append)
    assert "no weights" in lines[lines.index("its last output:") + 1]


def silent(line: str) -> None: ...


@pytest.fixture(params=get_args(SandboxName))
def sandbox(request: pytest.FixtureRequest) -> SandboxName:
    name: SandboxName = request.param
    if name == "docker":
        request.getfixturevalue("docker_engine")
        from server.sandbox import base_image

        base_image.ensure()
    return name


def made(kind: str, folder: Path, program: str | None = None) -> Path:
    packaging.new(kind, folder, f"test-{kind}")
    if program is not None:
        script = "model.py" if kind == "model" else "attack.py"
        (folder / script).write_text(f"import kit\nimport numpy as np\n{program}\n")
    return folder


@pytest.mark.parametrize("kind", ["model", "untargeted-attack"])
def test_the_templates_pass(kind: str, sandbox: SandboxName, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = made(kind, tmp_path / "mine")
    try:
        result = local_test.test_submission(folder, sandbox=sandbox, images=3, report=lines.append)
    finally:
        if sandbox == "docker":
            with packaging.docker_client() as client:
                client.images.remove(packaging.image_tag(folder), force=True)
    assert result.passed, result.reason
    assert result.reason is None
    assert [outcome.image_id for outcome in result.outcomes]
    assert len(result.outcomes) == 3
    assert all(outcome.queries > 0 for outcome in result.outcomes)
    assert result.isolated is (sandbox == "docker")
    assert any(line.startswith("passed: 3 images against ") for line in lines)
    assert any("WITHOUT isolation" in line for line in lines) is not result.isolated
    assert json.loads(json.dumps(result.to_json()))["passed"] is True


@pytest.mark.parametrize("images", [4])
def test_a_sandboxed_attack_finds_what_it_finds_in_this_interpreter(
    images: int, tmp_path: Path
) -> None:
    from bench.match import Match, play
    from bench.plugins import load_attack, load_model, load_track
    from server.plays import samples_of
    from server.rules import threat_model

    folder = made("untargeted-attack", tmp_path / "mine")
    track = replace(load_track("mnist5k-untargeted-attack"), images=images)
    here = play(
        Match(
            model=load_model(track.baseline_models[0].spec, dataset=track.dataset),
            attack=load_attack(str(folder / "attack.py")),
            dataset=samples_of(track),
            threat=threat_model(track),
            seed=track.seed,
        )
    )
    there = local_test.test_submission(folder, sandbox="process", images=images, report=silent)
    assert [(o.image_id, o.distance, o.queries, o.trace) for o in there.outcomes] == [
        (o.image_id, o.distance, o.queries, o.trace) for o in here
    ]
    assert all(outcome.success for outcome in there.outcomes)


def test_a_sandboxed_model_answers_as_in_this_interpreter(tmp_path: Path) -> None:
    from bench.match import Match, play
    from bench.plugins import load_attack, load_model, load_track
    from server.plays import samples_of
    from server.rules import threat_model

    folder = made("model", tmp_path / "mine")
    track = replace(load_track("mnist5k-robust-model"), images=4)
    here = play(
        Match(
            model=load_model(str(folder / "model.py")),
            attack=load_attack(track.baseline_attacks[0].spec),
            dataset=samples_of(track),
            threat=threat_model(track),
            seed=track.seed,
        )
    )
    there = local_test.test_submission(folder, sandbox="process", images=4, report=silent)
    assert [(o.image_id, o.distance, o.queries) for o in there.outcomes] == [
        (o.image_id, o.distance, o.queries) for o in here
    ]


@pytest.mark.parametrize("fault", BAD_ATTACKS)
def test_a_bad_attack_fails_with_a_reason_for_its_author(fault: str, tmp_path: Path) -> None:
    program, reason = BAD_ATTACKS[fault]
    folder = made("untargeted-attack", tmp_path / "mine", program)
    _fails(folder, reason)


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_a_bad_model_fails_with_a_reason_for_its_author(fault: str, tmp_path: Path) -> None:
    program, reason = BAD_MODELS[fault]
    folder = made("model", tmp_path / "mine", program)
    _fails(folder, reason)


def test_an_attack_that_finds_nothing_passes_with_a_remark_for_each_image(tmp_path: Path) -> None:
    program = (
        "class A:\n    def attack_image(self, predict, image, label, rng):\n"
        "        predict(image[None])\nkit.attack(A())"
    )
    folder = made("untargeted-attack", tmp_path / "mine", program)
    result = local_test.test_submission(folder, sandbox="process", images=2, report=silent)
    assert result.passed
    assert len(result.remarks) == 2
    assert result.to_json()["score"]["median_distance"] is None


def test_a_spent_budget_is_no_failure(tmp_path: Path) -> None:
    program = (
        "class A:\n    def attack_image(self, predict, image, label, rng):\n"
        "        while True:\n"
        "            predict(rng.integers(256, size=(50, 28, 28, 1), dtype=np.uint8))\n"
        "kit.attack(A())"
    )
    folder = made("untargeted-attack", tmp_path / "mine", program)
    result = local_test.test_submission(folder, sandbox="process", images=2, report=silent)
    assert result.passed
    assert [outcome.queries for outcome in result.outcomes] == [1000, 1000]
    assert all(outcome.success for outcome in result.outcomes)


def test_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wanted 1 or more"):
        local_test.test_submission(tmp_path, sandbox="process", images=0)


def test_a_folder_that_is_no_submission_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no tiltyard\.toml"):
        local_test.test_submission(tmp_path, sandbox="process")


def _fails(folder: Path, reason: str) -> None:
    lines: list[str] = []
    result = local_test.test_submission(folder, sandbox="process", images=2, report=lines.append)
    assert not result.passed
    assert re.search(reason, str(result.reason)), result.reason
    assert f"failed: {result.reason}" in lines
    assert result.outcomes == ()
