"""Have the base image that every Dockerfile of ours names: ``python -m server.sandbox.base_image``.

Takes what is there: the image itself, else a pull, else a build with debootstrap (Debian, root).
The build also holds python3 and python3-numpy, so that the Dockerfiles, which install them where
they are missing, need no network afterwards. Standard library and the ``docker`` command only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

IMAGE = "debian:bookworm-slim"
SUITE = "bookworm"
INCLUDE = "python3,python3-numpy"

ANSWER_SECONDS = 15.0
"""How long a registry may take to answer at all; without a network a pull can hang for minutes."""
PULL_SECONDS = 900.0

NOT_NEEDED = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./usr/share/doc/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
)


class NoBaseImageError(Exception):
    """The image is not there and can't be made; the message says what would help."""


def ensure(image: str = IMAGE) -> str:
    """Have the image in the local engine; returns how: "present", "pulled" or "built".

    Raises:
        NoBaseImageError: no engine answers, or none of the three ways works here.
    """
    _require_engine()
    if _quiet("docker", "image", "inspect", image):
        return "present"
    if pull(image):
        return "pulled"
    if image != IMAGE:
        raise NoBaseImageError(f"{image} can't be pulled; only {IMAGE} can be built here")
    build(image)
    return "built"


def pull(image: str) -> bool:
    """Pull, giving up soon when the registry does not answer."""
    process = subprocess.Popen(
        ["docker", "pull", image],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    # The first line comes once the registry has sent the manifest: from then on it may take long.
    timer = threading.Timer(ANSWER_SECONDS, process.kill)
    timer.start()
    try:
        answered = bool(process.stdout.readline())
        timer.cancel()
        if not answered:
            return False
        process.communicate(timeout=PULL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
    return process.returncode == 0


def build(image: str) -> None:
    """Build the image with debootstrap from this machine's Debian mirror."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise NoBaseImageError(
            f"{image} is neither here nor can it be pulled; connect to a network and run "
            f"`docker pull {image}`, or on Debian run this command as root with debootstrap "
            "installed (apt-get install debootstrap)"
        )
    with tempfile.TemporaryDirectory(prefix="tiltyard-base-") as folder:
        root = Path(folder, "root")
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", SUITE, str(root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NoBaseImageError(f"debootstrap failed:\n{_last_lines(done.stdout)}")
        _import(root, image)


def _import(root: Path, image: str) -> None:
    excluded = [f"--exclude={pattern}" for pattern in NOT_NEEDED]
    with subprocess.Popen(
        ["tar", "-C", str(root), "--numeric-owner", *excluded, "-c", "."], stdout=subprocess.PIPE
    ) as packing:
        done = subprocess.run(
            ["docker", "import", "--change", 'CMD ["/bin/sh"]', "-", image],
            stdin=packing.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0 or packing.returncode != 0:
        raise NoBaseImageError(f"docker import failed: {_last_lines(done.stderr)}")


def _require_engine() -> None:
    if shutil.which("docker") is None:
        raise NoBaseImageError("there is no docker command here; install Docker Engine")
    if not _quiet("docker", "version", "--format", "{{.Server.Version}}"):
        raise NoBaseImageError("the Docker engine does not answer; is dockerd running?")


def _quiet(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _last_lines(text: str, count: int = 5) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def main() -> int:
    try:
        print(f"{IMAGE}: {ensure()}")
    except NoBaseImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
