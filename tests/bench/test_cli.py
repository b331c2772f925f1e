"""The command line as a user meets it: real processes, real data, real models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Any

MODEL = '''"""Dark or bright."""
import numpy as np

class Bright:
    def predict(self, images):
        return (images.mean(axis=(1, 2, 3)) > 60).astype(np.int64)

def create(*, width: int = 3):
    return Bright()
'''

PLAY = (
    "play",
    "--model",
    "small_cnn",
    "--attack",
    "gaussian_noise",
    "--images",
    "4",
    "--quantised",
)


def test_play_prints_a_table_and_writes_the_facts(tiltyard: Command) -> None:
    done = tiltyard(*PLAY, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "small_cnn" in done.stdout
    assert "gaussian_noise" in done.stdout
    lines = (tiltyard.folder / "run" / "outcomes.jsonl").read_text().splitlines()
    assert len(lines) == 4
    first = json.loads(lines[0])
    assert {"image_id", "clean_label", "predicted", "clean_correct", "success", "distance"} <= set(
        first
    )
    assert {"queries", "seconds", "adversarial", "trace"} <= set(first)


def test_play_json_is_one_document_with_the_promised_fields(tiltyard: Command) -> None:
    done = tiltyard(*PLAY, "--max-queries", "40", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"run", "score", "outcomes"}
    promised = {"id", "model", "attack", "dataset", "norm", "epsilon", "max_queries", "seed"}
    assert promised | {"versions"} <= set(document["run"])
    assert document["run"]["max_queries"] == 40
    score = {"n", "clean_accuracy", "robust_accuracy", "median_distance", "interval"}
    assert score | {"mean_queries", "warnings"} <= set(document["score"])
    assert document["score"]["mean_queries"] <= 40
    assert (tiltyard.folder / document["outcomes"]).is_file()


def test_several_models_and_attacks_are_the_whole_matrix(tiltyard: Command) -> None:
    (tiltyard.folder / "mine.py").write_text(MODEL)
    done = tiltyard(
        "play", "--model", "small_cnn", "--model", "mine.py", "--attack", "gaussian_noise",
        "--attack", "salt_and_pepper", "--images", "2", "--max-queries", "20", "--out", "all",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pairs = {(d["run"]["model"], d["run"]["attack"]) for d in json.loads(done.stdout)}
    assert len(pairs) == 4
    scored = tiltyard("score", "all", "--json")
    assert len(json.loads(scored.stdout)) == 4


def test_scoring_a_folder_again_gives_the_same_score(tiltyard: Command) -> None:
    played = tiltyard(*PLAY, "--out", "run", "--json")
    scored = tiltyard("score", "run", "--json")
    assert json.loads(scored.stdout)["score"] == json.loads(played.stdout)["score"]


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    tiltyard: Command, tmp_path: Path
) -> None:
    arguments = (
        "play", "--model", "small_cnn", "--attack", "boundary", "--images", "16",
        "--max-queries", "150", "--batch-size", "4",
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "server.cli", *arguments, "--out", "killed"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    lines = tmp_path / "killed" / "outcomes.jsonl"
    while not (lines.exists() and lines.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines.read_bytes().count(b"\n")
    assert before < 16
    refused = tiltyard(*arguments, "--out", "killed")
    assert refused.returncode == 2
    assert "add --resume" in refused.stderr
    resumed = tiltyard(*arguments, "--out", "killed", "--resume", "--json")
    whole = tiltyard(*arguments, "--out", "whole", "--json")
    assert json.loads(resumed.stdout)["score"] == json.loads(whole.stdout)["score"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("play", "--model", "smal_cnn", "--attack", "boundary"), "did you mean small_cnn"),
        (("play", "--model", "small_cnn", "--attack", "bondary"), "did you mean boundary"),
        (("play", "--model", "small_cnn", "--attack", "boundary", "-A", "step=3"),
         "no parameter 'step'; did you mean 'steps'"),
        (("play", "--model", "small_cnn", "--attack", "boundary", "-A", "steps"), "key=value"),
        (("play", "--model", "small_cnn", "--attack", "boundary", "--dataset", "mnist5"),
         "did you mean"),
        (("play", "--model", "small_cnn", "--attack", "boundary", "--images", "1001"),
         "lower --images"),
        (("play", "--model", "small_cnn", "--attack", "foolbox:LinfPGD"), "give --epsilon"),
        (("play", "--model", "small_cnn", "--attack", "boundary", "--resume"), "add --out"),
        (("play", "--model", "none.py", "--attack", "boundary"), "there is no file"),
        (("score", "nowhere"), "there is no run"),
        (("play", "--model", "small_cnn", "--attack", "boundary", "--out", "/proc/nowhere"),
         "can't use /proc/nowhere"),
        (("train", "no_such_model", "--dataset", "mnist5k"), "no_such_model"),
    ],
)  # fmt: skip
def test_the_users_mistake_is_one_line_and_exit_code_2(
    tiltyard: Command, arguments: tuple[str, ...], message: str
) -> None:
    done = tiltyard(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_fault_of_ours_shows_its_traceback_and_is_exit_code_3(tiltyard: Command) -> None:
    (tiltyard.folder / "broken.py").write_text(MODEL.replace("> 60", "> 60 + undefined"))
    done = tiltyard("play", "--model", "broken.py", "--attack", "boundary", "--images", "1")
    assert done.returncode == 3
    assert "undefined" in done.stderr


def test_list_names_every_plug_in_and_its_parameters(tiltyard: Command) -> None:
    done = tiltyard("list", "attacks", "--json")
    found = {plugin["name"]: plugin for plugin in json.loads(done.stdout)}
    assert "steps" in found["boundary"]["parameters"]
    for kind in ("models", "datasets", "tracks"):
        assert tiltyard("list", kind).returncode == 0


def test_help_imports_neither_torch_nor_numpy(tiltyard: Command) -> None:
    code = (
        "import sys\nsys.argv = ['tiltyard', '--help']\n"
        "from server.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'fastapi', 'docker'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "play" in done.stdout


def test_a_report_of_a_run_is_one_file(tiltyard: Command) -> None:
    assert tiltyard(*PLAY, "--out", "run").returncode == 0
    done = tiltyard("report", "run", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    page = (tiltyard.folder / "page.html").read_text()
    assert "small_cnn" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert 'src="https' not in page


def test_the_adversarials_in_a_run_folder_fool_the_model_again(tiltyard: Command) -> None:
    import bench
    import models
    from bench.adapters import to_images

    assert tiltyard(*PLAY, "--out", "run").returncode == 0
    model = models.create("small_cnn", dataset="mnist5k")
    data = bench.dataset("mnist5k").take(4)
    for line in (tiltyard.folder / "run" / "outcomes.jsonl").read_text().splitlines():
        fact = json.loads(line)
        if not fact["success"]:
            continue
        image = np.load(tiltyard.folder / "run" / fact["adversarial"]["path"], allow_pickle=False)
        clean = data.pixels[data.ids.index(fact["image_id"])]
        assert image.dtype == np.uint8
        assert int(model(to_images(image[None])).argmax()) != fact["clean_label"]
        length = np.linalg.norm((image.astype(float) - clean) / 255)
        assert length == pytest.approx(fact["distance"], rel=1e-4)


def test_every_command_has_a_heading_in_the_documents() -> None:
    import server.cli  # adds its commands to the same application
    from bench.cli import app

    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
    assert server.cli.main.__doc__
    names = [command.name or "" for command in app.registered_commands]
    names = [
        name or str(command.callback and command.callback.__name__)
        for name, command in zip(names, app.registered_commands, strict=True)
    ]
    names += [str(group.name) for group in app.registered_groups]
    assert len(names) > 10
    for name in names:
        assert f"\n## {name}\n" in page
