"""Training: the loss falls, the same seed gives the same weights, the card tells the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import bench
import models
from bench import training
from bench.datasets.types import Dataset
from bench.errors import UserError
from bench.training.augment import moved
from bench.training.cards import Card
from bench.training.classifier import evaluate, fit, one_thread
from bench.training.pgd import linf_pgd
from bench.training.recipes import PGD, PLAIN, RECIPES
from models import small_cnn
from models.weights import card, load_verified, sha256_of, write_whole
from models.wrappers import seeded


def silent(line: str) -> None:
    """Nobody is told of the progress."""


def dwarf() -> torch.nn.Module:
    return seeded(0, lambda: small_cnn.build(tiny=True))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A dwarf trained for two epochs through the front door, and the lines that were reported."""
    lines: list[str] = []
    path = training.train(
        "small_cnn",
        "mnist5k",
        out=tmp_path_factory.mktemp("trained") / "dwarf.safetensors",
        params={"training": "plain", "epochs": "2", "tiny": True},
        seed=3,
        report=lines.append,
    )
    return path, lines


def test_training_writes_weights_that_the_zoo_loads(trained: tuple[Path, list[str]]) -> None:
    model = models.create("small_cnn", weights=str(trained[0]), tiny=True)
    data = bench.dataset("mnist5k")
    with torch.inference_mode():
        right = (model(data.images).argmax(dim=1).numpy() == data.labels).mean()

    assert right == pytest.approx(card(trained[0])["clean_accuracy"], abs=0.002)
    assert right > 0.4  # two epochs of a dwarf; chance is 0.1


def test_the_card_says_how_it_was_made_and_what_came_out(trained: tuple[Path, list[str]]) -> None:
    path, lines = trained
    made = Card(**card(path))

    assert (made.model, made.dataset, made.training, made.seed) == (
        "small_cnn",
        "mnist5k",
        "plain",
        3,
    )
    assert made.command == (
        "tiltyard train small_cnn --dataset mnist5k "
        "-M training=plain -M epochs=2 -M tiny=true --seed 3"
    )
    assert made.recipe["epochs"] == 2
    assert made.recipe["epsilon"] == 0
    assert made.train_sha256 == bench.dataset("mnist5k", "train").fingerprint()
    assert (made.train_images, made.test_images) == (4000, 1000)
    assert made.robust_accuracy is not None
    assert 0.0 <= made.robust_accuracy <= made.clean_accuracy <= 1.0
    assert made.calibration is None
    assert made.sha256 == sha256_of(path)
    assert made.parameters == sum(t.numel() for t in load_verified(path).values())
    assert made.seconds > 0
    assert any(line.startswith("epoch 2/2: loss ") for line in lines)
    assert sorted(p.name for p in path.parent.iterdir()) == ["dwarf.json", "dwarf.safetensors"]


