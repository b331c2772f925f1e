"""server/storage.py: names are digests, half files never have one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from bench.errors import InfrastructureError
from server.storage import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artefacts")


def test_bytes_come_back_under_their_digest(store: Store) -> None:
    name = store.put(b"hello")
    assert name == hashlib.sha256(b"hello").hexdigest()
    assert store.get(name) == b"hello"
    assert store.put(b"hello") == name
    assert list(store.all()) == [name]


def test_an_array_comes_back(store: Store) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(store.get_array(store.put_array(array)), array)


def test_a_rotten_artefact_is_not_handed_out(store: Store) -> None:
    name = store.put(b"hello")
    store.path(name).write_bytes(b"hallo")
    with pytest.raises(InfrastructureError, match="does not hash to its name"):
        store.get(name)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "/x"])
def test_a_name_that_is_no_digest_reaches_no_file(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        store.path(name)


def test_a_finished_file_is_linked_in_and_stays_until_its_owner_removes_it(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"model")
    name = store.link(file)
    assert store.link(file) == name
    file.unlink()
    assert store.get(name) == b"model"


def test_a_file_on_another_disk_is_copied_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    file = tmp_path / "upload"
    file.write_bytes(b"model")
    assert store.get(store.link(file)) == b"model"


def test_a_full_disk_is_our_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InfrastructureError, match="No space left"):
        store.put(b"hello")
    assert list(store.all()) == []


def test_only_old_things_that_nothing_refers_to_are_collected(store: Store) -> None:
    used, orphan, young = store.put(b"used"), store.put(b"orphan"), store.put(b"young")
    abandoned = store.folder / ".new-abandoned"
    abandoned.touch()
    for path in (store.path(used), store.path(orphan), abandoned):
        os.utime(path, (1.0, 1.0))
    assert store.collect({used}) == 2
    assert set(store.all()) == {used, young}
    assert not abandoned.exists()


def test_storing_it_again_makes_an_old_artefact_young(store: Store) -> None:
    name = store.put(b"again")
    os.utime(store.path(name), (1.0, 1.0))
    store.put(b"again")
    assert store.collect(set()) == 0
    assert store.has(name)
