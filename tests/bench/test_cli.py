"""The command line as a user meets it: real processes, real data, real models."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.errors import UserError

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
    assert set(document) == {"run", "score", "outcomes", "cached"}
    promised = {"id", "model", "attack", "dataset", "norm", "epsilon", "max_queries", "seed"}
    assert promised | {"versions"} <= set(document["run"])
    assert document["run"]["max_queries"] == 40
    score = {"n", "clean_accuracy", "robust_accuracy", "median_distance", "interval"}
    score |= {"mean_queries", "warnings", "checks", "failures"}
    assert score <= set(document["score"])
    assert document["cached"] == 0
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
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TILTYARD_CACHE": str(tmp_path / "cache"),
        },
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
    resumed = json.loads(tiltyard(*arguments, "--out", "killed", "--resume", "--json").stdout)
    whole = json.loads(tiltyard(*arguments, "--out", "whole", "--no-cache", "--json").stdout)
    assert resumed["score"] == whole["score"]
    # A batch that was played to its end is kept whole, however many of its lines were written.
    assert before + resumed["cached"] >= -(-before // 4) * 4
    assert whole["cached"] == 0


def test_what_was_played_before_comes_from_the_cache_and_says_so(tiltyard: Command) -> None:
    first = tiltyard(*PLAY, "--out", "first")
    assert "from the cache" not in first.stdout
    second = tiltyard(*PLAY, "--out", "second")
    assert "4 of 4 images from the cache, --no-cache to play again" in second.stdout
    lines = [
        (tiltyard.folder / name / "outcomes.jsonl").read_text() for name in ("first", "second")
    ]
    assert lines[0] == lines[1]
    checks = [(tiltyard.folder / name / "checks.json").read_text() for name in ("first", "second")]
    assert checks[0] == checks[1]


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
        (("convert", "small_cnn", ".", "--out", "w.safetensors"), "can be converted; abs has"),
        (("convert", "abs", "none", "--out", "w.safetensors"), "wanted a folder with ABS_0.net"),
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


def test_published_weights_are_converted_and_play(
    inside: Callable[..., str], tmp_path: Path
) -> None:
    import torch

    from models.abs_vae.network import VAE

    (tmp_path / "exp").mkdir()
    for label in range(10):
        state = {name.capitalize(): tensor for name, tensor in VAE().state_dict().items()}
        torch.save(state, tmp_path / "exp" / f"ABS_{label}.net")

    printed = inside("convert", "abs", "exp", "--out", "abs.safetensors")

    assert printed.splitlines()[0] == "abs.safetensors"
    assert json.loads((tmp_path / "abs.json").read_text())["source"].startswith("exp: ")
    model = "abs:weights=abs.safetensors,samples=4"
    played = inside("play", "--model", model, "--attack", "gaussian_noise", "-A", "directions=1",
                    "--images", "1", "--no-checks", "--json")  # fmt: skip
    assert json.loads(played)["score"]["n"] == 1


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


SOFT = '''"""Probabilities."""
import models
import torch

class Soft(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = models.create("small_cnn").module
        self.random = False

    def forward(self, images):
        logits = self.network(images)
        return (logits + torch.rand_like(logits) if self.random else logits).softmax(1)

def create(*, random: bool = False):
    made = Soft()
    made.random = random
    return made
'''


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the command line in this process, which has loaded torch already: its stdout."""
    import server.cli  # adds its commands to the same application
    from bench.cli import app

    assert server.cli.main.__doc__
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "cache"))

    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return invoke


def test_checks_run_with_every_play_and_stand_beside_the_score_until_switched_off(
    inside: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "soft.py").write_text(SOFT)
    play = ("play", "--model", "soft.py", "--attack", "gaussian_noise", "--images", "3")
    shown = inside(*play, "--out", "shown")
    assert "note: soft.py x gaussian_noise: the outputs of 100.0% of the images are proba" in shown
    assert "checks" in shown
    document = json.loads(inside(*play, "--out", "run", "--json"))
    findings = {finding["name"]: finding for finding in document["score"]["checks"]}
    assert {"randomised", "rounding", "masked_gradients", "black_box"} <= set(findings)
    assert not findings["probabilities"]["ok"]
    assert findings["probabilities"]["text"] in document["score"]["warnings"]
    assert json.loads(inside("score", "run", "--json"))["score"] == document["score"]
    inside("report", "run", "--html", "page.html")
    assert findings["probabilities"]["text"] in html.unescape((tmp_path / "page.html").read_text())
    off = json.loads(inside(*play, "--out", "off", "--no-checks", "--json"))
    assert off["score"]["checks"] == []
    assert not (tmp_path / "off" / "checks.json").exists()
    inside("report", "off", "--html", "off.html")
    assert "The soundness checks were not run." in (tmp_path / "off.html").read_text()