def test_the_same_seed_gives_the_same_weights(
    trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    again = training.train(
        "small_cnn",
        "mnist5k",
        out=tmp_path / "again.safetensors",
        params={"training": "plain", "epochs": 2, "tiny": "true"},
        seed=3,
    )

    assert sha256_of(again) == sha256_of(trained[0])


def test_the_seed_decides_the_weights_also_against_the_attack() -> None:
    data = bench.dataset("mnist5k", "train").take(50)
    recipe = replace(PGD, epochs=1, batch_size=10)
    networks = [dwarf() for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        fit(network, data, recipe, seed=seed, report=silent)

    first, again, other = (next(n.parameters()) for n in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_weights_without_an_out_file_go_where_the_zoo_finds_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))
    params = {"epochs": 1, "tiny": True}

    path = training.train("small-cnn", "mnist5k", params=params)

    assert path == tmp_path / "weights" / "small_cnn-mnist5k-plain-tiny.safetensors"
    assert models.create("small_cnn", weights=str(path), tiny=True).classes == 10


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_falls(name: str) -> None:
    data = bench.dataset("mnist5k", "train").take(400)
    # A dwarf with few steps ahead of it learns faster, and against a weaker attack.
    recipe = replace(
        RECIPES[name],
        epochs=8,
        batch_size=50,
        learning_rate=0.02,
        epsilon=RECIPES[name].epsilon / 6,
    )

    losses = fit(dwarf(), data, recipe, seed=0, report=silent)

    assert len(losses) == 8
    assert losses[-1] < losses[0] - 0.5


def test_training_against_the_attack_gives_robustness_that_plain_training_does_not() -> None:
    """The point of adversarial training, on images with a robust and a brittle feature."""
    data = robust_and_brittle()
    images, labels = data.images, torch.from_numpy(data.labels)
    plain = replace(
        PLAIN, epochs=40, batch_size=20, rotation=0, scale=0, shear=0, shift=0, learning_rate=0.01
    )
    against = replace(plain, epsilon=0.2, attack_steps=5, relative_step=0.5, warm_up=0.5)
    accuracy = []
    for recipe in (plain, against):
        network = dwarf()
        fit(network, data, recipe, seed=0, report=silent)
        adversarials = linf_pgd(
            network.requires_grad_(False),
            images,
            labels,
            epsilon=0.2,
            step=0.02,
            steps=30,
            generator=torch.Generator().manual_seed(0),
        )
        accuracy.append(float((network(adversarials).argmax(dim=1) == labels).float().mean()))

    assert accuracy == [0.0, 1.0]


def robust_and_brittle() -> Dataset:
    """40 images of two classes. An 8x8 square differs by 1, which no attack within 0.2 can undo;
    everything else differs by 0.1 in a fixed pattern, which one can, and which is easy to learn.
    """
    random = np.random.default_rng(0)
    pattern = random.choice([-13, 13], (28, 28, 1))
    labels = np.arange(40, dtype=np.int64) % 2
    pixels = np.where(labels[:, None, None, None] == 1, 128 + pattern, 128 - pattern)
    pixels = pixels + random.integers(-10, 11, pixels.shape)
    pixels[labels == 1, 10:18, 10:18] = 255
    pixels[labels == 0, 10:18, 10:18] = 0
    ids = tuple(f"image-{i}" for i in range(40))
    names = tuple("0123456789")
    return Dataset("made", "train", ids, pixels.astype(np.uint8), labels, names)


def test_evaluating_counts_what_is_right_before_and_after_the_attack() -> None:
    """A linear oracle: class 1 where the mean is above 0.5; the attack moves means by 0.3."""
    levels = np.array([0.1, 0.4, 0.6, 0.9])
    pixels = np.broadcast_to((levels * 255).astype(np.uint8)[:, None, None, None], (4, 4, 4, 1))
    labels = np.array([0, 0, 1, 0], dtype=np.int64)  # the last one is labelled wrongly
    data = Dataset("x", "test", tuple("abcd"), pixels.copy(), labels, ("dark", "bright"))

    def network(images: Tensor) -> Tensor:
        brightness = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-brightness, brightness], dim=1)

    # Dark 0.1 stays dark at 0.4; 0.4 and 0.6 cross the line; 0.9 is wrong to begin with.
    assert evaluate(network, data, seed=0) == (0.75, 0.25)


def test_pgd_stays_within_its_ball_and_the_bounds_and_finds_the_corner_of_a_linear_model() -> None:
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(5, dtype=torch.long)
    weights = torch.randn(16, generator=torch.Generator().manual_seed(1))
    before = images.clone()

    def network(inputs: Tensor) -> Tensor:
        score = inputs.flatten(1) @ weights
        return torch.stack([-score, score], dim=1)

    found = linf_pgd(
        network,
        images,
        labels,
        epsilon=0.2,
        step=0.1,
        steps=6,
        generator=torch.Generator().manual_seed(2),
    )

    assert torch.equal(images, before)
    worst = (images.flatten(1) + 0.2 * weights.sign()).clamp(0, 1).view_as(images)
    torch.testing.assert_close(found, worst)


def test_pgd_without_steps_is_uniform_noise_in_the_ball() -> None:
    images = torch.full((1, 1, 50, 50), 0.5)
    generator = torch.Generator().manual_seed(0)

    found = linf_pgd(
        lambda x: x, images, torch.zeros(1), epsilon=0.3, step=0.1, steps=0, generator=generator
    )

    moved_by = (found - images).flatten()
    assert float(moved_by.abs().max()) <= 0.3 + 1e-6
    assert float(moved_by.abs().mean()) == pytest.approx(0.15, abs=0.01)


