"""Training ABS: dwarfs, a few images, and constants that are what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bench
import models
from bench import training
from bench.datasets.types import Dataset
from bench.errors import UserError
from bench.training import autoencoders
from bench.training.autoencoders import SCALES, class_scales, fit
from bench.training.cards import Card
from bench.training.recipes import OWN_RECIPES, PGD, VAE, recipes
from models import abs as zoo
from models.abs_vae.classifier import AnalysisBySynthesis
from models.abs_vae.confidence import modified_softmax
from models.abs_vae.network import Autoencoders
from models.weights import card, load_verified, sha256_of
from models.wrappers import seeded

FEW = 16
"""Samples of the prior: enough for dwarfs."""


def silent(line: str) -> None:
    """Nobody is told of the progress."""


def dwarf() -> Autoencoders:
    return seeded(0, lambda: zoo.build(tiny=True))


@pytest.fixture(scope="module")
def small() -> Iterator[pytest.MonkeyPatch]:
    """Data sets of a few images, few samples, and a cache of its own."""
    whole = bench.dataset

    def few(name: str, split: str = "test") -> Dataset:
        return whole(name, split).take(100 if split == "train" else 30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.training.checkpoint.load_dataset", few)
        patch.setattr(autoencoders, "SAMPLES", FEW)
        yield patch


@pytest.fixture(scope="module")
def trained(
    small: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A dwarf of ABS after one epoch, through the front door, and what was reported."""
    folder = tmp_path_factory.mktemp("abs")
    small.setenv("TILTYARD_CACHE", str(folder / "cache"))
    lines: list[str] = []
    path = training.train(
        "abs",
        "mnist5k",
        out=folder / "dwarf.safetensors",
        params={"epochs": 1, "tiny": True},
        seed=2,
        report=lines.append,
    )
    return path, lines


def test_the_card_has_the_constants_and_no_robust_accuracy(
    trained: tuple[Path, list[str]],
) -> None:
    path, lines = trained
    made = Card(**card(path))

    assert (made.model, made.training, made.seed) == ("abs", "vae", 2)
    assert made.command == "tiltyard train abs --dataset mnist5k -M epochs=1 -M tiny=true --seed 2"
    assert made.recipe == {**vars(VAE), "epochs": 1}
    assert (made.train_images, made.test_images) == (100, 30)
    assert made.sha256 == sha256_of(path)
    assert made.parameters == sum(t.numel() for t in load_verified(path).values())
    assert "robust_accuracy" not in card(path)
    assert "robust_attack" not in card(path)
    assert made.calibration is not None
    assert set(made.calibration) == {"plain", "binary"}
    for constants in made.calibration.values():
        assert set(constants) == {
            "accuracy",
            "class_scales",
            "scale",
            "floor",
            "median_confidence",
        }
        assert len(constants["class_scales"]) == 10
        assert constants["scale"] == 440.0
    assert made.clean_accuracy == made.calibration["plain"]["accuracy"]
    assert sum(line.startswith("class ") for line in lines) == 10
    assert lines[-1].startswith("accuracy ")


@pytest.mark.parametrize("binary", [False, True])
def test_the_zoo_reads_them_and_is_as_accurate_as_the_card_says(
    trained: tuple[Path, list[str]], binary: bool
) -> None:
    constants = card(trained[0])["calibration"]["binary" if binary else "plain"]
    model = models.create("abs", weights=str(trained[0]), tiny=True, samples=FEW, binary=binary)
    data = bench.dataset("mnist5k").take(30)

    assert isinstance(model, AnalysisBySynthesis)
    right = (model(data.images).argmax(1) == data.targets).double().mean()
    assert float(right) == pytest.approx(constants["accuracy"], abs=0.04)  # one image
    assert model.floor == pytest.approx(constants["floor"])
    confident = model.confidences(data.images).amax(1).median()
    assert float(confident) == pytest.approx(constants["median_confidence"], abs=0.02)


