"""An attack that leaves files which nobody should follow, wait for, or read whole."""

import os
import sys
import time
from pathlib import Path

images, results = Path(os.environ["INPUT_IMG_PATH"]), Path(os.environ["OUTPUT_ADVERSARIAL_PATH"])


def kinds() -> None:
    """One of each kind."""
    (results / "00000.npy").write_bytes(b"plain")
    (results / "00001.npy").symlink_to("/etc/passwd")
    os.mkfifo(results / "00002.npy")
    (results / "folder.npy").mkdir()
    with (results / "large.npy").open("wb") as file:
        file.truncate(100_000)


def fill() -> None:
    """As much as fits."""
    written = 0
    try:
        while written < 1 << 30:
            (results / f"part{written:010}").write_bytes(bytes(1 << 16))
            written += 1 << 16
    except OSError as error:
        print("full:", error.strerror, flush=True)
    print("written:", written, flush=True)


def change() -> None:
    """The inputs."""
    try:
        (images / "labels.yml").write_text("changed")
        print("inputs: changed", flush=True)
    except OSError as error:
        print("inputs:", error.strerror, flush=True)


print("found:", sorted(path.name for path in images.iterdir()), flush=True)
print("labels:", Path(os.environ["INPUT_YML_PATH"]).read_text(), flush=True)
print("count:", os.environ["NUM_IMAGES"], flush=True)
modes = {"kinds": kinds, "fill": fill, "change": change, "hang": lambda: time.sleep(600)}
modes[sys.argv[1]]()
