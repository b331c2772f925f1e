"""Weights are found by name, verified by checksum, and never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models import weights
from models.errors import UsageError


class _Bomb:
    """Unpickling this makes a folder: proof that code ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    """`state` at `path` with a minimal card beside it."""
    save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    return path


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    state = {"weight": torch.arange(6.0).view(2, 3)}

    loaded = weights.load_verified(saved(tmp_path / "w.safetensors", state))

    assert list(loaded) == ["weight"]
    assert torch.equal(loaded["weight"], state["weight"])


def test_one_changed_byte_is_refused_with_both_checksums(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", {"weight": torch.zeros(3)})
    wanted = weights.sha256_of(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(UsageError, match=f"has sha256 {weights.sha256_of(path)}, wanted {wanted}"):
        weights.load_verified(path)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.pkl", "w.bin"])
def test_a_pickle_is_refused_before_it_is_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))

    with pytest.raises(UsageError, match=r"reading a pickle runs code; wanted \.safetensors"):
        weights.load_verified(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_under_the_name_of_safetensors_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))
    path.with_suffix(".json").write_text(json.dumps({"sha256": weights.sha256_of(path)}))

    with pytest.raises(UsageError, match="is not a safetensors file"):
        weights.load_verified(path)
    assert not (tmp_path / "ran").exists()


def test_others_checkpoints_run_no_code_even_when_their_checksum_is_known(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"weight": _Bomb(tmp_path / "ran")}, path)

    with pytest.raises(UsageError, match="holds more than plain tensors"):
        weights.load_foreign(path, weights.sha256_of(path))
    assert not (tmp_path / "ran").exists()


def test_others_checkpoints_of_plain_tensors_are_loaded(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "w.pth")
    digest = weights.sha256_of(tmp_path / "w.pth")

    assert weights.load_foreign(tmp_path / "w.pth", digest)["weight"].tolist() == [1.0, 1.0]
    with pytest.raises(UsageError, match=f"wanted {'0' * 64}; install the published package"):
        weights.load_foreign(tmp_path / "w.pth", "0" * 64)


def test_others_checkpoints_that_hold_no_tensors_are_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pth")

    with pytest.raises(UsageError, match="holds more than plain tensors"):
        weights.load_foreign(tmp_path / "w.pth", weights.sha256_of(tmp_path / "w.pth"))


def test_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "w.safetensors")

    with pytest.raises(UsageError, match=r"has no card w\.json beside it"):
        weights.load_verified(tmp_path / "w.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sha256": 5}'])
def test_a_card_that_states_no_checksum_is_refused(text: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", {"weight": torch.zeros(3)})
    path.with_suffix(".json").write_text(text)

    with pytest.raises(UsageError, match=r"is not JSON|states no sha256"):
        weights.load_verified(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", {"weight": torch.zeros(3)})
    path.unlink()

    with pytest.raises(UsageError, match=r"cannot read the weights .*w\.safetensors: No such file"):
        weights.load_verified(path)


def test_the_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds the weights of another network"):
        weights.fill(nn.Linear(2, 2), {"weight": torch.zeros(3, 3)}, source=tmp_path / "w")


def test_shipped_weights_are_found_before_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    for name in ("small_cnn-mnist5k-plain", "small_cnn-mnist-pgd"):
        (tmp_path / "weights" / f"{name}.safetensors").touch()

    assert weights.find("small_cnn", "mnist5k", "plain").parent == weights.SHIPPED
    assert weights.find("small_cnn", "mnist", "pgd").parent == tmp_path / "weights"


def test_missing_weights_name_the_command_that_makes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))

    command = "tiltyard train small_cnn --dataset mnist -M training=pgd"
    with pytest.raises(UsageError, match=command):
        weights.find("small_cnn", "mnist", "pgd")
