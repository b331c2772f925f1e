"""small_cnn: every shipped checkpoint is what its card says."""

from __future__ import annotations

import json
import shutil
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import torch

import bench
import models
from bench.training.cards import Card, TaskCard
from models import small_cnn, weights

CARDS = sorted(weights.SHIPPED.glob("*.json"))


TASKS = [path for path in CARDS if "measure" in json.loads(path.read_text())]


@pytest.mark.parametrize("path", [p for p in CARDS if p not in TASKS], ids=lambda p: p.stem)
def test_a_shipped_checkpoint_has_a_complete_card_and_its_checksum(path: Path) -> None:
    card = Card(**weights.card(path))  # a missing or an unknown field raises

    needed = [field.name for field in fields(card) if field.default is MISSING]
    assert all(getattr(card, name) not in (None, "") for name in needed)
    assert (card.robust_accuracy is None) == (card.robust_attack is None)
    others = (card.robust_accuracy, card.calibration, card.distorted_accuracy)
    assert any(measured is not None for measured in others)
    assert path.stem == weights.stem(card.model, card.dataset, card.training)
    assert weights.sha256_of(path.with_suffix(".safetensors")) == card.sha256
    tensors = weights.load_verified(path.with_suffix(".safetensors"))
    assert sum(t.numel() for t in tensors.values()) == card.parameters
    trained_on = bench.dataset(card.dataset, "train").take(card.train_images)
    assert card.train_sha256 == trained_on.fingerprint()
    assert card.command.startswith(f"tiltyard train {card.model} --dataset {card.dataset}")


@pytest.mark.parametrize("path", TASKS, ids=lambda p: p.stem)
def test_a_shipped_checkpoint_of_a_task_has_a_complete_card_and_its_checksum(path: Path) -> None:
    card = TaskCard(**weights.card(path))

    assert all(getattr(card, field.name) not in (None, "", {}) for field in fields(card))
    assert path.stem.startswith(weights.stem(card.model, card.dataset, card.training))
    assert path.stem.endswith(f"seed{card.seed}" if card.seed else card.training)
    assert weights.sha256_of(path.with_suffix(".safetensors")) == card.sha256
    tensors = weights.load_verified(path.with_suffix(".safetensors"))
    assert sum(t.numel() for t in tensors.values()) == card.parameters
    assert set(card.quality) == set(card.chance)
    assert card.command.startswith(f"tiltyard train {card.model} --dataset {card.dataset}")


def test_both_trainings_are_shipped_and_nothing_without_a_card() -> None:
    stems = {path.stem for path in CARDS}

    assert {"small_cnn-mnist5k-plain", "small_cnn-mnist5k-pgd"} <= stems
    assert {p.stem for p in weights.SHIPPED.glob("*.safetensors")} == stems


@pytest.mark.parametrize("training", ["plain", "pgd"])
def test_the_accuracy_is_that_of_the_card(training: str) -> None:
    model = models.create("small_cnn", dataset="mnist5k", training=training)
    data = bench.dataset("mnist5k").take(200)
    with torch.inference_mode():
        right = (model(data.images).argmax(dim=1).numpy() == data.labels).mean()

    stated = weights.card(weights.find("small_cnn", "mnist5k", training))["clean_accuracy"]
    # 200 of the card's 1,000 images: 3 standard errors at 97 % are 3.6 points.
    assert right == pytest.approx(stated, abs=0.036)


def test_gradients_reach_the_images_and_not_the_parameters() -> None:
    model = small_cnn.create(training="pgd")
    images = bench.dataset("mnist5k").take(4).images.requires_grad_(True)

    model(images).logsumexp(dim=1).sum().backward()

    assert images.grad is not None
    assert all(float(g.abs().max()) > 0 for g in images.grad)
    assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())


def test_an_images_logits_do_not_depend_on_its_batch() -> None:
    model = models.create("small_cnn")
    images = bench.dataset("mnist5k").take(8).images

    alone = torch.cat([model(image[None]) for image in images])

    torch.testing.assert_close(model(images), alone, rtol=1e-4, atol=1e-4)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    source = weights.find("small_cnn", "mnist5k", "plain")
    own = tmp_path / source.name
    shutil.copy(source, own)
    shutil.copy(source.with_suffix(".json"), own.with_suffix(".json"))
    assert models.create("small_cnn", weights=str(own)).classes == 10
    data = bytearray(own.read_bytes())
    data[-1] ^= 1
    own.write_bytes(data)

    with pytest.raises(models.UsageError, match="it was changed or cut off"):
        models.create("small_cnn", weights=str(own))


def test_a_data_set_without_weights_names_the_command_that_makes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))

    with pytest.raises(models.UsageError, match=r"tiltyard train small_cnn --dataset mnist "):
        models.create("small_cnn", dataset="mnist")


def test_the_dwarf_is_small_and_the_same_for_the_same_seed() -> None:
    images = torch.rand(2, 1, 28, 28)
    first, again, other = (small_cnn.create(tiny=True, seed=s) for s in (3, 3, 4))

    assert sum(p.numel() for p in first.module.parameters()) < 10_000
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))


def test_full_weights_do_not_fit_the_dwarf() -> None:
    source = weights.find("small_cnn", "mnist5k", "plain")

    with pytest.raises(models.UsageError, match="holds the weights of another network"):
        models.create("small_cnn", tiny=True, weights=str(source))
