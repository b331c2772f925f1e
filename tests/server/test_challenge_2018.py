"""Entries of 2018 as they are: the original package, both sides, in our sandboxes.

`avc2018/` has the programs and the environment that they run in: adversarial-vision-challenge 1.0.5
and Foolbox 1.8 from the package index, no file of theirs changed.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor

import attacks
import bench
from attacks.perturbation import Adversarials, perturb
from bench import plugins
from bench.tracks.types import Baseline
from server import local_test
from server.entries import ContainerAttack, ContainerModel
from server.local_test import SandboxName
from server.sandbox import images as docker_images
from server.sandbox.docker import DockerProvider
from server.sandbox.errors import BadAnswer, TooSlow
from server.sandbox.process import ProcessProvider
from server.sandbox.types import Labels, Limits, Package, Provider

AVC = Path(__file__).parent / "avc2018"
LIMITS = Limits(start_seconds=90, call_seconds=60, run_seconds=90)
SHAPE = (64, 64, 3)
PYTHON = (3, 11)
"""Of the base image: an environment's compiled packages fit one version of Python only."""

both = pytest.mark.parametrize("provider_name", ["process", "docker"])
process_only = pytest.mark.parametrize("provider_name", ["process"])

Entries = tuple[Provider, Callable[..., Package]]


class Templates:
    """The function of avc2018/model_2018.py, here."""

    bounds = (0.0, 1.0)

    def __init__(self) -> None:
        weights = np.random.RandomState(2018).randint(-8, 9, (8 * 8 * 3, 200))
        self.weights = torch.from_numpy(weights)

    def __call__(self, images: Tensor) -> Tensor:
        pixels = (images * 255).round().long().permute(0, 2, 3, 1)
        labels = (pixels[:, ::8, ::8].flatten(1) @ self.weights).argmax(1)
        return torch.nn.functional.one_hot(labels, 200).float()


