from __future__ import annotations

import gc
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from bench.errors import UserError
from server import packaging
from server.packaging import KIT

KINDS = ["model", "untargeted-attack"]
GOOD = """
[submission]
kind = "model"
name = "mine"
track = "mnist5k-robust-model"
command = ["python3", "model.py"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    packaging.new("model", tmp_path / "mine")
    return tmp_path / "mine"


def members(package: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(package) as archive:
        return {member.name: member for member in archive}


@pytest.mark.parametrize("kind", KINDS)
def test_new_writes_a_submission_with_a_copy_of_the_kit(kind: str, tmp_path: Path) -> None:
    written = packaging.new(kind, tmp_path / "My Entry 2")
    assert all(path.is_file() for path in written)
    manifest = packaging.read_manifest(tmp_path / "My Entry 2")
    assert (manifest.kind, manifest.name) == (kind, "my-entry-2")
    names = {path.name for path in KIT.glob("*.py")}
    assert {path.name for path in (tmp_path / "My Entry 2" / "kit").glob("*.py")} == names
    assert not (tmp_path / "My Entry 2" / "kit" / "templates").exists()


def test_new_takes_an_empty_folder_and_a_name(tmp_path: Path) -> None:
    packaging.new("model", tmp_path, "other")
    assert packaging.read_manifest(tmp_path).name == "other"


def test_new_leaves_a_folder_with_something_in_it_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not an empty folder; name one that is new"):
        packaging.new("model", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("untargeted_attack", "did you mean 'untargeted-attack'"),
        ("poem", "there are: model, untargeted-attack, targeted-attack"),
    ],
)
def test_new_names_the_kinds_that_there_are(kind: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        packaging.new(kind, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["", "Two Words", "-dash", "a" * 61, "ümlaut", "a/b", "a\n"])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a-z, 0-9 and dashes"):
        packaging.new("model", tmp_path / "mine", name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("[submission]", "[submision]"), "unknown table 'submision'; did you mean 'submission'"),
        (("track =", "trak ="), r"unknown key of \[submission\] 'trak'; did you mean 'track'"),
        (('name = "mine"\n', ""), "lacks name"),
        (('"mine"', '"Mine!"'), "got the name 'Mine!', wanted .* such as 'mine'"),
        (('"mine"', "7"), 'name is 7, wanted a text, such as name = "..."'),
        (('"model"', '"modle"'), "no kind of submission is called 'modle'; did you mean 'model'"),
        (("robust-model", "robust-modle"), "did you mean mnist5k-robust-model"),
        (
            ("robust-model", "untargeted-attack"),
            "takes kind = 'untargeted-attack', got 'model'; tracks for that: .*mnist5k-robust",
        ),
        (('["python3", "model.py"]', '"python3 model.py"'), "wanted a list of words"),
        (('["python3", "model.py"]', "[]"), "wanted a list of words"),
        (('"model.py"', '"main.py"'), "command names main.py, which is not in"),
        (("[submission]", "[submission"), "is no TOML: .*line 2"),
    ],
)
def test_a_mistake_in_the_manifest_is_named_with_its_mend(
    change: tuple[str, str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "model.py").touch()
    (tmp_path / "tiltyard.toml").write_text(GOOD)
    packaging.read_manifest(tmp_path)
    assert change[0] in GOOD
    (tmp_path / "tiltyard.toml").write_text(GOOD.replace(*change))
    with pytest.raises(UserError, match=reason) as caught:
        packaging.read_manifest(tmp_path)
    assert str(tmp_path / "tiltyard.toml") in str(caught.value)


def test_a_folder_without_manifest_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no tiltyard.toml; `tiltyard new model DIR`"):
        packaging.read_manifest(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        packaging.read_manifest(tmp_path / "nothing")


def test_the_same_files_give_the_same_package_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    first = packaging.source_package(folder, tmp_path / "first.tar.gz").read_bytes()
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    other = tmp_path / "elsewhere"
    folder.rename(other)
    assert packaging.source_package(other, tmp_path / "second.tar.gz").read_bytes() == first
    (other / "model.py").write_text("changed")
    assert packaging.source_package(other, tmp_path / "third.tar.gz").read_bytes() != first


def test_a_package_holds_the_folder_and_nothing_about_its_owner(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)
    inside = members(packaging.source_package(folder, tmp_path / "package.tar.gz"))
    assert {"tiltyard.toml", "model.py", "weights.npz", "kit/__init__.py"} <= set(inside)
    assert list(inside) == sorted(inside)
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in inside.values()} == {(0, 0, "", 0)}
    assert (inside["run.sh"].mode, inside["model.py"].mode) == (0o755, 0o644)


def test_the_kit_is_added_where_it_is_missing_and_kept_where_it_is_not(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "kit" / "wire.py").write_text("mine")
    with tarfile.open(packaging.source_package(folder, tmp_path / "own.tar.gz")) as archive:
        own = archive.extractfile("kit/wire.py")
        assert own is not None
        assert own.read() == b"mine"
    for path in (folder / "kit").iterdir():
        path.unlink()
    (folder / "kit").rmdir()
    with tarfile.open(packaging.source_package(folder, tmp_path / "added.tar.gz")) as archive:
        added = archive.extractfile("kit/wire.py")
        assert added is not None
        assert added.read() == (KIT / "wire.py").read_bytes()


def test_what_is_no_part_of_a_submission_stays_here(folder: Path, tmp_path: Path) -> None:
    before = members(packaging.source_package(folder, tmp_path / "before.tar.gz"))
    for name in (".git/config", "__pycache__/model.pyc", ".venv/bin/python", "venv/x", ".env"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    (folder / ".venv" / "link").symlink_to("/")
    after = members(packaging.source_package(folder, tmp_path / "after.tar.gz"))
    assert list(after) == list(before)


def test_a_link_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    (folder / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="passwords is a link"):
        packaging.source_package(folder, tmp_path / "package.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_more_than_the_track_takes_is_refused_with_the_largest_file(
    folder: Path, tmp_path: Path
) -> None:
    with (folder / "huge.bin").open("wb") as file:
        file.truncate(6000 * 2**20)  # sparse: takes no room
    with pytest.raises(UserError, match=r"takes 5120 MiB at most; the largest file is huge.bin"):
        packaging.source_package(folder, tmp_path / "package.tar.gz")


def test_a_tag_names_the_submission_and_its_files(folder: Path) -> None:
    first = packaging.image_tag(folder)
    assert first.startswith("tiltyard/submission:mine-")
    assert packaging.image_tag(folder) == first
    (folder / "model.py").write_text("changed")
    assert packaging.image_tag(folder) != first


def test_a_folder_without_dockerfile_is_no_image(folder: Path) -> None:
    (folder / "Dockerfile").unlink()
    with pytest.raises(UserError, match=r"has no Dockerfile; `tiltyard new model DIR`"):
        packaging.build_image(folder)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_machine_without_docker_is_told_what_helps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/no.sock")
    with pytest.raises(UserError, match="Docker does not answer: .*start Docker, or submit to"):
        packaging.build_image(folder)
    gc.collect()  # the SDK leaves the socket open that it could not connect: have it warn here


def test_an_image_is_built_with_the_kit_and_saved_under_its_tag(
    folder: Path, tmp_path: Path, docker_engine: str
) -> None:
    from server.sandbox import base_image

    base_image.ensure()
    (folder / "train.py").write_text("# this test's own\n")
    for path in (folder / "kit").iterdir():
        path.unlink()
    tag = packaging.image_tag(folder)
    lines: list[str] = []
    identity = packaging.build_image(folder, report=lines.append)
    try:
        assert identity.startswith("sha256:")
        assert any("COPY . /submission" in line for line in lines)
        saved = packaging.save_image(tag, tmp_path / "image.tar")
        with tarfile.open(saved) as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            (entry,) = json.load(manifest)
            assert entry["RepoTags"] == [tag]
            layers = [archive.extractfile(layer) for layer in entry["Layers"]]
            names: set[str] = set()
            for layer in layers:
                assert layer is not None
                with tarfile.open(fileobj=io.BytesIO(layer.read())) as inner:
                    names |= set(inner.getnames())
        assert {"submission/model.py", "submission/kit/__init__.py"} <= names
    finally:
        with packaging.docker_client() as client:
            client.images.remove(tag, force=True)


def test_a_build_that_fails_says_so_with_its_last_lines(folder: Path, docker_engine: str) -> None:
    from server.sandbox import base_image

    base_image.ensure()
    dockerfile = "FROM debian:bookworm-slim\nRUN echo so far && exit 3\nCMD true\n"
    (folder / "Dockerfile").write_text(dockerfile)
    with pytest.raises(UserError, match=r"(?s)the image was not built: .*non-zero code: 3.*so far"):
        packaging.build_image(folder, "tiltyard/test:never", lambda line: None)


def test_an_image_that_is_not_there_cannot_be_saved(tmp_path: Path, docker_engine: str) -> None:
    with pytest.raises(UserError, match="tiltyard/test:nothing could not be saved"):
        packaging.save_image("tiltyard/test:nothing", tmp_path / "image.tar")
    assert list(tmp_path.iterdir()) == []
