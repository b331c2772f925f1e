"""What a job does, apart from the record: validate an entry, play a match. No database here."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.errors import InfrastructureError, SubmissionError

from . import hidden, rules
from .schemas import Kind, SandboxKind, Source

if TYPE_CHECKING:
    from torch import Tensor

    from attacks import Attack, Model, Pool
    from attacks.ledger import Ledger
    from attacks.types import Bounds
    from bench.datasets.types import Dataset
    from bench.match import Outcome
    from bench.tracks.types import Track

    from .entries import ContainerAttack, ContainerModel
    from .sandbox.types import Labels, Package, Provider
    from .storage import Store

BATCH = 64
PROBE_IMAGES = 32
"""Images that a model is asked about in several ways, before and after a match."""
LABEL_SLACK_SECONDS = 300.0
"""Beyond its run's limit, after which the reaper may take a sandbox for a leftover."""


@dataclass(frozen=True)
class EntryFacts:
    """What is needed to run a submission."""

    id: str
    kind: Kind
    source: Source
    spec: str | None
    sha256: str | None


@dataclass
class Findings:
    """What a job found out. ``logs``: {submission: text}; ``outcomes`` with their images."""

    outcomes: list[Outcome] = field(default_factory=list)
    worst_cases: list[float] = field(default_factory=list)
    sandbox: SandboxKind = "trusted"
    provenance: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    ledger: Ledger | None = None


class Fault(SubmissionError):
    """A submission failed: which one, and what its author should know.

    ``kind``: the class of error in a few words that hold nothing of the program's own.
    """

    def __init__(
        self,
        entry_id: str,
        reason: str,
        *,
        exit_code: int | None = None,
        oom: bool = False,
        logs: str = "",
        kind: str = "failed",
    ) -> None:
        super().__init__(reason)
        self.entry_id = entry_id
        self.exit_code = exit_code
        self.oom = oom
        self.logs = logs
        self.kind = kind


class StopRequested(InfrastructureError):
    """The worker was told to stop playing; it knows why."""


@dataclass
class Guarded:
    """A model that stops answering when the worker is told to stop, or when it has had its time.

    ``seconds``: what all its answers of a match may take together; None for our own models.
    """

    model: Model
    stop: threading.Event
    entry_id: str = ""
    seconds: float | None = None
    spent: float = 0.0

    def __post_init__(self) -> None:
        from attacks.oracle import pixel_asker

        self._ask_pixels = pixel_asker(self.model)

    @property
    def bounds(self) -> Bounds:
        return self.model.bounds

    def __call__(self, images: Tensor, /) -> Tensor:
        with self._watched():
            return self.model(images)

    def pixel_labels(self, pixels: Tensor, /) -> Tensor:
        """See `attacks.types.PixelModel`; of a model that is none, too."""
        with self._watched():
            return self._ask_pixels(pixels)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        if self.stop.is_set():
            raise StopRequested("told to stop")
        begun = time.monotonic()
        yield
        self.spent += time.monotonic() - begun
        if self.seconds is not None and self.spent > self.seconds:
            raise Fault(
                self.entry_id,
                f"the model took more than {self.seconds:g} s for all answers of one match; "
                "make it faster, or smaller",
                kind="too slow",
            )