@pytest.fixture(scope="session")
def avc_environment() -> Path:
    """The environment of an entry of 2018."""
    done = subprocess.run(
        [sys.executable, AVC / "build_2018.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def run_sh(options: tuple[str, ...]) -> bytes:
    """The entry point, as it was: `python main.py`."""
    return f"#!/bin/bash\npython main.py {' '.join(options)}\n".encode()


@pytest.fixture
def avc_source(
    process_provider: ProcessProvider,
    avc_environment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Package]:
    """Packages of the programs in avc2018/ for the process sandbox; `python` is the environment's.

    Imports take seconds on a busy machine, which is why they share one provider.
    """
    monkeypatch.setenv("PATH", f"{avc_environment / 'bin'}:{os.environ['PATH']}")

    def entry(program: str, *options: str) -> Package:
        files = {
            "main.py": (AVC / program).read_bytes(),
            "run.sh": run_sh(options),
            "tiltyard.toml": b'[submission]\ncommand = ["bash", "run.sh"]\n',
        }
        path = tmp_path / f"{uuid.uuid4().hex}.tar.gz"
        path.write_bytes(packed(files, "w:gz"))
        return process_provider.load(path, Limits())

    return entry


@pytest.fixture(scope="session")
def avc_image(
    docker_provider: DockerProvider, avc_environment: Path, lacking: Callable[[str, str], NoReturn]
) -> Iterator[Any]:
    """Packages of the programs as images, built from the base image without a network."""
    if sys.version_info[:2] != PYTHON:
        lacking(
            f"the base image has Python {PYTHON}, this is {sys.version_info[:2]}",
            "run the tests with the Python of the base image",
        )
    api = docker_provider.api
    base = f"tiltyard/test:{docker_provider.instance}-2018"
    packages = next((avc_environment / "lib").glob("python3*")) / "site-packages"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(packages, "packages", filter=needed)
    lines = (
        b"FROM debian:bookworm-slim\n"
        b"COPY packages /usr/local/lib/python3.11/dist-packages\n"
        b"RUN ln -s python3 /usr/bin/python\nWORKDIR /home/crowdai\n"
        b'CMD ["bash", "run.sh"]\n'
    )
    build(api, base, {"Dockerfile": lines}, stream)
    made: list[str] = []

    def entry(program: str, *options: str) -> Package:
        files = {
            "Dockerfile": f"FROM {base}\nCOPY main.py run.sh ./\n".encode(),
            "main.py": (AVC / program).read_bytes(),
            "run.sh": run_sh(options),
        }
        identity = build(api, f"{base}-entry", files)
        api.tag(identity, *docker_images.tag(identity).split(":"))
        made.append(identity)
        return Package("image", identity, Path("never-saved"), 0, 0)

    yield entry
    for digest in set(made):
        docker_provider.forget(digest)
    for name in (f"{base}-entry", base):
        api.remove_image(name, force=True)


@pytest.fixture
def entries(provider_name: str, request: pytest.FixtureRequest) -> Entries:
    provider: Provider = request.getfixturevalue(f"{provider_name}_provider")
    return provider, request.getfixturevalue(
        {"docker": "avc_image", "process": "avc_source"}[provider_name]
    )


def needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith(("/__pycache__", "/tests")) else member


def packed(files: dict[str, bytes], mode: Any, stream: io.BytesIO | None = None) -> bytes:
    """A tar archive; of the members of `stream` too, to which the files are appended."""
    stream = stream or io.BytesIO()
    stream.seek(0)
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def build(api: Any, tag: str, files: dict[str, bytes], stream: io.BytesIO | None = None) -> str:
    context = io.BytesIO(packed(files, "a" if stream else "w", stream))
    lines = list(api.build(fileobj=context, custom_context=True, tag=tag, rm=True, decode=True))
    assert "error" not in lines[-1], lines
    return str(api.inspect_image(tag)["Id"])


@cache
def pictures(count: int) -> Tensor:
    """Public images of the 2018 challenge."""
    return bench.dataset("tiny-imagenet-avc").take(count).images


def owner() -> Labels:
    return Labels("avc", 1, time.time() + 600)


def model(entries: Entries, **options: Any) -> ContainerModel:
    provider, entry = entries
    return ContainerModel(
        provider,
        entry("model_2018.py"),
        labels=owner(),
        limits=options.pop("limits", LIMITS),
        image_shape=options.pop("image_shape", SHAPE),
        classes=options.pop("classes", 200),
    )


def attack(entries: Entries, *options: str, **limits: Any) -> ContainerAttack:
    provider, entry = entries
    return ContainerAttack(
        provider,
        entry("attack_2018.py", *options),
        labels=owner(),
        limits=replace(LIMITS, **limits),
        track="avc",
    )


def play(
    entered: ContainerAttack, opponent: attacks.Model, count: int = 3, budget: int = 1000
) -> Adversarials:
    images = pictures(count)
    truth = Templates()(images).argmax(1)
    return perturb(entered, opponent, images, truth, budget=budget, quantised=True)


@both
def test_a_model_of_2018_gives_its_own_labels_and_passes_the_probe(entries: Entries) -> None:
    images = pictures(12)
    with model(entries) as entered:
        assert torch.equal(entered(images), Templates()(images))
        first = entered.probe(images)
        assert torch.equal(entered.probe(images), first)
    assert "starting server on port" in entered.logs()


@both
def test_an_attack_of_2018_finds_what_it_finds_and_is_counted_and_measured_here(
    entries: Entries,
) -> None:
    entered = attack(entries)
    result = play(entered, Templates())
    logs = entered.runs[0].logs
    assert "image 0 found" in logs, logs
    assert result.status == ["success", "failed", "success"]
    assert (result.reasons[1] or "").startswith("the attack stored None: it found nothing")
    assert result.distance[[0, 2]].isfinite().all()
    assert result.distance[[0, 2]].min() > 0
    assert result.queries[1] == 0
    assert result.queries[[0, 2]].min() > 1
    assert entered.runs[0].ended is not None
    assert entered.runs[0].ended.code == 0


@both
def test_an_attack_and_a_model_of_2018_play_each_other(entries: Entries) -> None:
    with model(entries) as opponent:
        there = play(attack(entries), opponent)
    here = play(attack(entries), Templates())
    assert torch.equal(there.distance, here.distance)
    assert there.queries.tolist() == here.queries.tolist()
    assert there.traces == here.traces


@process_only
def test_when_the_pool_is_spent_the_run_of_2018_ends_at_once_and_keeps_what_it_stored(
    entries: Entries,
) -> None:
    free = play(attack(entries), Templates())
    assert free.queries[2] > 10
    budget = (int(free.queries.sum()) - 5) // 3
    entered = attack(entries)
    result = play(entered, Templates(), budget=budget)
    assert result.distance[0] == free.distance[0]
    assert result.queries[0] > budget  # the pool is there for whoever asks first
    assert int(result.queries.sum()) == 3 * budget
    assert "for each of 3 samples, is spent" in (result.reasons[1] or "")
    assert entered.runs[0].ended is None  # it was trying again
    assert entered.runs[0].seconds < 60


@process_only
def test_a_model_of_2018_that_refuses_an_image_is_told_with_its_output(entries: Entries) -> None:
    with (
        model(entries, image_shape=(32, 32, 3)) as entered,
        pytest.raises(BadAnswer, match="answered 500"),
    ):
        entered(torch.zeros(1, 3, 32, 32))


@process_only
def test_a_model_of_2018_with_a_label_that_the_track_lacks_is_refused(entries: Entries) -> None:
    with (
        model(entries, classes=2) as entered,
        pytest.raises(BadAnswer, match="wanted 0 to 1"),
    ):
        entered(pictures(8))


@process_only
def test_a_model_of_2018_has_the_time_of_one_call_for_a_whole_batch(entries: Entries) -> None:
    with (
        model(entries, limits=replace(LIMITS, call_seconds=0.05)) as entered,
        pytest.raises(TooSlow),
    ):
        entered(pictures(200))


MEMORY = '''
import bench
import numpy as np

class Memory:
    """Knows the challenge's images by heart, and says 0 to any other."""

    def __init__(self):
        data = bench.dataset("tiny-imagenet-avc").take(8)
        pairs = zip(data.pixels, data.labels)
        self.known = {pixels.tobytes(): int(label) for pixels, label in pairs}

    def predict(self, images):
        return np.array([self.known.get(image.tobytes(), 0) for image in images])

def create():
    return Memory()
'''


@pytest.fixture
def tiny_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tracks on the images of 2018; the baseline model is fooled by any change."""
    memory = tmp_path / "memory.py"
    memory.write_text(MEMORY)
    made = {
        track.name.replace("mnist5k", "tiny"): replace(
            track,
            name=track.name.replace("mnist5k", "tiny"),
            dataset="tiny-imagenet-avc",
            image_shape=SHAPE,
            classes=200,
            baseline_models=(Baseline(str(memory)),),
            baseline_attacks=(Baseline("gaussian_noise"),),
        )
        for track in plugins.tracks()
        if track.dataset == "mnist5k"
    }
    monkeypatch.setattr(plugins, "tracks", lambda: list(made.values()))
    monkeypatch.setattr(plugins, "load_track", made.__getitem__)


@process_only
@pytest.mark.usefixtures("tiny_tracks", "avc_source")
@pytest.mark.parametrize(
    ("challenge", "program"),
    [
        ("nips-2018-avc-robust-model-track", "model_2018.py"),
        ("nips-2018-avc-untargeted-attack", "attack_2018.py"),
    ],
)
def test_a_folder_of_2018_passes_tiltyard_test_as_it_is(
    provider_name: SandboxName, challenge: str, program: str, tmp_path: Path
) -> None:
    folder = tmp_path / "old-entry"
    folder.mkdir()
    (folder / "crowdai.json").write_text(json.dumps({"challenge_id": challenge}))
    (folder / "run.sh").write_bytes(run_sh(()))
    (folder / "main.py").write_bytes((AVC / program).read_bytes())
    lines: list[str] = []
    result = local_test.test_submission(
        folder, sandbox=provider_name, images=3, report=lines.append
    )
    assert result.passed, result.reason
    assert len(result.outcomes) == 3
    if result.kind == "untargeted-attack":
        statuses = [outcome.status for outcome in result.outcomes]
        assert statuses == ["success", "failed", "success"], result.remarks
        assert "stored None" in (result.outcomes[1].reason or "")