def test_a_model_that_varies_or_that_cannot_be_told_by_content_is_not_cached_and_that_is_said(
    inside: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "soft.py").write_text(SOFT)
    (tmp_path / "drawn.py").write_text(
        MODEL.replace(
            "class Bright:", "class Bright:\n    drawn = np.random.default_rng(0)"
        ).replace(
            "return Bright()", "made = Bright()\n    made.own = Bright.drawn\n    return made"
        )
    )
    why = {
        "soft.py:random=true": "not cached: answers to the same images vary by",
        "drawn.py": "not cached: model.model.own is of type numpy.random",
    }
    for model, reason in why.items():
        play = ("play", "--model", model, "--attack", "gaussian_noise", "--images", "2")
        for turn in range(2):
            shown = inside(*play, "--max-queries", "5", "--out", f"{model[:4]}{turn}")
            assert reason in shown
            assert "from the cache" not in shown
    assert inside(*play, "--max-queries", "5", "--out", "again", "--no-checks").count("not cached")


def test_the_cache_is_bypassed_shown_and_cleared(
    inside: Callable[..., str], tmp_path: Path
) -> None:
    play = ("play", "--model", "small_cnn", "--attack", "gaussian_noise", "--images", "2", "--json")
    inside(*play, "--no-cache", "--no-checks", "--out", "a")
    assert json.loads(inside("cache", "info", "--json"))["entries"] == 0
    assert json.loads(inside(*play, "--no-checks", "--out", "b"))["cached"] == 0
    assert json.loads(inside(*play, "--no-cache", "--no-checks", "--out", "c"))["cached"] == 0
    assert json.loads(inside(*play, "--no-checks", "--out", "d"))["cached"] == 2
    known = json.loads(inside("cache", "info", "--json"))
    assert known["folder"] == str(tmp_path / "cache" / "results")
    assert known["entries"] >= 2
    assert f"{known['entries']} results" in inside("cache", "info")
    assert json.loads(inside("cache", "clear", "--json"))["cleared"] is True
    assert json.loads(inside("cache", "info", "--json"))["entries"] == 0
    assert json.loads(inside(*play, "--no-checks", "--out", "e"))["cached"] == 0


def test_failures_count_as_asked_and_the_policy_is_printed(inside: Callable[..., str]) -> None:
    play = ("play", "--model", "small_cnn", "--attack", "gaussian_noise", "--images", "3")
    played = json.loads(inside(*play, "--max-queries", "1", "--out", "run", "--json"))
    assert played["score"]["failures"] == "infinite"
    assert played["score"]["median_distance"] is None
    worst = json.loads(inside("score", "run", "--failures", "worst_case", "--json"))["score"]
    assert worst["failures"] == "worst_case"
    assert 14 < worst["median_distance"] < 28  # between half of the diagonal and all of it
    shown = inside("score", "run", "--failures", "worst_case", "--after", "1", "--after", "50")
    assert "failures: worst_case (an image that was not fooled counts as its farthest" in shown
    assert "after 50" in shown
    assert "failures: infinite" in inside("score", "run")
    again = json.loads(inside(*play, "--max-queries", "1", "--failures", "worst_case", "--json"))
    assert again["score"]["median_distance"] == worst["median_distance"]


def test_two_runs_are_compared_image_by_image(inside: Callable[..., str]) -> None:
    play = ("play", "--attack", "gaussian_noise", "--images", "6", "--no-checks", "--model")
    inside(*play, "small_cnn", "-A", "directions=1", "--out", "weak")
    inside(*play, "small_cnn", "-A", "directions=9", "--out", "strong")
    found = json.loads(inside("compare", "weak", "strong", "--json"))
    assert found["n"] == 6
    assert found["failures"] == "infinite"
    assert found["median_distance"]["difference"] <= 0
    assert found["farther"]["first"] + found["farther"]["second"] <= 6
    assert len(found["verdict"]) == 2
    shown = inside("compare", "weak", "strong")
    for line in found["verdict"]:
        assert line in shown
    assert "failures: infinite" in shown
    same = inside("compare", "weak", "weak")
    assert same.count("not separable") == 2
    inside("play", "--model", "small_cnn", "--attack", "gaussian_noise", "--images", "5",
           "--no-checks", "--out", "fewer")  # fmt: skip
    with pytest.raises(UserError, match="1 are in the first only, such as mnist5k-"):
        inside("compare", "weak", "fewer")
    with pytest.raises(UserError, match="there is no run in"):
        inside("compare", "weak", "nowhere")
    with pytest.raises(UserError, match="holds 3 runs, one is wanted; name its folder"):
        inside("compare", ".", "weak")


def test_the_number_of_threads_is_the_one_that_was_asked_for(
    inside: Callable[..., str], tmp_path: Path
) -> None:
    import torch

    (tmp_path / "mine.py").write_text(
        MODEL.replace("import numpy", "import torch\nimport numpy").replace(
            "return Bright()", "assert torch.get_num_threads() == 3\n    return Bright()"
        )
    )
    before = torch.get_num_threads()
    try:
        inside("play", "--model", "mine.py", "--attack", "gaussian_noise", "--images", "1",
               "--threads", "3")  # fmt: skip
    finally:
        torch.set_num_threads(before)


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
