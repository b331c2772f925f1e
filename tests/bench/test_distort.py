"""`bench.distort`, `bench.distorting`, their page and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from bench.cli import app
from bench.datasets.types import Dataset
from bench.distort import Answers, Distorted, distort, entropy
from bench.distortions import load, seeds
from bench.errors import UserError
from bench.reports import distortions as page
from bench.reports.levels import Line, accuracy_block, level_chart


def data_of(values: list[float], channels: int = 1) -> Dataset:
    """Even images of these grey values; a value's class is 1 if it is above a half."""
    pixels = np.zeros((len(values), 8, 8, channels), np.uint8)
    pixels += (255 * np.array(values)).round().astype(np.uint8)[:, None, None, None]
    labels = (np.array(values) > 0.5).astype(np.int64)
    return Dataset(
        name="even",
        split="test",
        ids=tuple(f"even/{n}" for n in range(len(values))),
        pixels=pixels,
        labels=labels,
        class_names=("dark", "light"),
    )


class Brightness:
    """Class 1 where the mean is above 0.6."""

    bounds = (0.0, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0.6 - mean, mean - 0.6], dim=1)


def asked(**options: Any) -> Distorted:
    return distort(
        Brightness(), data_of([0.1, 0.4, 0.7, 1.0]), [load("contrast")], name="b", **options
    )


def test_accuracy_falls_as_the_models_own_rule_says() -> None:
    """At contrast c the value v becomes (1 - c) / 2 + c v; light is what stays above 0.6."""
    score = asked().scores()[0]
    assert [level.level for level in score.levels] == ["100", "50", "30", "15", "10", "5", "3", "1"]
    assert [level.accuracy for level in score.levels[:3]] == [1.0, 0.75, 0.75]
    assert score.levels[-1].accuracy == 0.5
    assert score.levels[-1].entropy == 0.0
    assert score.levels[0].entropy == 1.0
    assert score.levels[0].interval[0] < 1.0 == score.levels[0].interval[1]
    assert score.mean_accuracy == pytest.approx(np.mean([x.accuracy for x in score.levels]))


def test_chosen_levels_are_labels_or_numbers() -> None:
    found = asked(levels=["50", "0.42"])
    assert [(a.level, a.value) for a in found.answers] == [("50", 0.5), ("0.42", 0.42)]
    with pytest.raises(UserError, match="no level 'strong'; wanted a number, or one of 100, 50"):
        asked(levels=["strong"])


def test_answers_do_not_depend_on_the_batch_and_are_those_of_the_distortion() -> None:
    data = data_of([0.2, 0.5, 0.55, 0.7, 0.8])
    whole, single = (
        distort(Brightness(), data, [load("uniform-noise")], name="b", batch_size=size)
        for size in (64, 2)
    )
    assert whole == single
    images = load("uniform-noise")(data.images, 0.9, seeds(data.ids))
    assert whole.answers[-1].predicted == tuple(Brightness()(images).argmax(1).tolist())


def test_the_facts_come_back_from_their_folder(tmp_path: Path) -> None:
    found = distort(
        Brightness(), data_of([0.2, 0.8]), [load("high-pass"), load("rotation")], name="b"
    )
    found.write(tmp_path)
    assert Distorted.load(tmp_path) == found
    assert math.isinf(Distorted.load(tmp_path).answers[0].value)


@pytest.mark.parametrize("damage", ["{", '{"version": 7}', '{"version": 1, "answers": []}'])
def test_damaged_facts_are_refused_with_a_reason(tmp_path: Path, damage: str) -> None:
    with pytest.raises(UserError, match="there is no"):
        Distorted.load(tmp_path)
    (tmp_path / "distortions.json").write_text(damage)
    with pytest.raises(UserError, match="can't read"):
        Distorted.load(tmp_path)


def test_distortions_of_colour_are_left_out_for_grey_images_and_it_is_said() -> None:
    both = [load("colour"), load("rotation")]
    found = distort(Brightness(), data_of([0.2, 0.8]), both, name="b")
    assert found.skipped == {"colour": "even has no colour"}
    assert {a.distortion for a in found.answers} == {"rotation"}
    with pytest.raises(UserError, match="even is grey, and colour would leave"):
        distort(Brightness(), data_of([0.2]), both[:1], name="b")
    coloured = distort(Brightness(), data_of([0.2, 0.8], channels=3), both, name="b")
    assert not coloured.skipped


def test_a_distortion_and_its_variant_are_told_apart_and_one_twice_is_refused() -> None:
    both = [load("phase-noise"), load("phase-noise:symmetric=true")]
    found = distort(Brightness(), data_of([0.2, 0.8]), both, name="b", levels=["90"])
    assert [score.name for score in found.scores()] == [
        "phase-noise",
        "phase-noise:symmetric=true",
    ]
    names = {load(f"eidolon:coherence={c},grain={g}").name for c in (0.3, 0.5) for g in (10, 5)}
    assert len(names) == 4
    assert "eidolon-ii" in names
    with pytest.raises(UserError, match="rotation is asked for twice"):
        distort(Brightness(), data_of([0.2]), [load("rotation")] * 2, name="b")