def test_moving_by_nothing_changes_nothing_and_the_seed_decides_the_rest() -> None:
    images = bench.dataset("mnist5k").take(5).images
    still = replace(PLAIN, rotation=0, scale=0, shear=0, shift=0)

    def copy(seed: int) -> Tensor:
        return moved(images, PLAIN, torch.Generator().manual_seed(seed))

    torch.testing.assert_close(
        moved(images, still, torch.Generator().manual_seed(0)), images, atol=1e-5, rtol=0
    )
    assert torch.equal(copy(0), copy(0))
    assert not torch.equal(copy(0), copy(1))
    assert copy(0).shape == images.shape
    assert float(copy(0).min()) >= 0.0
    assert float(copy(0).max()) <= 1.0


def test_a_moved_dot_lands_within_the_pixels_that_the_recipe_says() -> None:
    image = torch.zeros(200, 1, 28, 28)
    image[:, :, 13:15, 13:15] = 1.0
    only_shift = replace(PLAIN, rotation=0, scale=0, shear=0, shift=2.0)

    copies = moved(image, only_shift, torch.Generator().manual_seed(0))[:, 0]

    places = torch.arange(28.0)
    for axis in (1, 2):
        centre = (copies.sum(dim=axis) * places).sum(dim=1) / copies.sum(dim=(1, 2))
        assert float((centre - 13.5).abs().max()) <= 2.0 + 1e-3
        assert float((centre - 13.5).abs().mean()) == pytest.approx(1.0, abs=0.15)


def test_one_thread_is_given_back_afterwards() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1

    assert torch.get_num_threads() == before


def test_half_a_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "deep" / "card.json"
    write_whole(target, b"first")

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(target, b"second")

    assert target.read_bytes() == b"first"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("model", "dataset", "params", "said"),
    [
        ("smal_cnn", "mnist5k", {}, "no model 'smal_cnn'; did you mean 'small_cnn'"),
        ("efficientnet_lite0", "tiny-imagenet-avc", {}, "cannot be trained here"),
        ("small_cnn", "mnist5", {}, "did you mean 'mnist5k'"),
        ("small_cnn", "digits", {}, "takes images of 28x28x1 in 10 classes; digits has 8x8x1"),
        ("small_cnn", "mnist5k", {"epoch": 3}, "no parameter 'epoch'; did you mean 'epochs'"),
        ("small_cnn", "mnist5k", {"epochs": "0"}, "epochs is '0'; wanted a whole number >= 1"),
        ("small_cnn", "mnist5k", {"epochs": 1.5}, "epochs is 1.5; wanted a whole number >= 1"),
        (
            "small_cnn",
            "mnist5k",
            {"training": "pdg"},
            "is 'pdg'; wanted plain or noise or pgd",
        ),
        ("small_cnn", "mnist5k", {"tiny": "yes"}, "tiny is 'yes'; wanted true or false"),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(
    model: str, dataset: str, params: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        training.train(model, dataset, out=tmp_path / "w.safetensors", params=params)
    assert list(tmp_path.iterdir()) == []


def test_an_out_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wanted a file that ends in \.safetensors"):
        training.train("small_cnn", "mnist5k", out=tmp_path / "w.pth")


def test_a_folder_that_cannot_be_written_is_noticed_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines: list[str] = []

    with pytest.raises(UserError, match=r"cannot write to .*file.*; give another file by --out"):
        training.train(
            "small_cnn", "mnist5k", out=tmp_path / "file" / "w.safetensors", report=lines.append
        )
    assert lines == []


def test_the_shipped_recipe_is_the_one_that_the_code_has() -> None:
    for name, recipe in RECIPES.items():
        shipped = json.loads(
            (
                Path(models.__file__).parent / f"checkpoints/small_cnn-mnist5k-{name}.json"
            ).read_text()
        )
        assert shipped["recipe"] == {k: getattr(recipe, k) for k in shipped["recipe"]}
    assert PGD.epsilon == 0.3
