"""Pose estimation: generated mice, DeepLabCut's layout, targets, decoding, attacks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bench.cli import app
from bench.datasets import task_set
from bench.datasets.task_sets import TaskSet
from bench.errors import UserError
from bench.poses import JOINTS, LABEL_SD, draw_mice, read_project
from bench.tasks.attacking import Ascent, Changed, attacked, noisy
from bench.tasks.facing import measure
from bench.tasks.facts import Found
from bench.tasks.playing import Plan, play_task
from bench.training.poses import PoseRecipe, fit, moved
from models.errors import UsageError
from models.pose import (
    OFFSET_SD,
    STRIDE,
    Network,
    PoseEstimator,
    build,
    cells,
    confident_error,
    create,
    decode,
    pose_loss,
)


def mice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perfect(joints: torch.Tensor, side: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """The maps that a network without error would give."""
    grid = cells(side // STRIDE, side // STRIDE)
    away = joints[:, :, None, None] - grid
    return 6 - away.norm(dim=-1), (away / OFFSET_SD).movedim(-1, 2)


def test_mice_are_whole_and_labelled_as_two_people_would() -> None:
    drawn = draw_mice(200, generator=mice(200))

    assert drawn.frames.shape == (200, 3, 96, 96)
    assert torch.equal((drawn.frames * 255).round() / 255, drawn.frames)
    assert (drawn.joints > 0).all()
    assert (drawn.joints < 96).all()
    between = (drawn.labels - drawn.second).norm(dim=-1).mean()
    assert float(between) == pytest.approx(LABEL_SD * math.sqrt(math.pi), rel=0.1)


def test_the_left_ear_is_left_of_the_way_the_mouse_looks() -> None:
    snout, left, right, base = draw_mice(50, generator=mice(50)).joints.unbind(1)
    assert JOINTS == ("snout", "leftear", "rightear", "tailbase")
    ahead, across = snout - base, right - left
    # y points down, so that a turn from ahead to the right is positive.
    assert (ahead[:, 0] * across[:, 1] - ahead[:, 1] * across[:, 0] > 0).all()


def changed(model: PoseEstimator, samples: TaskSet, *, radius: float, steps: int) -> Changed:
    return attacked(
        model,
        samples,
        norm="linf",
        epsilon=torch.full((len(samples),), radius),
        surface="scene",
        ascent=Ascent(steps=steps, restarts=1),
        seed=0,
    )


def test_maps_without_error_decode_to_the_joints() -> None:
    joints = draw_mice(5, generator=mice(5)).joints
    scores, offsets = perfect(joints)

    found = decode(scores, offsets)
    assert torch.allclose(found["joints"], joints, atol=1e-3)
    assert (found["likelihood"] > 0.5).all()
    rough = decode(scores, offsets, refined=False)["joints"]
    assert 1 < (rough - joints).norm(dim=-1).mean() < STRIDE


def test_the_loss_is_least_at_the_joints_and_blind_to_missing_ones() -> None:
    joints = draw_mice(3, generator=mice(3)).joints
    scores, offsets = perfect(joints)
    best = pose_loss(3 * scores, offsets, joints)
    assert (best < pose_loss(3 * scores, offsets, joints.roll(1, 1))).all()

    missing = joints.clone()
    missing[:, 2] = torch.nan
    changed = scores.clone()
    changed[:, 2] = torch.randn(changed[:, 2].shape)
    assert torch.equal(pose_loss(changed, offsets, missing), pose_loss(scores, offsets, missing))
    assert pose_loss(scores, offsets, torch.full_like(joints, torch.nan)).isfinite().all()


def test_the_losses_gradients_agree_with_differences() -> None:
    joints = draw_mice(1, generator=mice(1), side=32).joints
    scores = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(1, 4, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: pose_loss(a, b, joints.double()), (scores, offsets)
    )


@pytest.mark.parametrize(("height", "width"), [(96, 96), (120, 160)])
def test_joints_move_with_the_frame(height: int, width: int) -> None:
    frames = torch.zeros(20, 3, height, width)
    joints = torch.rand(20, 1, 2, generator=mice(0)) * 30 + 30
    for frame, ((x, y),) in zip(frames, joints.int().tolist(), strict=True):
        frame[:, y - 1 : y + 2, x - 1 : x + 2] = 1
    recipe = PoseRecipe(brightness=0, noise=0)
    images, places = moved(frames, joints.int() + 0.5, recipe, mice(0))

    mass = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    x = (mass.sum(1) * (torch.arange(width) + 0.5)).sum(1)
    y = (mass.sum(2) * (torch.arange(height) + 0.5)).sum(1)
    assert torch.allclose(torch.stack([x, y], -1), places[:, 0], atol=0.3)
    assert (places - joints).abs().max() > 5


def test_a_few_frames_are_learnt() -> None:
    drawn = draw_mice(4, generator=mice(4))
    torch.manual_seed(0)
    network = build()
    still = PoseRecipe(steps=60, rotation=0, smallest=1, largest=1, brightness=0, noise=0)
    before = PoseEstimator(network).answer(drawn.frames, None)["joints"]
    fit(network, drawn.frames, drawn.joints, still, seed=0)
    after = PoseEstimator(network).answer(drawn.frames, None)["joints"]

    assert (after - drawn.joints).norm(dim=-1).mean() < 3
    assert (before - drawn.joints).norm(dim=-1).mean() > 10


def test_the_shipped_network_is_as_good_as_its_card_says() -> None:
    samples = task_set("generated-mice")
    model = create()
    found = measure(model, samples)
    card = json.loads(
        (Path("models/checkpoints") / "pose-generated-mice-plain.json").read_text(encoding="utf-8")
    )

    assert found.figure == pytest.approx(card["quality"]["test"], abs=0.01)
    people = (samples.targets["joints"] - samples.targets["second"]).norm(dim=-1).mean()
    assert found.figure < 2 * people
    assert found.chance > 5 * found.figure
    answers = model.answer(samples.images, None)
    confident, kept = confident_error(answers, samples.targets)
    assert confident < found.figure
    assert kept > 0.9


def test_an_attack_moves_joints_far_more_than_noise_does() -> None:
    samples, model = task_set("generated-mice").rows(0, 20), create()
    hit = changed(model, samples, radius=8 / 255, steps=10)
    control = noisy(model, samples, norm="linf", epsilon=8 / 255, surface="scene", seed=0)

    assert (hit.images - samples.images).abs().max() <= 8 / 255 + 1e-6
    assert hit.qualities.mean() > 3 * control.qualities.mean()
    assert hit.broken.float().mean() > control.broken.float().mean()
    # Of an error, the larger is the worse.
    assert (hit.qualities >= measure(model, samples).qualities - 1e-3).all()


def test_a_joint_is_moved_to_a_chosen_place() -> None:
    samples, model = task_set("generated-mice").rows(0, 10), create()
    goal = torch.full((10, 4, 2), torch.nan)
    goal[:, 3] = samples.targets["joints"][:, 0]  # the base of the tail to the snout
    aimed = replace(samples, targets={**samples.targets, "goal": goal})
    hit = changed(model, aimed, radius=16 / 255, steps=20)
    away = (model.answer(hit.images, None)["joints"][:, 3] - goal[:, 3]).norm(dim=-1)
    assert float(away.median()) < 5


def test_an_error_has_its_own_scale_in_facts_and_page(tmp_path: Path) -> None:
    found = play_task(
        Plan(
            model="pose",
            dataset="generated-mice",
            samples=6,
            norms=("linf",),
            minimal=False,
            ascent=Ascent(steps=2, restarts=1),
        )
    )
    rows = {(row.kind, row.level): row for row in found.rows()}
    assert rows["clean", ""].retention == 1.0
    assert rows["chance", ""].retention == 0.0
    kept = rows["attack", "8/255"].retention
    assert kept is not None
    assert kept < 1

    found.write(tmp_path)
    assert not Found.load(tmp_path).higher_is_better
    from bench.reports import tasks as page

    text = page.render(found)
    assert "the lower the better" in text
    assert "linf on scene" in text


def test_the_command_trains_and_plays_a_pose(tmp_path: Path) -> None:
    weights = tmp_path / "pose.safetensors"
    done = CliRunner().invoke(
        app,
        [
            "train",
            "pose",
            "--dataset=generated-mice",
            "-Mtiny=true",
            "-Mepochs=1",
            f"--out={weights}",
        ],
    )
    assert done.exit_code == 0, done.output
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["measure"] == "mean px error"
    assert set(card["quality"]) == {"train", "test"}

    spec = f"pose:weights={weights},tiny=true"
    arguments = ["task", "--model", spec, "--dataset", "generated-mice", "--images", "3"]
    arguments += ["--steps", "1", "--restarts", "1", "--no-minimal", "--norm", "linf", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["higher_is_better"] is False


def test_other_data_and_parameters_are_refused(tmp_path: Path) -> None:
    from bench.training import train

    with pytest.raises(UserError, match="pose is trained on generated-mice or dlc-openfield"):
        train("pose", "mnist5k", out=tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="can't use epochs=0"):
        train("pose", "generated-mice", out=tmp_path / "a.safetensors", params={"epochs": 0})
    with pytest.raises(UserError, match="generated-mice has no split 'val'; wanted train, test"):
        task_set("generated-mice", "val")
    with pytest.raises(UsageError, match=r"got frames of shape \(1, 1, 96, 96\)"):
        create(tiny=True).answer(torch.zeros(1, 1, 96, 96), None)
    with pytest.raises(UsageError, match="got contexts"):
        create(tiny=True).answer(torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 8, 8))


def test_sides_that_are_no_multiples_of_sixteen_have_whole_maps() -> None:
    scores, offsets = Network((8, 8, 8, 8))(torch.zeros(1, 3, 120, 160))
    assert scores.shape == (1, 4, 15, 20)
    assert offsets.shape == (1, 4, 2, 15, 20)


HEAD = "bodyparts,snout,snout,tail,tail\ncoords,x,y,x,y\n"


def project(folder: Path, table: str, config: str = "scorer: Ann\nmultianimalproject:\n") -> Path:
    frames = folder / "labeled-data" / "v1"
    frames.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (frames / "CollectedData_Ann.csv").write_text(table)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(frames / "img1.png")
    return folder


def test_both_layouts_of_a_table_are_read(tmp_path: Path) -> None:
    old = project(
        tmp_path / "old",
        f"scorer,Ann,Ann,Ann,Ann\n{HEAD}labeled-data/v1/img1.png,1.5,2,,\n",
    )
    new = project(
        tmp_path / "new",
        "scorer,,,Ann,Ann,Ann,Ann\nbodyparts,,,snout,snout,tail,tail\ncoords,,,x,y,x,y\n"
        "labeled-data,v1,img1.png,1.5,2,,\n",
    )
    for folder in (old, new):
        frames = read_project(folder)
        assert frames.parts == ("snout", "tail")
        assert [path.name for path in frames.pictures] == ["img1.png"]
        assert frames.joints[0][0] == (1.5, 2.0)
        assert all(math.isnan(value) for value in frames.joints[0][1])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("x,1\n", "begins with x; wanted lines that begin with scorer, bodyparts, coords"),
        (f"scorer,Ann,Ann,Ann,Ann\n{HEAD}img1.png,1,2\n", "line 4: 3 columns; wanted 5"),
        (f"scorer,Ann,Ann,Ann,Ann\n{HEAD}img1.png,1,2,3,z\n", "line 4: .*'z'.*wanted pixels"),
        (f"scorer,Ann,Ann,Ann,Ann\n{HEAD}no.png,1,2,3,4\n", r"there is no picture .*no\.png"),
        ("scorer,A,A\nbodyparts,a,a\ncoords,y,x\n", "has the coordinates y, x; wanted x, y"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_project(project(tmp_path, table))


def test_a_folder_that_is_no_project_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wanted the folder of a DeepLabCut project"):
        read_project(tmp_path)
    several = project(tmp_path / "several", "", "scorer: Ann\nmultianimalproject: true\n")
    with pytest.raises(UserError, match="wanted one animal a frame"):
        read_project(several)
    (tmp_path / "config.yaml").write_text("task: [")
    with pytest.raises(UserError, match="wanted DeepLabCut's YAML"):
        read_project(tmp_path)
    (tmp_path / "config.yaml").write_text("scorer: Bob\n")
    with pytest.raises(UserError, match=r"there is no CollectedData_Bob\.csv"):
        read_project(tmp_path)
    (tmp_path / "labeled-data" / "v1").mkdir(parents=True)
    (tmp_path / "labeled-data" / "v1" / "CollectedData_Bob.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"as HDF5: pandas\.read_hdf"):
        read_project(tmp_path)


def test_the_open_field_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTYARD_DATA", str(tmp_path))
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="openfield-Pranav-2018-10-30"):
        task_set("dlc-openfield")


def test_the_real_open_field_is_read_whole(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTYARD_DATA", str(shared_data))
    train, test = task_set("dlc-openfield", "train"), task_set("dlc-openfield")

    assert (len(train), len(test)) == (80, 36)
    assert not set(train.ids) & set(test.ids)
    assert test.images.shape == (36, 3, 120, 160)
    joints = torch.cat([train.targets["joints"], test.targets["joints"]])
    seen = joints[joints.isfinite()].view(-1, 2)
    assert (seen > -2).all()
    assert (seen < torch.tensor([162.0, 122.0])).all()
    assert float(test.targets["tolerance"][0]) == 2.5
    # The mouse is darker than the ground around it.
    row, x, y = 0, *train.targets["joints"][0, 3].int().tolist()
    assert train.images[row, :, y, x].mean() < train.images[row].mean()
