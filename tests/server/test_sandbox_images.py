"""Image tarballs: what is refused before the engine sees it, and what it sees instead."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.sandbox import images, streams
from server.sandbox.docker import DockerProvider
from server.sandbox.errors import PackageRefused
from server.sandbox.images import check, rewritten, tag
from server.sandbox.types import Labels, Limits, Package

MIB = 1 << 20


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def file(name: str, data: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data


LAYER = packed(file("model.py", b"print('hello')"), file("weights", bytes(5000)))


class Saved:
    """A tarball as `docker save` writes it, whose parts a test may change."""

    def __init__(self, *layers: bytes) -> None:
        self.layers = list(layers) or [LAYER]
        self.config: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["python3", "model.py"]},
            "rootfs": {"type": "layers", "diff_ids": [
                f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in self.layers
            ]},
        }  # fmt: skip
        names = [f"{i}/layer.tar" for i in range(len(self.layers))]
        self.manifest: Any = [
            {"Config": "config.json", "RepoTags": ["debian:bookworm-slim"], "Layers": names}
        ]
        self.more = [file("repositories", b'{"debian": {"bookworm-slim": "0"}}')]

    def bytes(self) -> bytes:
        layers = [file(f"{i}/layer.tar", layer) for i, layer in enumerate(self.layers)]
        return packed(
            *layers,
            file("config.json", json.dumps(self.config).encode()),
            file("manifest.json", json.dumps(self.manifest).encode()),
            *self.more,
        )

    def write(self, folder: Path) -> Path:
        path = folder / "image.tar"
        path.write_bytes(self.bytes())
        return path


def refusal(path: Path, image_mib: int = 10) -> str:
    with pytest.raises(PackageRefused) as refused:
        check(path, image_mib)
    assert refused.value.mend
    return str(refused.value)


def test_a_saved_image_is_described(tmp_path: Path) -> None:
    saved = Saved()
    image = check(saved.write(tmp_path), 10)
    config = json.dumps(saved.config).encode()
    assert image.digest == f"sha256:{hashlib.sha256(config).hexdigest()}"
    assert image.architecture == "amd64"
    assert image.unpacked == 14 + 5000


def test_a_gzipped_image_is_the_same_image(tmp_path: Path) -> None:
    saved = Saved()
    path = tmp_path / "image.tar.gz"
    path.write_bytes(gzip.compress(saved.bytes()))
    assert check(path, 10) == check(saved.write(tmp_path), 10)
    assert b"".join(rewritten(path, 10)) == b"".join(rewritten(tmp_path / "image.tar", 10))


def test_what_the_engine_gets_has_our_tag_and_our_names_and_nothing_else(tmp_path: Path) -> None:
    saved = Saved(LAYER, packed(file("more", b"x")))
    path = saved.write(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(rewritten(path, 10)))) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    digest = check(path, 10).digest
    config = digest.removeprefix("sha256:") + ".json"
    assert set(found) == {config, "layer-000.tar", "layer-001.tar", "manifest.json"}
    assert hashlib.sha256(found[config]).hexdigest() in digest
    assert [found["layer-000.tar"], found["layer-001.tar"]] == saved.layers
    assert json.loads(found["manifest.json"]) == [
        {"Config": config, "RepoTags": [tag(digest)], "Layers": ["layer-000.tar", "layer-001.tar"]}
    ]


def test_a_layer_that_is_a_link_to_another_is_resolved(tmp_path: Path) -> None:
    # Docker up to version 24 saved a layer that stands twice in this way.
    saved = Saved(LAYER)
    saved.manifest[0]["Layers"] = ["0/layer.tar", "1/layer.tar"]
    saved.config["rootfs"]["diff_ids"] *= 2
    saved.more.append(file("1/layer.tar", b"", tarfile.SYMTYPE, "../0/layer.tar"))
    path = saved.write(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(rewritten(path, 10)))) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest[0]["Layers"] == ["layer-000.tar", "layer-000.tar"]


def test_a_compressed_layer_is_measured_unpacked(tmp_path: Path) -> None:
    saved = Saved()
    saved.layers = [gzip.compress(LAYER)]
    assert check(saved.write(tmp_path), 10).unpacked == 14 + 5000


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (file("../../etc/cron.d/x", b"x"), "leads outside"),
        (file("/etc/passwd", b"x"), "leads outside"),
        (file("a/../../b", b"x"), "leads outside"),
        (file("out", b"", tarfile.SYMTYPE, "../../etc/shadow"), "a link to '../../etc/shadow'"),
        (file("out", b"", tarfile.SYMTYPE, "/etc/shadow"), "a link to '/etc/shadow'"),
        (file("hard", b"", tarfile.LNKTYPE, "config.json"), "neither a file nor a folder"),
        (file("device", b"", tarfile.CHRTYPE), "neither a file nor a folder"),
        (file("pipe", b"", tarfile.FIFOTYPE), "neither a file nor a folder"),
    ],
)
def test_a_strange_member_is_refused(tmp_path: Path, member: Any, words: str) -> None:
    saved = Saved()
    saved.more.append(member)
    assert words in refusal(saved.write(tmp_path))


def test_a_path_in_a_layer_that_leads_outside_is_refused(tmp_path: Path) -> None:
    saved = Saved(packed(file("app/../../../etc/x", b"x")))
    assert "a layer holds the path" in refusal(saved.write(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.manifest.append(s.manifest[0]), "several images"),
        (lambda s: s.manifest.clear(), "several images"),
        (lambda s: setattr(s, "manifest", {"a": 1}), "several images"),
        (lambda s: setattr(s, "manifest", ["x"]), "not that of `docker save`"),
        (lambda s: s.manifest[0].update(Layers=[1]), "not that of `docker save`"),
        (lambda s: s.manifest[0].update(Layers=["0/layer.tar", "9/layer.tar"]), "is not in it"),
        (lambda s: s.manifest[0].update(Config="../config.json"), "is not in it"),
        (lambda s: s.config.pop("rootfs"), "not that of a Docker image"),
        (lambda s: setattr(s, "config", []), "not that of a Docker image"),
        (lambda s: s.config["rootfs"].update(diff_ids=[]), "1 layers and its config names 0"),
        (lambda s: s.config.update(os="windows"), "an image for windows"),
        (lambda s: s.config.update(config={}), "no command to run"),
        (lambda s: setattr(s, "layers", [b"not a tar archive" * 50]), "not a tar archive"),
        (lambda s: setattr(s, "layers", [b"\x28\xb5\x2f\xfd" + bytes(600)]), "zstd"),
    ],
)
def test_a_tarball_that_is_not_one_image_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[Saved], Any], words: str
) -> None:
    saved = Saved()
    change(saved)
    assert words in refusal(saved.write(tmp_path))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"hello" * 200, "not a tar archive"),
        (packed(file("a", b"b")), "no manifest.json"),
        (packed(file("x/tiltyard.toml", b"")), "it is a source package"),
        (gzip.compress(b"hello" * 200), "not a tar archive"),
        (gzip.compress(bytes(100))[:-10], "gzip is damaged"),
        (b"PK\x03\x04" + bytes(600), "packed with zip"),
    ],
)
def test_something_else_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(data)
    assert words in refusal(path)


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(Saved().bytes()[:3000])
    refusal(path)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    with path.open("wb") as sparse:
        sparse.truncate(11 * MIB)
    assert "11 MiB, the track takes 10 MiB" in refusal(path)


def test_a_gzip_bomb_is_refused_by_its_ratio_and_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.tar.gz"
    path.write_bytes(gzip.compress(bytes(20 * MIB)))
    assert "unpacks to more than 10 MiB" in refusal(path, 10)
    monkeypatch.setattr(streams, "FREE_BYTES", 5 * MIB)
    assert "more than 200 times" in refusal(path, 100)


def test_a_compressed_layer_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    saved = Saved()
    saved.layers = [gzip.compress(packed(file("zeros", bytes(12 * MIB))))]
    assert "more than" in refusal(saved.write(tmp_path), 10)


def test_a_sparse_file_counts_as_large_as_it_would_be(tmp_path: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 50),
        "GNU.sparse.map": "0,1",
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    saved = Saved(stream.getvalue())
    assert "unpack to more than" in refusal(saved.write(tmp_path))


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2 * MIB
    saved = Saved(info.tobuf() + b"a" * (2 * MIB) + LAYER)
    assert f"a header of {2 * MIB} bytes" in refusal(saved.write(tmp_path))


@pytest.mark.parametrize(
    ("name", "most", "words"),
    [("LAYER_MEMBERS", 1, "more than 1 files"), ("OUTER_MEMBERS", 3, "more than 3 files")],
)
def test_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int, words: str
) -> None:
    monkeypatch.setattr(images, name, most)
    assert words in refusal(Saved().write(tmp_path))


def test_too_many_layers_are_refused(tmp_path: Path) -> None:
    assert "127 at most" in refusal(Saved(*[LAYER] * 128).write(tmp_path))


# On an engine.


@pytest.fixture
def forgetting(docker_provider: DockerProvider) -> Iterator[list[str]]:
    digests: list[str] = []
    yield digests
    for digest in digests:
        docker_provider.forget(digest)


def test_a_loaded_image_is_ours_alone_and_leaves_other_tags_as_they_were(
    docker_provider: DockerProvider, tmp_path: Path, forgetting: list[str]
) -> None:
    base = docker_provider.api.inspect_image("debian:bookworm-slim")["Id"]
    path = Saved().write(tmp_path)  # it calls itself debian:bookworm-slim
    package = docker_provider.load(path, Limits())
    forgetting.append(package.digest)
    found = docker_provider.api.inspect_image(tag(package.digest))
    assert found["RepoTags"] == [tag(package.digest)]
    assert package.digest == found["Id"]
    assert docker_provider.api.inspect_image("debian:bookworm-slim")["Id"] == base


def test_loading_again_with_the_digest_does_not_read_the_file(
    docker_provider: DockerProvider, tmp_path: Path, forgetting: list[str]
) -> None:
    path = Saved().write(tmp_path)
    package = docker_provider.load(path, Limits())
    forgetting.append(package.digest)
    path.write_bytes(b"damaged meanwhile")
    again = docker_provider.load(path, Limits(), digest=package.digest)
    assert again.digest == package.digest
    docker_provider.forget(package.digest)
    with pytest.raises(PackageRefused):
        docker_provider.load(path, Limits(), digest=package.digest)


def test_a_layer_that_is_not_what_the_config_says_is_refused(
    docker_provider: DockerProvider, tmp_path: Path
) -> None:
    saved = Saved()
    saved.layers = [packed(file("model.py", b"something else"))]
    with pytest.raises(PackageRefused, match="the engine can't load the image"):
        docker_provider.load(saved.write(tmp_path), Limits())


def test_an_image_for_another_processor_is_refused_with_the_mend(
    docker_provider: DockerProvider, tmp_path: Path
) -> None:
    saved = Saved()
    saved.config["architecture"] = "s390x"
    with pytest.raises(PackageRefused, match="--platform linux/"):
        docker_provider.inspect(saved.write(tmp_path), Limits())


def test_an_image_saved_by_docker_is_loaded_and_runs_and_is_loaded_again_when_lost(
    docker_provider: DockerProvider,
    hostile_image: Callable[..., Package],
    tmp_path: Path,
    forgetting: list[str],
) -> None:
    made = hostile_image("model.py", "good")
    path = tmp_path / "saved.tar"
    with path.open("wb") as out:
        for chunk in docker_provider.api.get_image(tag(made.digest), chunk_size=MIB):
            out.write(chunk)
    docker_provider.forget(made.digest)
    package = docker_provider.load(path, Limits())
    forgetting.append(package.digest)
    assert package.digest == made.digest
    assert package.unpacked > 10 * MIB
    docker_provider.forget(package.digest)
    labels = Labels("saved", 1, time.time() + 600)
    limits = replace(Limits(), memory_mib=256)
    with docker_provider.open(package, "model", labels=labels, limits=limits) as sandbox:
        sandbox.start()
        assert sandbox.call("GET", "/v1/ready").status == 200