def test_a_model_with_narrower_bounds_is_refused() -> None:
    class Narrow(Brightness):
        bounds = (0.2, 1.0)

    with pytest.raises(UserError, match=r"takes images in \[0.2, 1\]; wanted all of \[0, 1\]"):
        distort(Narrow(), data_of([0.2]), [load("rotation")], name="n")


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="no images to distort"):
        distort(Brightness(), data_of([]), [load("rotation")], name="b")


def test_power_equalisation_averages_over_the_references_not_the_images_asked() -> None:
    data = data_of([0.2, 0.8])
    seen: list[Tensor] = []

    class Remembers(Brightness):
        def __call__(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().__call__(images)

    distort(
        Remembers(),
        data.take(1),
        [load("power-equalisation")],
        name="b",
        levels=["equalised"],
        references=data,
    )
    assert float(seen[0].mean()) == pytest.approx((51 + 204) / 2 / 255, abs=1e-5)


def test_entropy_is_shannons() -> None:
    assert entropy([3, 3, 3]) == 0.0
    assert entropy([0, 1, 2, 3]) == 2.0
    assert entropy([0, 0, 0, 1]) == pytest.approx(0.811278, abs=1e-6)


def test_the_page_has_each_distortion_with_its_numbers() -> None:
    found = distort(
        Brightness(), data_of([0.2, 0.8]), [load("rotation"), load("contrast")], name="b<1>"
    )
    text = page.render([found])
    assert "b&lt;1&gt;" in text
    for heading in ("Rotation", "Contrast", "contrast in %", "chance 50.0 %", "angle in degrees"):
        assert heading in text
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_chart_names_axis_unit_chance_band_and_lines() -> None:
    lines = (
        Line("humans", (0.9, 0.5, None), (0.8, 0.4, 0.1), (1.0, 0.6, 0.2)),
        Line("network", (0.8, 0.2, 0.1)),
    )
    block = accuracy_block(
        "Noise", lines, ["0", "0.1", "0.9"], "noise width", chance=1 / 16, caption="c"
    )
    for text in ("noise width", "accuracy", "chance 6.2 %", "humans", "network", "0.9"):
        assert text in block.svg
    assert block.columns == ("humans", "humans, range", "network")
    assert block.rows[1] == ("0.1", ["50.0 %", "40.0 % to 60.0 %", "20.0 %"])
    assert block.rows[2][1][0] == "\N{EN DASH}"
    drawn = level_chart(
        lines,
        ("0", "0.1", "0.9"),
        "w",
        y_title="accuracy",
        top=1.0,
        reference=("chance", 0.1),
        shares=True,
        title="t",
    )
    without = level_chart(
        (Line("humans", lines[0].values), lines[1]),
        ("0", "0.1", "0.9"),
        "w",
        y_title="accuracy",
        top=1.0,
        reference=("chance", 0.1),
        shares=True,
        title="t",
    )
    assert drawn.count('opacity="0.22"') == 1
    assert 'opacity="0.22"' not in without


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["distort", *arguments])


SMALL = ("--model", "small_cnn", "--dataset", "mnist5k", "--images", "20")


def test_the_command_prints_tables_and_writes_facts_and_page(tmp_path: Path) -> None:
    out = tmp_path / "facts"
    done = run(*SMALL, "--distortion", "rotation", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "Rotation (mnist5k, 20 images)" in done.output
    assert "chance: 10.0%" in done.output
    assert (out / "report.html").is_file()
    stored = Distorted.load(out)
    assert stored.model == "small_cnn"
    assert f"{stored.mean_accuracy:.1%}" in done.output
    again = run(*SMALL, "--distortion", "rotation", "--out", str(out))
    assert "is not empty" in str(again.exception)


def test_the_command_prints_json_for_all_distortions() -> None:
    done = run(*SMALL, "--model", "small_cnn:training=pgd", "--levels", "0", "--json")
    assert done.exit_code == 0, done.output
    documents = json.loads(done.output)
    assert [d["model"] for d in documents] == ["small_cnn", "small_cnn:training=pgd"]
    assert set(documents[0]["skipped"]) == {"colour", "opponent-colour"}
    assert len(documents[0]["distortions"]) == 11
    assert documents[0]["chance"] == 0.1
    assert documents[0]["images"] == 20


def test_the_command_names_what_it_does_not_know() -> None:
    assert "did you mean rotation" in str(run(*SMALL, "--distortion", "rotatoin").exception)
    assert "no model is called" in str(run("--model", "nonsense").exception)


def test_answers_are_compared_with_their_labels() -> None:
    facts = Distorted(
        model="m",
        dataset="d",
        split="test",
        seed=0,
        classes=4,
        ids=("a", "b"),
        labels=(1, 2),
        answers=(
            Answers(distortion="x", title="X", unit="", level="0", value=0, predicted=(1, 1)),
            Answers(distortion="y", title="Y", unit="", level="0", value=0, predicted=(1, 2)),
            Answers(distortion="y", title="Y", unit="", level="1", value=1, predicted=(0, 0)),
        ),
        skipped={},
        versions={},
    )
    assert [score.mean_accuracy for score in facts.scores()] == [0.5, 0.5]
    assert facts.mean_accuracy == 0.5
