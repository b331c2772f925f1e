from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.checks import Finding
from bench.errors import UserError
from bench.match import Outcome
from bench.runs import Run, RunConfig, find_runs

CONFIG = RunConfig(
    model="m", attack="a", dataset="mnist5k", split="test", images=3, norm="l2", epsilon=None,
    max_queries=None, targeted=False, quantised=True, access="decision", seed=0, batch_size=2,
    versions={},
)  # fmt: skip


def outcome(image_id: str) -> Outcome:
    return Outcome(
        image_id=image_id, clean_label=1, predicted=1, clean_correct=True, target=None,
        success=True, distance=0.5, distances={"l2": 0.5}, queries=3, gradients=0, seconds=0.1,
        status="success", reason=None, trace=((1, 0.9), (3, 0.5)), adversarial_label=7,
        image=torch.full((1, 2, 2), 51 / 255),
    )  # fmt: skip


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    run = Run.start(tmp_path / "run", CONFIG)
    run.append([outcome("x"), outcome("y")])
    loaded = Run.load(tmp_path / "run")
    assert loaded.config == CONFIG
    assert loaded.done == {"x", "y"}
    assert [o.to_json() for o in loaded.outcomes] == [o.to_json() for o in run.outcomes]


def test_an_adversarial_lies_where_its_line_says_with_its_digest(tmp_path: Path) -> None:
    import hashlib

    run = Run.start(tmp_path, CONFIG)
    run.append([outcome("x")])
    line = json.loads((tmp_path / "outcomes.jsonl").read_text())
    path = tmp_path / line["adversarial"]["path"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == line["adversarial"]["sha256"]
    image = np.load(path, allow_pickle=False)
    assert (image.shape, image.dtype) == ((2, 2, 1), np.uint8)
    assert (image == 51).all()


def test_a_torn_last_line_is_dropped_and_the_run_goes_on(tmp_path: Path) -> None:
    Run.start(tmp_path, CONFIG).append([outcome("x"), outcome("y")])
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    resumed = Run.resume(tmp_path, CONFIG)
    assert resumed.done == {"x"}
    resumed.append([outcome("y"), outcome("z")])
    assert [o.image_id for o in Run.load(tmp_path).outcomes] == ["x", "y", "z"]


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path: Path) -> None:
    Run.start(tmp_path, CONFIG)
    with pytest.raises(UserError, match="holds a run already; add --resume"):
        Run.start(tmp_path, CONFIG)


def test_another_run_in_the_folder_is_named_by_what_differs(tmp_path: Path) -> None:
    Run.start(tmp_path, CONFIG)
    with pytest.raises(UserError, match="seed: 0 there, 1 now"):
        Run.resume(tmp_path, replace(CONFIG, seed=1))


def test_the_id_changes_with_what_decides_the_result_and_with_nothing_else() -> None:
    assert replace(CONFIG, seed=1).id != CONFIG.id
    assert replace(CONFIG, batch_size=5, versions={"torch": "9"}).id == CONFIG.id


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "{", "is not JSON"),
        ("run.json", '{"colour": 1}', "is not a run of this version"),
        ("outcomes.jsonl", "nonsense\n", "line 1 can't be read"),
        ("checks.json", "[]", "checks.json can't be read: .*; remove it and play again"),
        ("checks.json", '{"checks": [{"colour": 1}]}', "checks.json can't be read"),
    ],
)
def test_a_damaged_folder_is_named_with_the_file_and_the_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    Run.start(tmp_path, CONFIG)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        Run.load(tmp_path)


def test_checks_are_kept_beside_the_facts_and_the_last_ones_stand(tmp_path: Path) -> None:
    finding = Finding(name="noise", ok=False, measured=0.5, limit=0.0, text="noise fools")
    run = Run.start(tmp_path, CONFIG)
    assert Run.load(tmp_path).checks == ()
    run.keep_checks([finding, finding])
    run.keep_checks([finding])
    assert Run.load(tmp_path).checks == run.checks == (finding,)
    written = json.loads((tmp_path / "checks.json").read_text())
    assert written == {"checks": [finding.to_json()]}


def test_facts_from_before_the_adversarial_label_was_kept_are_read(tmp_path: Path) -> None:
    Run.start(tmp_path, CONFIG).append([outcome("x")])
    path = tmp_path / "outcomes.jsonl"
    line = json.loads(path.read_text())
    assert line.pop("adversarial_label") == 7
    path.write_text(json.dumps(line) + "\n")
    (old,) = Run.load(tmp_path).outcomes
    assert old.adversarial_label is None
    assert replace(old, adversarial_label=7) == replace(outcome("x"), adversarial=old.adversarial)


def test_an_adversarial_is_read_back_only_where_it_is_the_one_that_was_measured(
    tmp_path: Path,
) -> None:
    run = Run.start(tmp_path / "run", CONFIG)
    run.append([outcome("x")])
    (kept,) = run.outcomes
    assert (run.adversarial(kept) == 51).all()
    with pytest.raises(ValueError, match="no adversarial of y is stored"):
        run.adversarial(replace(outcome("y"), image=None))
    escaping = replace(kept, adversarial={"path": "../x.npy", "sha256": ""})
    with pytest.raises(ValueError, match="names a file outside of the run folder"):
        run.adversarial(escaping)
    (tmp_path / "run" / "adversarials" / "x.npy").write_bytes(b"changed")
    with pytest.raises(ValueError, match="is not the file that was measured"):
        run.adversarial(kept)


def test_what_came_from_the_cache_is_counted_and_not_written(tmp_path: Path) -> None:
    run = Run.start(tmp_path, CONFIG)
    run.append([outcome("x"), replace(outcome("y"), cached=True)])
    assert run.cached == 1
    assert "cached" not in (tmp_path / "outcomes.jsonl").read_text()
    assert Run.load(tmp_path).cached == 0


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run in"):
        find_runs(tmp_path)
    Run.start(tmp_path / "b", CONFIG)
    Run.start(tmp_path / "a", CONFIG)
    assert [path.name for path in find_runs(tmp_path)] == ["a", "b"]
