"""Images a second through sandbox and referee, side by side with the stack of 2018 in one run.

    python benchmarks/protocol.py [--sandbox docker|process] [--rounds 5]

The same model of 64x64x3 images and 200 classes, by turns:

- the peer: its own `model_server` and `load_model().predict`, unchanged, on loopback (no sandbox);
- ours: an attack in a sandbox, the referee, a model in another sandbox: single images and batches
  of 100, by the kit.

Medians of rounds. The goals: single images 8 times, batches 40 times the peer's images a second.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Literal

import torch

import bench
from attacks.ledger import Ledger
from attacks.perturbation import perturb
from bench.runs import versions_text
from server import packaging
from server.entries import ContainerAttack, ContainerModel
from server.sandbox import base_image, provider
from server.sandbox.types import Labels, Limits, Package, Provider

HERE = Path(__file__).resolve().parent
AVC = HERE.parent / "tests" / "server" / "avc2018"
ENTRIES = HERE / "protocol_2018"
SHAPE = (64, 64, 3)
LIMITS = Limits(run_seconds=600)
SINGLES, BATCHES, PEER = 500, 20, 200
"""Calls in one round."""

Sandbox = Literal["docker", "process"]
Rates = dict[str, list[float]]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandbox", choices=["docker", "process"], default="docker")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    environment = _environment()
    peer: Rates = {}
    ours: Rates = {}
    with ExitStack() as stack:
        address = stack.enter_context(_peer_server(environment))
        play = stack.enter_context(_ours(chosen.sandbox))
        for _ in range(chosen.rounds):
            _add(peer, _peer_client(environment, address))
            _add(ours, play())
    base = statistics.median(peer["single"])
    print("| way | images a second | range | times the peer |")
    print("|---|---:|---|---:|")
    for name, rates in (
        ("2018 on loopback, one image a request", peer["single"]),
        (f"ours, {chosen.sandbox}, one image a request", ours["single"]),
        (f"ours, {chosen.sandbox}, 100 images a request", ours["batch"]),
    ):
        middle = statistics.median(rates)
        print(
            f"| {name} | {middle:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {middle / base:.1f} |"
        )
    print(f"\n{date.today()}, {os.cpu_count()} cores, {platform.machine()}, {versions_text()}")


def _environment() -> Path:
    done = subprocess.run(
        [sys.executable, AVC / "build_2018.py"], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(done.stdout.strip())


@contextmanager
def _peer_server(environment: Path) -> Iterator[int]:
    """The port of a model server of 2018."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = subprocess.Popen(
        [environment / "bin" / "python", AVC / "model_2018.py"],
        env=_variables(port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


def _peer_client(environment: Path, port: int) -> str:
    return subprocess.run(
        [environment / "bin" / "python", ENTRIES / "client.py", str(PEER), "1"],
        env=_variables(port),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout


def _variables(port: int) -> dict[str, str]:
    # Its default, "localhost", is looked up for every request: named by number it is faster.
    # Its own limit of queries is as far away as its own variable puts it.
    own = {"MODEL_SERVER": "127.0.0.1", "MODEL_PORT": str(port), "NUM_IMAGES": "1000000"}
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **own}


@contextmanager
def _ours(sandbox: Sandbox) -> Iterator[_Match]:
    """A match of our two entries that can be played again and again."""
    if sandbox == "docker":
        base_image.ensure()
    made = provider(sandbox, f"benchmark-{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(made.close)
        packages = {}
        for role, options in (("model", []), ("attack", [SINGLES, BATCHES, 1])):
            words = ["python3", "entry.py", role, *map(str, options)]
            packages[role] = _package(Path(folder) / role, words, made, sandbox)
            stack.callback(made.forget, packages[role].digest)
        labels = Labels("benchmark", 1, time.time() + 3600)
        model = ContainerModel(
            made, packages["model"], labels=labels, limits=LIMITS, image_shape=SHAPE, classes=200
        )
        stack.enter_context(model)
        yield _Match(made, packages["attack"], labels, model)


class _Match:
    def __init__(
        self, made: Provider, attack: Package, labels: Labels, model: ContainerModel
    ) -> None:
        self._provider, self._attack, self._labels, self._model = made, attack, labels, model
        self._image = bench.dataset("tiny-imagenet-avc").take(1).images

    def __call__(self) -> str:
        """Play once; what the attack printed."""
        truth = self._model(self._image).argmax(1)
        attack = ContainerAttack(
            self._provider, self._attack, labels=self._labels, limits=LIMITS, track="benchmark"
        )
        budget = 10 * (SINGLES + 100 * BATCHES)
        record = Ledger()  # as on the server
        perturb(
            attack, self._model, self._image, truth, budget=budget, quantised=True, ledger=record
        )
        return attack.runs[0].logs


def _package(folder: Path, words: list[str], made: Provider, sandbox: Sandbox) -> Package:
    folder.mkdir()
    shutil.copy(ENTRIES / "entry.py", folder)
    kind = "model" if words[2] == "model" else "untargeted-attack"
    track = "mnist5k-robust-model" if kind == "model" else "mnist5k-untargeted-attack"
    (folder / "tiltyard.toml").write_text(
        f'[submission]\nkind = "{kind}"\nname = "benchmark"\ntrack = "{track}"\n'
        f"command = {words}\n".replace("'", '"')
    )
    file = folder.with_suffix(".package")
    if sandbox == "process":
        return made.load(packaging.source_package(folder, file), LIMITS)
    command = "CMD " + str(words).replace("'", '"')
    (folder / "Dockerfile").write_text(f"FROM {base_image.IMAGE}\nCOPY . .\n{command}\n")
    tag = packaging.image_tag(folder)
    packaging.build_image(folder, tag, report=lambda line: None)
    loaded = made.load(packaging.save_image(tag, file), LIMITS)
    with packaging.docker_client() as client:
        client.images.remove(tag)
    return loaded


def _add(rates: Rates, printed: str) -> None:
    for line in printed.splitlines():
        if line.startswith("rate "):
            _, name, rate = line.split()
            rates.setdefault(name, []).append(float(rate))


if __name__ == "__main__":
    main()