class Player:
    """Runs entries: zoo ones in this process, containers through the provider.

    ``provider`` None: only zoo entries can be played.
    """

    def __init__(self, provider: Provider | None, store: Store) -> None:
        self.provider = provider
        self.store = store
        self._digests: dict[str, str] = {}

    def validate(
        self, entry: EntryFacts, track: Track, labels: tuple[str, int], stop: threading.Event
    ) -> Findings:
        """Find out whether an entry runs. Raises Fault with a reason that its author can act on.

        A model is started and asked about the track's images in several ways; an attack plays one
        image against our first baseline, within the time that a container has to start.
        """
        with self._faults(entry, entry):
            if entry.kind == "model":
                return self._validate_model(entry, track, labels, stop)
            return self._validate_attack(entry, track, labels, stop)

    def forget(self, entry: EntryFacts) -> None:
        """Free what loading an entry took, such as its image: it is not going to be played."""
        digest = self._digests.pop(entry.sha256 or "", None)
        if digest is not None and self.provider is not None:
            with suppress(InfrastructureError):
                self.provider.forget(digest)

    def match(
        self,
        model: EntryFacts,
        attack: EntryFacts,
        track: Track,
        labels: tuple[str, int],
        stop: threading.Event,
    ) -> Findings:
        """Play a match to its end. Raises Fault, StopRequested or InfrastructureError."""
        from attacks.ledger import Ledger
        from bench.match import Match, play
        from bench.score import worst_case_distance

        unseen = rules.hidden(track)
        data = hidden.load(self.store, track) if unseen else samples_of(track)
        found = Findings(
            sandbox=self._sandbox(model, attack), provenance=self._provenance(track, model, attack)
        )
        batch = BATCH if attack.source == "zoo" else len(data)
        with self._faults(model, attack, unseen=unseen), ExitStack() as stack:
            played_model, container = self._model(stack, model, track, labels, stop)
            played_attack = self._attack(attack, track, labels, stop)
            if container is not None:
                container.probe(data.images[:PROBE_IMAGES])
            match = Match(
                model=Guarded(
                    played_model,
                    stop,
                    model.id,
                    None if container is None else track.limits.run_seconds,
                ),
                attack=played_attack,
                dataset=data,
                threat=rules.threat_model(track),
                seed=track.seed,
                pool=_pool(track.dataset, "test" if unseen else track.split),
            )
            found.ledger = Ledger()
            found.outcomes = list(play(match, batch_size=batch, ledger=found.ledger))
            if container is not None:
                container.probe(data.images[:PROBE_IMAGES])
                found.logs[model.id] = container.logs()
        found.logs.update(_attack_logs(attack, played_attack))
        if unseen:  # an entry could print the images, or put them into its complaints
            found.logs.clear()
            found.outcomes = [replace(outcome, reason=None) for outcome in found.outcomes]
        found.worst_cases = [float(d) for d in worst_case_distance(data.pixels)]
        return found

    def _validate_model(
        self, entry: EntryFacts, track: Track, labels: tuple[str, int], stop: threading.Event
    ) -> Findings:
        data = samples_of(track)
        found = Findings(sandbox=self._sandbox(entry), provenance=self._provenance(track, entry))
        with ExitStack() as stack:
            model, container = self._model(stack, entry, track, labels, stop)
            if container is None:
                model(data.images[:PROBE_IMAGES])
            else:
                container.probe(data.images[:PROBE_IMAGES])
                found.logs[entry.id] = container.logs()
        return found

    def _validate_attack(
        self, entry: EntryFacts, track: Track, labels: tuple[str, int], stop: threading.Event
    ) -> Findings:
        from bench.match import Match, play

        found = Findings(sandbox=self._sandbox(entry), provenance=self._provenance(track, entry))
        quick = replace(track, limits=replace(track.limits, run_seconds=track.limits.start_seconds))
        attack = self._attack(entry, quick, labels, stop)
        model = zoo_model(track.baseline_models[0].spec, track.dataset)
        match = Match(
            model=Guarded(model, stop),
            attack=attack,
            dataset=samples_of(track).take(1),
            threat=rules.threat_model(track),
            seed=track.seed,
            pool=_pool(track.dataset, track.split),
        )
        (outcome,) = play(match)
        found.logs.update(_attack_logs(entry, attack))
        runs = getattr(attack, "runs", [])
        ended = runs[-1].ended if runs else None
        crashed = ended is not None and ended.code != 0
        idle = outcome.queries == 0 and outcome.status != "clean_error"
        if entry.source != "zoo" and not outcome.success and (crashed or idle):
            raise Fault(
                entry.id,
                outcome.reason or "the attack asked nothing and stored nothing for one image",
                exit_code=ended.code if ended is not None else None,
                oom=ended is not None and ended.oom_killed,
                logs=found.logs.get(entry.id, ""),
                kind="its program ended" if crashed else "asked nothing",
            )
        return found

    def _model(
        self,
        stack: ExitStack,
        entry: EntryFacts,
        track: Track,
        labels: tuple[str, int],
        stop: threading.Event,
    ) -> tuple[Model, ContainerModel | None]:
        if entry.source == "zoo":
            return zoo_model(entry.spec or "", track.dataset), None
        from .entries import ContainerModel

        container = ContainerModel(
            self._need_provider(),
            self._load(entry, track),
            labels=_labels(labels, track),
            limits=track.limits,
            image_shape=track.image_shape,
            classes=track.classes,
            stop=stop,
        )
        stack.enter_context(container)
        return container, container

    def _attack(
        self, entry: EntryFacts, track: Track, labels: tuple[str, int], stop: threading.Event
    ) -> Attack | ContainerAttack:
        if entry.source == "zoo":
            from bench.plugins import load_attack

            return load_attack(entry.spec or "")
        from .entries import ContainerAttack

        return ContainerAttack(
            self._need_provider(),
            self._load(entry, track),
            labels=_labels(labels, track),
            limits=track.limits,
            track=track.name,
            norm=track.threat.norm,
            stop=stop,
            show_logs=not rules.hidden(track),
        )

    def _load(self, entry: EntryFacts, track: Track) -> Package:
        """Make a submission's file ready to run; quick when it is ready already."""
        from .sandbox.errors import PackageRefused

        sha256 = entry.sha256 or ""
        path, known = self.store.path(sha256), self._digests.get(sha256)
        try:
            package = self._need_provider().load(path, track.limits, digest=known)
        except PackageRefused as error:
            raise Fault(entry.id, str(error), kind=error.kind) from error
        self._digests[sha256] = package.digest
        return package

    def _need_provider(self) -> Provider:
        if self.provider is None:
            raise InfrastructureError("this worker has no sandbox; start it with Docker")
        return self.provider

    def _sandbox(self, *entries: EntryFacts) -> SandboxKind:
        if all(entry.source == "zoo" for entry in entries):
            return "trusted"
        return "docker" if self._need_provider().isolated else "process"

    def _provenance(self, track: Track, *entries: EntryFacts) -> dict[str, Any]:
        contained = any(entry.source != "zoo" for entry in entries)
        return {
            "rules": rules.rules_version(track),
            "seed": track.seed,
            "entries": {entry.id: entry.sha256 or entry.spec for entry in entries},
            "versions": versions(),
            "sandbox": self._need_provider().facts() if contained else None,
        }

    @contextmanager
    def _faults(
        self, model: EntryFacts, attack: EntryFacts, *, unseen: bool = False
    ) -> Iterator[None]:
        """Turn a sandbox's complaint into a Fault of the entry that it is about.

        ``unseen``: on hidden images, of which the complaint and the output may hold some.
        """
        from .sandbox.errors import SubmissionFailed

        try:
            yield
        except SubmissionFailed as error:
            at_fault = attack if error.role == "attack" else model
            if unseen:
                raise Fault(
                    at_fault.id,
                    f"it failed on hidden images ({type(error).kind}); what it printed there is "
                    "shown to nobody: try it with `tiltyard test --images 50`",
                    exit_code=error.code,
                    oom=error.oom,
                    kind=error.kind,
                ) from None
            raise Fault(
                at_fault.id,
                str(error),
                exit_code=error.code,
                oom=error.oom,
                logs=error.logs,
                kind=error.kind,
            ) from error


