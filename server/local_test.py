"""`tiltyard test DIR`: a submission before the server's own referee, in its sandbox, here.

What is checked is what the server checks, by the same code and with the same limits and messages:
first that the entry runs, then a short match against the track's first baseline.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import UserError

from . import packaging
from .manifest import Manifest, read_manifest
from .rules import OPPONENTS
from .schemas import Kind

if TYPE_CHECKING:
    from bench.match import Outcome
    from bench.tracks.types import Track

    from .plays import EntryFacts, Findings
    from .sandbox.types import Package, Provider

SandboxName = Literal["docker", "process"]
Report = Callable[[str], None]

SHOWN_LINES = 12
"""Of a failed submission's output."""


@dataclass(frozen=True)
class Result:
    """What came of a test.

    Attributes:
        passed: the server would accept it.
        reason: why it would not, in the server's words, with the last lines of its output.
        sandbox, isolated: where it ran; the process sandbox isolates nothing.
        opponent: the baseline that it played.
        outcomes: one for each image of the short match; empty when it did not get that far.
        logs: the end of what it printed.
    """

    name: str
    kind: Kind
    track: str
    passed: bool
    reason: str | None
    sandbox: SandboxName
    isolated: bool
    opponent: str
    outcomes: tuple[Outcome, ...]
    logs: str
    seconds: float

    @property
    def remarks(self) -> list[str]:
        """What its author may want to know: a line for each image that went wrong."""
        if self.kind == "model":
            wrong = [o for o in self.outcomes if not o.clean_correct]
            return [
                f"{o.image_id}: it says {o.predicted}, the label is {o.clean_label}" for o in wrong
            ]
        told = [o for o in self.outcomes if o.reason]
        return [f"{o.image_id}: {o.status}: {o.reason}" for o in told]

    def lines(self) -> list[str]:
        """For people: passed or not, the figures of the match, remarks, what was not isolated."""
        from bench.score import score

        text = []
        if self.reason is not None:
            text.append(f"failed: {self.reason}")
            output = self.logs.strip().splitlines()[-SHOWN_LINES:]
            text += ["its last output:", *output] if output else []
        if self.outcomes:
            found = score(self.outcomes)
            text.append(
                f"passed: {found.n} images against {self.opponent}, median distance "
                f"{found.median_distance:.3f}, clean accuracy {found.clean_accuracy:.0%}, "
                f"{found.mean_queries:.0f} queries an image, {self.seconds:.0f} s"
            )
        text += self.remarks
        if not self.isolated:
            text.append("it ran in the process sandbox, WITHOUT isolation: only for your own code")
        return text

    def to_json(self) -> dict[str, Any]:
        """As one JSON document."""
        from bench.score import score

        return {
            "name": self.name,
            "kind": self.kind,
            "track": self.track,
            "passed": self.passed,
            "reason": self.reason,
            "sandbox": self.sandbox,
            "isolated": self.isolated,
            "opponent": self.opponent,
            "score": score(self.outcomes).to_json() if self.outcomes else None,
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "seconds": round(self.seconds, 3),
        }


def test_submission(
    directory: Path,
    *,
    sandbox: SandboxName,
    images: int = 5,  # noqa: PT028 - the name makes ruff take this for a test
    report: Report = print,  # noqa: PT028
    track: str | None = None,  # noqa: PT028
) -> Result:
    """Pack or build a folder, check that it runs, and play a short match.

    Args:
        sandbox: "docker" as on the server, or "process", which isolates nothing.
        images: of the match.
        report: gets a line for each step, and the result's lines at the end.
        track: instead of the one that the folder names.

    Raises:
        UserError: a bad folder, no Docker, or a build that fails.
        InfrastructureError: the engine failed.
    """
    from bench.plugins import load_track

    if images < 1:
        raise UserError(f"got {images} images, wanted 1 or more")
    begun = time.monotonic()
    manifest = read_manifest(directory, track)
    rules = load_track(manifest.track)
    opposing = rules.baseline_attacks if manifest.kind == "model" else rules.baseline_models
    opponent = opposing[0].spec
    reason, found = _play(manifest, rules, opponent, sandbox, images, report)
    result = Result(
        name=manifest.name,
        kind=manifest.kind,
        track=manifest.track,
        passed=reason is None,
        reason=reason,
        sandbox=sandbox,
        isolated=sandbox == "docker",
        opponent=opponent,
        outcomes=tuple(found.outcomes),
        logs=found.logs.get("yours", ""),
        seconds=time.monotonic() - begun,
    )
    for line in result.lines():
        report(line)
    return result


def _play(
    manifest: Manifest,
    track: Track,
    opponent: str,
    sandbox: SandboxName,
    images: int,
    report: Report,
) -> tuple[str | None, Findings]:
    from .plays import EntryFacts, Fault, Findings, Player
    from .sandbox.errors import PackageRefused
    from .storage import Store

    baseline = EntryFacts("baseline", _other(manifest.kind), "zoo", opponent, None)
    job, stop = (f"test{secrets.token_hex(4)}", 1), threading.Event()
    with tempfile.TemporaryDirectory(prefix="tiltyard-test-") as temporary:
        folder = Path(temporary)
        packed = _packed(manifest, folder / "package", sandbox, report)
        store = Store(folder / "artefacts")
        sha256 = store.link(packed)
        source: Literal["image", "package"] = "image" if sandbox == "docker" else "package"
        mine = EntryFacts("yours", manifest.kind, source, None, sha256)
        try:
            with _loaded(sandbox, folder, store.path(sha256), track) as (provider, _):
                player = Player(provider, store)
                report(f"starting it in the {sandbox} sandbox and asking what the server asks")
                player.validate(mine, track, job, stop)
                report(f"it runs; playing {images} images against {opponent}")
                model, attack = _sides(mine, baseline)
                small = replace(track, images=images)
                return None, player.match(model, attack, small, job, stop)
        except Fault as error:
            return str(error), Findings(logs={"yours": error.logs})
        except PackageRefused as error:
            return str(error), Findings()


def _packed(manifest: Manifest, out: Path, sandbox: SandboxName, report: Report) -> Path:
    if sandbox == "process":
        report(f"packing {manifest.folder}")
        return packaging.source_package(manifest.folder, out, manifest.track)
    tag = packaging.image_tag(manifest.folder, manifest.track)
    report(f"building {tag}")
    packaging.build_image(manifest.folder, tag, report, manifest.track)
    report("saving the image")
    return packaging.save_image(tag, out)


@contextmanager
def _loaded(
    sandbox: SandboxName, folder: Path, path: Path, track: Track
) -> Iterator[tuple[Provider, Package]]:
    """A provider of this test's own, with the package loaded and forgotten afterwards."""
    from .sandbox import provider

    scratch = folder / "sandbox" if sandbox == "process" else None
    made = provider(sandbox, f"test-{secrets.token_hex(4)}", folder=scratch)
    try:
        package = made.load(path, track.limits)
        try:
            yield made, package
        finally:
            made.reap(list)
            made.forget(package.digest)
    finally:
        made.close()


def _other(kind: Kind) -> Kind:
    return OPPONENTS[kind]


def _sides(one: EntryFacts, other: EntryFacts) -> tuple[EntryFacts, EntryFacts]:
    """The model and the attack of the two."""
    return (one, other) if one.kind == "model" else (other, one)
