"""Source packages: checked, named by their contents, unpacked whole or not at all."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.sandbox.errors import PackageRefused
from server.sandbox.process import ProcessProvider
from server.sandbox.sources import check, unpack
from server.sandbox.types import Labels, Limits, Package

TOML = b'[submission]\ncommand = ["python3", "model.py"]\n'
FILES = {"tiltyard.toml": TOML, "model.py": b"print(1)", "kit/__init__.py": b""}


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Any:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def write(
    path: Path, files: dict[str, bytes], *more: tarfile.TarInfo, top: str = "", mtime: int = 0
) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = info(top + name)
            member.size, member.mtime = len(data), mtime
            archive.addfile(member, io.BytesIO(data))
        for member in more:
            archive.addfile(member)
    return path


def refusal(path: Path, image_mib: int = 1) -> str:
    with pytest.raises(PackageRefused) as refused:
        check(path, image_mib)
    assert "tiltyard submit" in refused.value.mend or refused.value.mend
    return str(refused.value)


def test_a_package_is_described(tmp_path: Path) -> None:
    source = check(write(tmp_path / "p.tar.gz", FILES), 1)
    assert source.command == ("python3", "model.py")
    assert source.unpacked == sum(map(len, FILES.values()))


@pytest.mark.parametrize("top", ["", "./", "my-model/", "./my-model/"])
def test_the_same_files_have_the_same_digest_however_they_are_packed(
    tmp_path: Path, top: str
) -> None:
    backwards = dict(reversed(FILES.items()))
    first = check(write(tmp_path / "a.tar.gz", FILES), 1)
    second = check(write(tmp_path / "b.tar.gz", backwards, top=top, mtime=99), 1)
    assert first == second
    other = check(write(tmp_path / "c.tar.gz", FILES | {"model.py": b"print(2)"}), 1)
    assert other.digest != first.digest


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (info("../x"), "leads outside"),
        (info("/etc/x"), "leads outside"),
        (info("link", tarfile.SYMTYPE, "/etc/passwd"), "neither a plain file nor a folder"),
        (info("link", tarfile.SYMTYPE, "model.py"), "neither a plain file nor a folder"),
        (info("hard", tarfile.LNKTYPE, "model.py"), "neither a plain file nor a folder"),
        (info("pipe", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (info("device", tarfile.BLKTYPE), "neither a plain file nor a folder"),
    ],
)
def test_a_strange_member_is_refused(tmp_path: Path, member: Any, words: str) -> None:
    assert words in refusal(write(tmp_path / "p.tar.gz", FILES, member))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.py": b""}, "it has no tiltyard.toml"),
        ({"manifest.json": b"[]"}, "it is a Docker image"),
        ({"tiltyard.toml": b"= ="}, "tiltyard.toml can't be read"),
        ({"tiltyard.toml": b"\xff"}, "tiltyard.toml can't be read"),
        ({"tiltyard.toml": b"a = 1"}, "no [submission] with a command"),
        ({"tiltyard.toml": b"submission = 1"}, "no [submission] with a command"),
        ({"tiltyard.toml": b"[submission]\ncommand = []"}, "says command = []"),
        ({"tiltyard.toml": b'[submission]\ncommand = "python3 x"'}, "says command = 'python3 x'"),
        ({"tiltyard.toml": b'[submission]\ncommand = ["", 1]'}, "says command = ['', 1]"),
        ({"tiltyard.toml": TOML, "big": bytes(2 << 20)}, "than 1 MiB"),
    ],
)
def test_a_package_that_can_not_be_run_is_refused(
    tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    assert words in refusal(write(tmp_path / "p.tar.gz", files))


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.tar.gz", FILES)
    path.write_bytes(path.read_bytes()[:-20])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("top", ["", "my-model/"])
def test_unpacking_gives_the_folder(tmp_path: Path, top: str) -> None:
    path = write(tmp_path / "p.tar.gz", FILES, top=top)
    unpack(path, 1, tmp_path / "out" / "x")
    found = {
        str(p.relative_to(tmp_path / "out" / "x")): p.read_bytes()
        for p in (tmp_path / "out" / "x").rglob("*")
        if p.is_file()
    }
    assert found == FILES
    unpack(path, 1, tmp_path / "out" / "x")  # a second one at the same time is harmless
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]


def test_setuid_bits_do_not_survive_unpacking(tmp_path: Path) -> None:
    member = info("tool", mode=0o6755)
    unpack(write(tmp_path / "p.tar.gz", FILES, member), 1, tmp_path / "x")
    assert (tmp_path / "x" / "tool").stat().st_mode & 0o7000 == 0


def test_a_sandbox_works_on_a_copy_and_leaves_the_package_as_it_was(
    process_provider: ProcessProvider, tmp_path: Path
) -> None:
    script = b"open('model.py', 'w').write('changed'); print('done')"
    path = write(tmp_path / "p.tar.gz", FILES | {"model.py": script})
    package = process_provider.load(path, Limits())
    for _ in range(2):
        labels = Labels("copy", 1, time.time() + 60)
        with process_provider.open(
            package, "attack", labels=labels, limits=Limits(), referee=lambda *_: None
        ) as sandbox:
            sandbox.start()
            ended = sandbox.wait(60)
            assert ended is not None
            assert ended.code == 0, sandbox.logs()
            assert sandbox.logs() == "done\n"
    assert process_provider.folder(package, Limits()).joinpath("model.py").read_bytes() == script


def test_what_a_dead_server_left_running_is_killed(
    hostile_source: Callable[..., Package], tmp_path: Path
) -> None:
    package = hostile_source("model.py", "good")
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from server.sandbox.process import ProcessProvider\n"
        "from server.sandbox.types import Labels, Limits\n"
        "provider = ProcessProvider('dead', scratch=Path(sys.argv[1]))\n"
        "package = provider.load(Path(sys.argv[2]), Limits())\n"
        "sandbox = provider.open(package, 'model', labels=Labels('j', 1, time.time() + 600),\n"
        "                        limits=Limits())\n"
        "sandbox.start()\n"
        "print(sandbox._process.pid, flush=True)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path, package.path],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 9, done.stderr
    pid = int(done.stdout)
    os.kill(pid, 0)
    again = ProcessProvider("dead", scratch=tmp_path)
    assert again.reap(lambda: [("j", 1)]) == []
    os.kill(pid, 0)
    assert again.reap(lambda: [("j", 2)]) == ["tiltyard-j-1-model"]
    assert not alive(pid)
    assert list((tmp_path / "running").iterdir()) == []


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that its new parent has not collected does not."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return True
