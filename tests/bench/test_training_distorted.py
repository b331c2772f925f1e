"""Training on distorted images: what an image gets, what a card says, what the recipes are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bench
import models
from bench.distortions import load, seeds
from bench.training import train
from bench.training.distorted import CONDITIONS, accuracies, distorted, fit
from bench.training.recipes import DistortionRecipe, recipes
from models import distortion_resnet
from models.distortion_resnet import Bottleneck, ResNet
from models.wrappers import seeded


def recipe_of(name: str) -> DistortionRecipe:
    found = recipes("distortion_resnet")[name]
    assert isinstance(found, DistortionRecipe)
    return found


def test_every_image_gets_one_of_the_distortions_at_one_of_its_levels() -> None:
    images = torch.rand(300, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    own = seeds([str(n) for n in range(300)])
    recipe = recipe_of("rotation-and-uniform-noise")
    made = distorted(images, own, recipe, torch.Generator().manual_seed(0))
    turned, noisy = load("rotation"), load("uniform-noise")
    possible = torch.stack(
        [turned(images, level.value, own) for level in turned.levels]
        + [noisy(images, level.value, own) for level in noisy.levels]
    )
    same = (possible == made).flatten(2).all(dim=2)  # (12, 300)
    assert same.any(dim=0).all()
    share = same[:4].any(dim=0).float().mean()
    assert 0.4 < float(share) < 0.6
    assert same.sum(dim=1).min() > 5


def test_plain_images_stay_as_they_are() -> None:
    images = torch.rand(8, 1, 28, 28)
    made = distorted(images, seeds(list("abcdefgh")), recipe_of("plain"), torch.Generator())
    assert torch.equal(made, images)


def test_another_epoch_gives_other_noise() -> None:
    images = torch.full((4, 1, 28, 28), 0.5)
    recipe = replace(recipe_of("uniform-noise"), levels={"uniform-noise": ("0.5",)})
    first, second = (
        distorted(images, seeds(list("abcd"), seed=epoch), recipe, torch.Generator())
        for epoch in (0, 1)
    )
    assert not torch.equal(first, second)


def test_a_dwarf_learns_what_it_is_trained_on() -> None:
    data = bench.dataset("mnist5k", split="train")
    network = seeded(0, lambda: distortion_resnet.build(tiny=True))
    recipe = replace(recipe_of("contrast"), epochs=2)
    losses = fit(network, data, recipe, seed=0, report=lambda line: None)
    assert losses[1] < losses[0]
    found = accuracies(network, data.take(300), {"plain": 0.0, "contrast": 0.1})
    assert found["contrast"] > 0.5


def test_training_writes_weights_and_a_card_that_names_its_distortions(tmp_path: Path) -> None:
    path = train(
        "distortion_resnet",
        "mnist5k",
        out=tmp_path / "w.safetensors",
        params={"training": "rotation", "tiny": True, "epochs": 1},
    )
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["recipe"]["distortions"] == ["rotation"]
    assert set(card["distorted_accuracy"]) == set(CONDITIONS)
    assert card["clean_accuracy"] == card["distorted_accuracy"]["plain"]
    model = models.create("distortion_resnet", weights=str(path), tiny=True)
    data = bench.dataset("mnist5k", split="test")
    assert accuracies(model, data, {"rotation": 90.0})["rotation"] == pytest.approx(
        card["distorted_accuracy"]["rotation"], abs=0.002
    )


def test_the_recipes_are_the_papers_networks() -> None:
    found = {name: recipe_of(name).distortions for name in recipes("distortion_resnet")}
    assert len(found) == 17
    assert found["uniform-noise"] == ("uniform-noise",)
    assert found["low-pass-and-uniform-noise"] == ("low-pass", "uniform-noise")
    assert "uniform-noise" not in found["all-but-uniform-noise"]
    assert set(found["all-but-uniform-noise"]) | {"uniform-noise"} == set(CONDITIONS)
    assert set(found) == set(distortion_resnet.Training.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("training", recipes("distortion_resnet"))
def test_every_shipped_network_is_as_good_as_its_card_says(training: str) -> None:
    model = models.create("distortion_resnet", training=training)
    card = json.loads(
        (
            Path(models.__file__).parent
            / "checkpoints"
            / f"distortion_resnet-fashion-mnist-{training}.json"
        ).read_text()
    )
    own = {k: v for k, v in CONDITIONS.items() if k == training} or {"plain": 0.0}
    data = bench.dataset("fashion-mnist", split="test").take(500)
    for name, accuracy in accuracies(model, data, own).items():
        assert abs(accuracy - card["distorted_accuracy"][name]) < 0.06
        if training in CONDITIONS:
            assert card["distorted_accuracy"][name] >= 0.75


def test_the_papers_network_is_resnet_50() -> None:
    network = distortion_resnet.build_resnet50()
    assert isinstance(network, ResNet)
    blocks = [m for m in network.modules() if isinstance(m, Bottleneck)]
    assert len(blocks) == 16
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 3 * 16 + 4  # four stages begin with a projection
    assert sum(p.numel() for p in network.parameters()) == 23_533_136
    network.eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 224, 224)).shape == (1, 16)