@lru_cache(maxsize=16)
def zoo_model(spec: str, dataset: str) -> Model:
    """A zoo model by specification, loaded once."""
    from bench.plugins import load_model

    return load_model(spec, dataset=dataset)


def samples_of(track: Track) -> Dataset:
    """The images of a track on a public split."""
    return images_of(track.dataset, track.split, track.images)


@lru_cache(maxsize=8)
def images_of(dataset: str, split: str, images: int) -> Dataset:
    """The first images of a public split."""
    import bench

    return bench.dataset(dataset, split=split).take(images)


@lru_cache(maxsize=8)
def _pool(dataset: str, split: str) -> Pool:
    import bench
    from bench.pools import starting_pool

    return starting_pool(bench.dataset(dataset, split=split))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("tiltyard", "torch", "numpy", "foolbox"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _labels(labels: tuple[str, int], track: Track) -> Labels:
    from .sandbox.types import Labels

    limits = track.limits
    seconds = limits.start_seconds + limits.run_seconds + LABEL_SLACK_SECONDS
    return Labels(job=labels[0], fence=labels[1], deadline=time.time() + seconds)


def _attack_logs(entry: EntryFacts, attack: Attack | ContainerAttack) -> dict[str, str]:
    text = "".join(run.logs for run in getattr(attack, "runs", []))
    return {entry.id: text} if text else {}
