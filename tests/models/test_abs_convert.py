"""The authors' files as ours: the same numbers, and clear words about what is wrong with others."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import models
from bench.conversion import convert as converted_file
from bench.errors import UserError
from models import abs as zoo
from models.abs_vae.classifier import AnalysisBySynthesis
from models.abs_vae.network import VAE
from models.abs_vae.public_algorithm import PublicAlgorithm
from models.errors import UsageError
from models.weights import sha256_of
from models.wrappers import seeded


def published(vae: VAE, *, counted: bool = True) -> dict[str, Tensor]:
    """The state dict of a VAE under the authors' names; PyTorch 0.4.0 did not count batches."""
    return {
        f"{name[0].upper()}{name[1:]}": tensor
        for name, tensor in vae.state_dict().items()
        if counted or not name.endswith("num_batches_tracked")
    }


@pytest.fixture(scope="module")
def vaes() -> list[VAE]:
    network = seeded(7, zoo.build).eval()
    with torch.no_grad():
        for vae in network:
            for name, tensor in vae.state_dict().items():
                if name.endswith(("running_mean", "bias")):
                    tensor.add_(0.1)
    return list(network)


@pytest.fixture
def folder(vaes: list[VAE], tmp_path: Path) -> Path:
    place = tmp_path / "published"
    place.mkdir()
    for label, vae in enumerate(vaes):
        torch.save(published(vae, counted=label % 2 == 0), place / f"ABS_{label}.net")
    return place


def test_the_logits_are_those_of_the_authors_modules(vaes: list[VAE], folder: Path) -> None:
    out = converted_file("abs", folder, folder.parent / "w.safetensors")
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = PublicAlgorithm(vaes, samples=20, steps=4).explain(images.flatten(1))

    model = models.create("abs", weights=str(out), inference="public", samples=20)
    assert isinstance(model, AnalysisBySynthesis)
    assert isinstance(model.inference, PublicAlgorithm)
    model.inference.steps = 4
    torch.testing.assert_close(model(images), -440 / 784 * found.costs)
    assert (model.scale, model.floor) == (440.0, 3.9e-5)
    binary = zoo.create(weights=str(out), inference="public", samples=20, binary=True)
    published_scales = torch.tensor([1, 0.96, 1.001, 1.06, 0.98, 0.96, 1.03, 1, 1, 1])
    torch.testing.assert_close(binary.class_scales, published_scales)


def test_the_card_says_what_it_is_and_where_from(folder: Path) -> None:
    out = converted_file("abs", folder, folder.parent / "deep" / "w.safetensors")
    card = json.loads(out.with_suffix(".json").read_text())

    assert card["model"] == "abs"
    assert card["sha256"] == sha256_of(out)
    assert card["source"].startswith("published: ")
    assert set(card["calibration"]) == {"plain", "binary"}
    # Trained numbers, and what batch norm keeps: two for each of 192 maps, and six counts.
    assert card["parameters"] == 10 * (85_361 + 2 * 192 + 6)
    assert len(card["date"]) == 10
    assert sorted(p.name for p in out.parent.iterdir()) == ["w.json", "w.safetensors"]


class Boom:
    """What runs code when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.place,)


def spoil(folder: Path, how: str) -> None:
    file = folder / "ABS_3.net"
    state = torch.load(file, weights_only=True)
    if how == "missing":
        file.unlink()
    elif how == "shape":
        state["Decoder.conv_3.weight"] = torch.zeros(16, 1, 3, 3)
        torch.save(state, file)
    elif how == "absent":
        del state["Encoder.bn_1.running_var"]
        torch.save(state, file)
    elif how == "extra":
        torch.save({**state, "Critic.weight": torch.zeros(3)}, file)
    elif how == "list":
        torch.save(list(state.values()), file)
    elif how == "module":
        torch.save(torch.nn.Linear(2, 2), file)
    elif how == "garbage":
        file.write_bytes(b"nothing of the kind" * 50)
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:20_000])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", r"there is no .*ABS_3.net; wanted a folder with ABS_0.net to ABS_9.net"),
        ("shape", r"decoder.conv_3.weight is \(16, 1, 3, 3\), wanted \(16, 1, 4, 4\)"),
        ("absent", r"encoder.bn_1.running_var is nothing, wanted \(32,\)"),
        ("extra", r"critic.weight is \(3,\), wanted nothing"),
        ("list", "holds more than tensors by name; wanted a state dict"),
        ("module", "is not a state dict of tensors alone"),
        ("garbage", "is not a state dict of tensors alone"),
        ("empty", "is not a state dict of tensors alone"),
        ("cut", "is not a state dict of tensors alone"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_and_nothing_is_written(
    folder: Path, how: str, said: str
) -> None:
    spoil(folder, how)
    out = folder.parent / "w.safetensors"

    with pytest.raises(UsageError, match=said):
        converted_file("abs", folder, out)
    assert [p.name for p in folder.parent.iterdir()] == ["published"]


def test_a_pickle_with_code_is_refused_and_does_not_run(folder: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for data in (pickle.dumps(Boom(touched), protocol=2), None):
        if data is None:
            torch.save({"Encoder.conv_0.weight": Boom(touched)}, folder / "ABS_0.net")
        else:
            (folder / "ABS_0.net").write_bytes(data)
        with pytest.raises(UsageError, match="is not a state dict of tensors alone"):
            zoo.convert(folder)
    assert not touched.exists()


def test_a_file_in_place_of_the_folder_is_the_users_mistake(folder: Path) -> None:
    with pytest.raises(UsageError, match="wanted a folder with ABS_0.net"):
        zoo.convert(folder / "ABS_0.net")


@pytest.mark.parametrize(
    ("model", "out", "said"),
    [
        ("abz", "w.safetensors", "no model is called 'abz'; did you mean abs"),
        ("small_cnn", "w.safetensors", "small_cnn has no published weights .*; abs has"),
        ("abs", "w.pth", "wanted a file that ends in .safetensors"),
        ("abs", "published/ABS_0.net/w.safetensors", "cannot write .*; give another --out"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(
    folder: Path, model: str, out: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        converted_file(model, folder, folder.parent / out)
    assert [p.name for p in folder.parent.iterdir()] == ["published"]
