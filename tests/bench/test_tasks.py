"""Models that are no classifiers: texture segmentation, attacked, distorted, measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bench
from bench.cli import app
from bench.datasets import task_set
from bench.distortions import load
from bench.errors import UserError
from bench.plugins import load_model
from bench.tasks.attacking import Ascent, Surface, attacked, noisy, radius_in_pixels, smallest
from bench.tasks.distorting import left_out
from bench.tasks.facing import measure
from bench.tasks.facts import FACTS_FILE, Found
from bench.tasks.playing import Plan, load_task, play_task
from bench.textures import (
    HELD_OUT,
    TRAINING,
    draw_collages,
    equalise,
    folder_bank,
    make_bank,
    photograph_bank,
)
from bench.textures.statistics import segment
from models.errors import UsageError
from models.texture_seg import balanced_loss, correlate, create

QUICK = Ascent(steps=5, restarts=1, bisections=3)


def test_every_family_has_the_same_grey_histogram() -> None:
    bank = make_bank([*TRAINING, *HELD_OUT], each=1, seed=3, side=64)

    assert len(bank) == len(TRAINING) + len(HELD_OUT)
    even = torch.linspace(0, 1, 64 * 64)
    assert (bank.flatten(1).sort(1).values - even).abs().max() < 1e-6


def test_families_that_are_tested_on_are_not_trained_on() -> None:
    assert not set(TRAINING) & set(HELD_OUT)


def test_an_instance_does_not_depend_on_what_else_is_made() -> None:
    alone = make_bank(["weave"], each=1, seed=5, side=64)
    assert torch.equal(alone[0], make_bank(["dots", "weave"], each=2, seed=5, side=64)[2])


def test_an_unknown_family_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match="no texture family 'tartan'; there are bricks"):
        make_bank(["tartan"], each=1, seed=0)


def test_equalised_values_keep_their_order() -> None:
    field = np.random.default_rng(0).standard_normal((8, 8))
    ranks = equalise(field, np.random.default_rng(1))
    assert (ranks.ravel().argsort() == field.ravel().argsort()).all()


def test_a_mask_is_where_the_scene_shows_the_texture() -> None:
    flat = torch.stack([torch.full((80, 80), value) for value in (0.1, 0.5, 0.9)])
    drawn = draw_collages(flat, 5, generator=torch.Generator().manual_seed(0))

    shown = drawn.scenes == drawn.references[:, :, :1, :1]
    assert torch.equal(shown, drawn.masks)
    assert drawn.masks.any((1, 2, 3)).all()
    assert not drawn.masks.all((1, 2, 3)).any()


def test_a_single_texture_makes_no_collage() -> None:
    with pytest.raises(UserError, match=r"got 1 textures .* needs at least 2"):
        draw_collages(torch.zeros(1, 80, 80), 1, generator=torch.Generator())


def test_photographs_are_three_and_cut_into_tiles() -> None:
    bank = photograph_bank(side=64)
    assert bank.shape[0] == 3
    assert bank.shape[2:] == (64, 64)
    assert bank.shape[1] == 16


def test_a_folder_of_photographs_is_read_with_its_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("banded/one.png", "dotted/two.jpg"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(rng.integers(0, 256, (170, 200, 3), dtype=np.uint8)).save(tmp_path / name)
    assert folder_bank(tmp_path).shape == (2, 160, 160)

    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="30 x 20 pixels; a texture needs 160 x 160"):
        folder_bank(tmp_path)
    (tmp_path / "small.png").write_text("no picture")
    with pytest.raises(UserError, match=r"small\.png is not a picture"):
        folder_bank(tmp_path)


def test_an_empty_or_missing_folder_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds 0 pictures"):
        folder_bank(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        folder_bank(tmp_path / "none")


def test_the_split_folder_reads_the_users_textures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTYARD_DATA", str(tmp_path))
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="there is no folder of textures"):
        task_set("texture-collages", "folder")
    (tmp_path / "textures").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (160, 160), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "textures" / f"{number}.png")
    assert len(task_set("texture-collages", "folder")) == 60


def test_samples_are_the_same_every_time_and_have_eight_bits() -> None:
    first, again = task_set("texture-collages"), task_set("texture-collages")
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.targets["mask"], again.targets["mask"])
    assert ((first.images * 255) - (first.images * 255).round()).abs().max() < 1e-4


def test_classes_and_tasks_are_not_mixed_up() -> None:
    with pytest.raises(UserError, match="holds a task's samples"):
        bench.dataset("texture-collages")
    with pytest.raises(UserError, match="holds images of classes"):
        task_set("digits")
    with pytest.raises(UserError, match="is a classifier"):
        load_task("small_cnn", {}, "mnist5k")
    with pytest.raises(UserError, match="`tiltyard task` attacks"):
        load_model("texture_seg", dataset="texture-collages")


def test_correlation_of_a_texture_with_itself_is_one_in_the_middle() -> None:
    embedding = torch.zeros(1, 4, 16, 16)
    embedding[:, 2] = 1
    assert correlate(embedding, embedding)[0, 0, 8, 8] == pytest.approx(1)


def test_a_small_region_weighs_as_much_as_the_rest() -> None:
    mask = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    mask[..., 0, 0] = True
    everywhere = balanced_loss(torch.full((1, 1, 10, 10), 5.0), mask)
    nowhere = balanced_loss(torch.full((1, 1, 10, 10), -5.0), mask)
    assert everywhere.item() == pytest.approx(nowhere.item(), rel=1e-5)


def test_what_does_not_fit_the_network_is_refused() -> None:
    model = create(tiny=True)
    with pytest.raises(UsageError, match="multiples of 8"):
        model.answer(torch.zeros(1, 1, 63, 64), torch.zeros(1, 1, 32, 32))
    with pytest.raises(UsageError, match="got 2 scenes and 1 references"):
        model.answer(torch.zeros(2, 1, 64, 64), torch.zeros(1, 1, 32, 32))
    with pytest.raises(UsageError, match="needs a reference"):
        model.answer(torch.zeros(1, 1, 64, 64), None)


def test_iou_counts_pixels() -> None:
    model = create(tiny=True)
    found = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    wanted = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    answers, targets = {"mask": found.view(2, 1, 2, 2)}, {"mask": wanted.view(2, 1, 2, 2)}
    assert model.quality(answers, targets).tolist() == [pytest.approx(1 / 3), 1.0]
    assert model.success(answers, targets).tolist() == [True, False]


def test_the_shipped_network_uses_its_reference() -> None:
    samples = task_set("texture-collages", "new").rows(0, 20)
    found = measure(create(), samples)
    everywhere = torch.ones_like(samples.targets["mask"])
    trivial = float(create().quality({"mask": everywhere}, samples.targets).mean())
    assert found.figure > 0.55
    assert found.chance < trivial < found.figure


def test_local_statistics_find_textures_that_differ_in_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = torch.rand(1, 1, 64, 64, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(scene, 9, 1, 4)
    scene[..., 32:] = ((smooth - 0.5) * 8 + 0.5).clamp(0, 1)[..., 32:]
    found = segment(scene, scene[..., :32, :32])
    assert found[..., 4:-4, :24].float().mean() > 0.9
    assert found[..., 4:-4, 40:].float().mean() < 0.1


@pytest.mark.parametrize("surface", ["scene", "both"])
def test_an_attack_through_the_surrogate_beats_noise_by_far(surface: Surface) -> None:
    samples, model = task_set("texture-collages", "new").rows(0, 10), create()
    clean = measure(model, samples).figure
    epsilon = 8 / 255
    found = attacked(
        model,
        samples,
        norm="linf",
        epsilon=torch.full((10,), epsilon),
        surface=surface,
        ascent=QUICK,
        seed=0,
    )
    control = noisy(
        model,
        samples,
        norm="linf",
        epsilon=epsilon,
        surface=surface,
        seed=0,
    )
    assert (found.images - samples.images).abs().max() <= epsilon + 1e-6
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    drop = clean - float(found.qualities.mean())
    assert drop > 0.05
    assert drop > 10 * (clean - float(control.qualities.mean()))


def test_an_attack_on_the_reference_leaves_the_scene_alone() -> None:
    samples, model = task_set("texture-collages", "new").rows(0, 4), create()
    found = attacked(
        model,
        samples,
        norm="l2",
        epsilon=torch.full((4,), 1.0),
        surface="reference",
        ascent=QUICK,
        seed=0,
    )
    assert found.contexts is not None
    assert samples.contexts is not None
    assert torch.equal(found.images, samples.images)
    length = (found.contexts - samples.contexts).flatten(1).norm(dim=1)
    assert length.max() <= radius_in_pixels("l2", 1.0, 32 * 32) + 1e-5


def test_the_smallest_radius_is_zero_where_the_clean_answer_is_broken() -> None:
    samples, model = task_set("texture-collages", "new").rows(0, 8), create()
    broken = measure(model, samples).broken
    radii = smallest(
        model, samples, norm="linf", surface="scene", largest=32 / 255, ascent=QUICK, seed=0
    )
    assert torch.equal(radii == 0, broken)
    assert radii[~broken].isfinite().any()


def test_distortions_that_move_pixels_are_left_out_with_the_reason() -> None:
    samples = task_set("texture-collages")
    assert "targets would have to move" in str(left_out(load("rotation"), samples))
    assert "targets would have to move" in str(left_out(load("eidolon:coherence=1.0"), samples))
    assert left_out(load("colour"), samples) == "the images are grey"
    assert left_out(load("contrast"), samples) is None


def test_facts_survive_the_folder_and_scores_come_from_them(tmp_path: Path) -> None:
    plan = Plan(
        model="texture_seg",
        dataset="texture-collages",
        samples=4,
        norms=("linf",),
        surfaces=("scene",),
        distortions=("contrast", "rotation"),
        ascent=Ascent(steps=2, restarts=1, bisections=1),
    )
    found = play_task(plan)
    found.write(tmp_path)

    again = Found.load(tmp_path)
    assert again == found
    rows = {(row.kind, row.level): row for row in again.rows()}
    assert rows["clean", ""].retention == 1
    assert rows["chance", ""].retention == 0
    assert set(again.skipped) == {"rotation"}
    assert {level for kind, level in rows if kind == "noise"} == {
        "1/255",
        "2/255",
        "4/255",
        "8/255",
    }
    (tmp_path / FACTS_FILE).write_text("{}\n")
    with pytest.raises(UserError, match="can't read the facts"):
        Found.load(tmp_path)


def test_the_command_prints_one_document_and_writes_a_page(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    out = tmp_path / "facts"
    arguments = ["task", "--model", "texture_seg", "--dataset", "texture-collages", "--images", "3"]
    arguments += ["--steps", "1", "--restarts", "1", "--no-minimal", "--surface", "scene"]
    done = CliRunner().invoke(app, [*arguments, "--norm", "l2", "--json", "--out", str(out)])

    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["measure"] == "IoU"
    assert {row["kind"] for row in document["rows"]} == {"clean", "chance", "attack", "noise"}
    assert "l2 on scene" in (out / "report.html").read_text()