def test_the_seed_decides_the_weights() -> None:
    data = bench.dataset("mnist5k", "train").take(100)
    recipe = replace(VAE, epochs=1)
    networks = [dwarf() for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        fit(network, data, recipe, seed=seed, report=silent)

    first, again, other = (next(n.parameters()) for n in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_autoencoder_learns_from_its_own_class_alone() -> None:
    data = bench.dataset("mnist5k", "train").take(100)
    pixels = data.pixels.copy()
    pixels[data.labels != 3] = 255 - pixels[data.labels != 3]
    changed = replace(data, pixels=pixels)
    first, second = dwarf(), dwarf()
    # Every batch draws random numbers; as many for both.
    for network, images in ((first, data), (second, changed)):
        fit(network, images, replace(VAE, epochs=1), seed=0, report=silent)

    same = [
        torch.equal(
            a.decoder.get_parameter("conv_0.weight"), b.decoder.get_parameter("conv_0.weight")
        )
        for a, b in zip(first, second, strict=True)
    ]
    assert same == [label == 3 for label in range(10)]


def test_a_class_without_images_is_named() -> None:
    data = bench.dataset("mnist5k", "train")
    rows = data.labels != 3
    lacking = replace(
        data,
        ids=tuple(i for i, kept in zip(data.ids, rows, strict=True) if kept),
        pixels=data.pixels[rows],
        labels=data.labels[rows],
    )
    with pytest.raises(UserError, match="no images of class 3; wanted some of every class"):
        fit(dwarf(), lacking, VAE, seed=0, report=silent)


def test_large_data_sets_are_passed_over_fewer_times() -> None:
    for name in ("abs", "small_cnn", "vanilla_cnn", "binary_cnn", "transfer_cnn"):
        training = next(iter(recipes(name)))
        assert recipes(name, "fashion-mnist")[training].epochs < recipes(name)[training].epochs
    assert recipes("vanilla_cnn", "mnist")["pgd"] is PGD
    assert recipes("madry_cnn", "mnist") == recipes("madry_cnn")


def test_the_loss_falls() -> None:
    data = bench.dataset("mnist5k", "train").take(100)
    # The weight of the divergence falls meanwhile: a loss of equal weights is compared.
    recipe = replace(VAE, learning_rate=0.01, first_weight=1.0)

    short = fit(dwarf(), data, replace(recipe, epochs=1), seed=0, report=silent)
    longer = fit(dwarf(), data, replace(recipe, epochs=8), seed=0, report=silent)

    assert len(longer) == 10
    assert sum(longer) < 0.8 * sum(short)


def test_the_weight_of_the_divergence_falls_and_then_the_learning_rate() -> None:
    weights = [autoencoders._weight(done, VAE) for done in (0.0, 0.15, 0.3, 0.9)]
    rates = [autoencoders._rate(done, VAE) for done in (0.0, 0.3, 0.65, 1.0)]

    assert weights == pytest.approx([10.0, 5.5, 1.0, 1.0])
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.0])


def made_costs() -> tuple[Tensor, Tensor]:
    """Costs (N, 3) under which class 1 is 5 % too dear, and the labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    costs = 20 + torch.rand(300, 3, generator=generator, dtype=torch.float64)
    costs[torch.arange(300), labels] -= 0.8
    costs[:, 1] *= 1.05
    return costs, labels


def test_the_scales_of_the_classes_raise_the_accuracy() -> None:
    costs, labels = made_costs()
    before = (costs.argmin(1) == labels).double().mean()

    scales = class_scales(costs, labels)

    after = ((costs * scales).argmin(1) == labels).double().mean()
    assert float(before) < 0.75
    assert float(after) > 0.95
    assert scales[1] < 1
    assert set(scales.tolist()) <= set(SCALES)


def test_where_no_scale_is_better_all_stay_at_one() -> None:
    costs, labels = torch.eye(10, dtype=torch.float64).neg() + 5, torch.arange(10)

    assert class_scales(costs, labels).tolist() == [1.0] * 10


@pytest.mark.parametrize(("spread", "median"), [(20.0, 0.9), (0.01, None)])
def test_the_floor_gives_the_median_confidence_of_the_paper_where_one_can(
    spread: float, median: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a floor, costs that hardly differ are confident in nothing: then there is none."""
    test = bench.dataset("mnist5k").take(30)
    costs = 60 + 20 * spread * torch.rand(30, 10, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(autoencoders, "_costs", lambda *given: costs.double())

    found = autoencoders._constants(dwarf(), test, test, binary=False)

    logits = -440 / 784 * costs.double() * torch.tensor(found["class_scales"])
    measured = float(modified_softmax(logits, found["floor"]).amax(1).median())
    assert found["median_confidence"] == pytest.approx(measured, abs=1e-3)
    assert (found["floor"] > 0) == (median is not None)
    assert median is None or measured == pytest.approx(median, abs=1e-3)


def test_abs_is_trained_by_its_own_recipe_only_and_classifiers_by_theirs(tmp_path: Path) -> None:
    assert list(recipes("abs")) == ["vae"]
    assert recipes("vanilla_cnn")["pgd"] is PGD
    assert recipes("madry_cnn") is OWN_RECIPES["madry_cnn"]
    with pytest.raises(UserError, match="training is 'pgd'; wanted vae"):
        training.train("abs", "mnist5k", out=tmp_path / "w.safetensors", params={"training": "pgd"})
    with pytest.raises(UserError, match="training is 'vae'; wanted plain or noise or pgd"):
        training.train(
            "small_cnn", "mnist5k", out=tmp_path / "w.safetensors", params={"training": "vae"}
        )
