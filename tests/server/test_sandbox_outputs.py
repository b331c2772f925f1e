"""What an attack leaves as files: read where it is plain, named where it is not, never followed."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from server.sandbox import outputs
from server.sandbox.types import Files, Labels, Limits, Outputs, Package, Provider

LIMITS = Limits(start_seconds=60, run_seconds=60, memory_mib=256, pids=48)
FILES = Files({"00000.npy": b"image", "labels.yml": b"00000.npy: 7\n"}, largest=1000)
Entries = tuple[Provider, Callable[..., Package]]
both = pytest.mark.parametrize("provider_name", ["docker", "process"])
docker_only = pytest.mark.parametrize("provider_name", ["docker"])


async def nobody(scope: object, receive: object, send: object) -> None: ...


def collected(entries: Entries, mode: str, files: Files = FILES) -> tuple[Outputs, str]:
    """What a run of hostile/files.py has left, and what it printed."""
    provider, entry = entries
    sandbox = provider.open(
        entry("files.py", mode),
        "attack",
        labels=Labels("outputs", 1, time.time() + 600),
        limits=LIMITS,
        referee=nobody,
        files=files,
    )
    with sandbox:
        sandbox.start()
        assert sandbox.wait(60) is not None
        found = sandbox.collect()
    return found, sandbox.logs()


@both
def test_an_attack_finds_its_files_and_what_it_leaves_is_read(sandboxes: Entries) -> None:
    found, logs = collected(sandboxes, "kinds")
    assert "found: ['00000.npy', 'labels.yml']" in logs
    assert "labels: 00000.npy: 7" in logs
    assert "count: 1" in logs
    assert found.files == {"00000.npy": b"plain"}
    assert set(found.refused) == {"00001.npy", "00002.npy", "folder.npy", "large.npy"}
    assert "100000 bytes, wanted 1000 at most" in found.refused["large.npy"]


@docker_only
def test_the_results_have_a_bounded_size_and_a_bounded_number(sandboxes: Entries) -> None:
    found, logs = collected(sandboxes, "fill")
    assert "full: No space left on device" in logs
    assert int(logs.rpartition("written: ")[2]) < 2 << 20
    assert found.files == {}
    assert found.refused


@docker_only
def test_the_inputs_can_only_be_read(sandboxes: Entries) -> None:
    _, logs = collected(sandboxes, "change")
    assert "inputs: Read-only file system" in logs


@both
def test_an_attack_that_still_runs_is_ended_before_its_files_are_read(sandboxes: Entries) -> None:
    provider, entry = sandboxes
    sandbox = provider.open(
        entry("files.py", "hang"),
        "attack",
        labels=Labels("outputs", 1, time.time() + 600),
        limits=LIMITS,
        referee=nobody,
        files=FILES,
    )
    with sandbox:
        sandbox.start()
        assert sandbox.wait(0.5) is None
        assert sandbox.collect() == Outputs({}, {})
        assert sandbox.wait(10) is not None


def test_more_files_than_there_may_be_are_not_read(tmp_path: Path) -> None:
    for number in range(FILES.most + 5):
        (tmp_path / f"{number}").write_bytes(b"x")
    found = outputs.from_folder(tmp_path, FILES)
    assert len(found.files) == FILES.most
    assert list(found.refused.values()) == [f"there are more than {FILES.most} files"]


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    return info, data


@pytest.mark.parametrize("piece", [1, 7, 512, 100_000])
def test_an_archive_is_read_in_pieces_of_any_size(piece: int) -> None:
    data = archive(
        member("results", kind=tarfile.DIRTYPE),
        member("results/a.npy", b"first" * 100),
        member("results/b.npy", b"second"),
        member("results/link", kind=tarfile.SYMTYPE),
        member("results/device", kind=tarfile.CHRTYPE),
        member("results/big", bytes(1001)),
    )
    chunks = (data[at : at + piece] for at in range(0, len(data), piece))
    found = outputs.from_tar(chunks, FILES)
    assert found.files == {"a.npy": b"first" * 100, "b.npy": b"second"}
    assert set(found.refused) == {"link", "device", "big"}


def test_an_archive_that_is_cut_off_or_too_long_keeps_what_was_read() -> None:
    data = archive(member("results/a.npy", b"first"), member("results/b.npy", b"second"))
    found = outputs.from_tar([data[:1540]], FILES)  # in the middle of the second content
    assert found.files == {"a.npy": b"first"}
    assert "damaged" in found.refused["."]
    many = archive(*(member(f"results/{n}") for n in range(FILES.most + 3)))
    assert "files" in outputs.from_tar([many], FILES).refused["."]


def test_a_link_is_not_followed_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("precious")
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    os.mkfifo(folder / "pipe")
    found = outputs.from_folder(folder, FILES)
    assert found.files == {}
    assert set(found.refused) == {"link", "pipe"}
