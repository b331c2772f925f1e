"""A run's folder of facts: run.json, outcomes.jsonl, adversarials/, checks.json. It can go on.

An adversarial is written before the line that names it, and a line is written whole or dropped:
what the folder says has happened. Scores are never stored here; they are computed from the lines.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from attacks.checks import Finding

    from .match import Outcome

RUN_FILE = "run.json"
OUTCOMES_FILE = "outcomes.jsonl"
ADVERSARIALS = "adversarials"
CHECKS_FILE = "checks.json"

_IDENTITY = (
    "model",
    "attack",
    "dataset",
    "split",
    "images",
    "norm",
    "epsilon",
    "max_queries",
    "targeted",
    "quantised",
    "access",
    "seed",
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What was played. `id` is a hash of everything that decides the result.

    Attributes:
        model, attack: specifications, as `bench.plugins` reads them.
        dataset, split, images: the samples.
        norm, epsilon, max_queries, targeted, quantised, access: the threat model.
        seed: of the match.
        batch_size: images attacked together.
        versions: of what was at work.
    """

    model: str
    attack: str
    dataset: str
    split: str
    images: int
    norm: str
    epsilon: float | None
    max_queries: int | None
    targeted: bool
    quantised: bool
    access: str
    seed: int
    batch_size: int
    versions: Mapping[str, str]

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits."""
        identity = {key: getattr(self, key) for key in _IDENTITY}
        text = json.dumps(identity, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As in run.json and under "run" in `play --json`."""
        fields = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return {"id": self.id, **fields, "versions": dict(self.versions)}


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"python": platform.python_version()}
    for package in ("tiltyard", "torch", "numpy", "foolbox", "eagerpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def versions_text() -> str:
    """The same on one line, for a page or the end of a table."""
    return ", ".join(f"{name} {version}" for name, version in versions().items())


class Run:
    """An open run folder.

    Attributes:
        folder, config: where, and what.
        outcomes: the facts so far.
        checks: what the soundness checks found; none where they did not run.
        remarks: what is worth saying once, such as how much came from the cache; not stored.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        outcomes: list[Outcome],
        checks: tuple[Finding, ...] = (),
    ) -> None:
        self.folder = folder
        self.config = config
        self.outcomes = outcomes
        self.checks = checks
        self.remarks: list[str] = []

    @classmethod
    def start(cls, folder: Path, config: RunConfig) -> Run:
        """Make a new folder.

        Raises:
            UserError: there is a run in it already.
        """
        if (folder / RUN_FILE).exists() or (folder / OUTCOMES_FILE).exists():
            raise UserError(
                f"{folder} holds a run already; add --resume to go on, or name another --out"
            )
        (folder / ADVERSARIALS).mkdir(parents=True, exist_ok=True)
        _write_whole(folder / RUN_FILE, json.dumps(config.to_json(), indent=2).encode() + b"\n")
        return cls(folder, config, [])

    @classmethod
    def resume(cls, folder: Path, config: RunConfig) -> Run:
        """Go on with a folder (or make it). A torn last line is dropped.

        Raises:
            UserError: the folder's run is another one; says in what.
        """
        if not (folder / RUN_FILE).exists():
            return cls.start(folder, config)
        run = cls.load(folder)
        if run.config.id != config.id:
            changes = [
                f"{key}: {getattr(run.config, key)!r} there, {getattr(config, key)!r} now"
                for key in _IDENTITY
                if getattr(run.config, key) != getattr(config, key)
            ]
            raise UserError(
                f"{folder} holds another run ({'; '.join(changes)}); name another --out"
            )
        return run

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read a folder.

        Raises:
            UserError: no run in it, or a line that can't be read.
        """
        from .match import Outcome

        try:
            written = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"there is no run in {folder} (no {RUN_FILE}); name a folder that "
                "`tiltyard play --out` wrote"
            ) from None
        except json.JSONDecodeError as error:
            raise UserError(f"{folder / RUN_FILE} is not JSON: {error}") from None
        written.pop("id", None)
        try:
            config = RunConfig(**written)
        except TypeError as error:
            raise UserError(f"{folder / RUN_FILE} is not a run of this version: {error}") from None
        outcomes = []
        for number, line in enumerate(_whole_lines(folder / OUTCOMES_FILE), start=1):
            try:
                outcomes.append(Outcome.from_json(json.loads(line)))
            except (json.JSONDecodeError, TypeError, KeyError) as error:
                raise UserError(
                    f"{folder / OUTCOMES_FILE}, line {number} can't be read: {error}"
                ) from None
        return cls(folder, config, outcomes, _read_checks(folder / CHECKS_FILE))

    @property
    def cached(self) -> int:
        """How many outcomes were read from the cache since the folder was opened."""
        return sum(outcome.cached for outcome in self.outcomes)

    @property
    def done(self) -> frozenset[str]:
        """Ids of the images that have an outcome."""
        return frozenset(outcome.image_id for outcome in self.outcomes)

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Write outcomes, each with its adversarial, as they come."""
        path = self.folder / OUTCOMES_FILE
        _drop_torn_line(path)
        with path.open("a", encoding="utf-8") as lines:
            for outcome in outcomes:
                kept = self._store(outcome)
                lines.write(json.dumps(kept.to_json()) + "\n")
                lines.flush()
                self.outcomes.append(kept)
            os.fsync(lines.fileno())

    def keep_checks(self, findings: Iterable[Finding]) -> None:
        """Write what the soundness checks found, in the place of what is there."""
        self.checks = tuple(findings)
        written = {"checks": [finding.to_json() for finding in self.checks]}
        _write_whole(self.folder / CHECKS_FILE, json.dumps(written, indent=2).encode() + b"\n")

    def adversarial(self, outcome: Outcome) -> NDArray[np.float32 | np.uint8]:
        """The stored adversarial of an outcome, (H, W, C).

        Raises:
            ValueError: there is none, it lies outside of the folder, or it is no longer the file
                that was measured.
        """
        import io

        import numpy as np

        if outcome.adversarial is None:
            raise ValueError(f"no adversarial of {outcome.image_id} is stored")
        path = (self.folder / outcome.adversarial["path"]).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise ValueError(f"{outcome.image_id} names a file outside of the run folder")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != outcome.adversarial["sha256"]:
            raise ValueError(
                f"{outcome.adversarial['path']} is not the file that was measured "
                "(its sha256 differs)"
            )
        image: NDArray[np.float32 | np.uint8] = np.load(io.BytesIO(content), allow_pickle=False)
        return image

    def _store(self, outcome: Outcome) -> Outcome:
        if outcome.image is None:
            return outcome
        import io

        import numpy as np

        image = outcome.image.permute(1, 2, 0).cpu().numpy()  # (H, W, C), as images are drawn
        if self.config.quantised:
            image = np.rint(image * 255).astype(np.uint8)
        buffer = io.BytesIO()
        np.save(buffer, image, allow_pickle=False)
        path = self.folder / ADVERSARIALS / f"{outcome.image_id}.npy"
        _write_whole(path, buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        relative = path.relative_to(self.folder).as_posix()
        return replace(outcome, adversarial={"path": relative, "sha256": digest}, image=None)


def find_runs(folder: Path) -> list[Path]:
    """The run folders at or below a folder, sorted.

    Raises:
        UserError: there is none.
    """
    found = sorted(path.parent for path in folder.glob(f"**/{RUN_FILE}"))
    if not found:
        raise UserError(
            f"there is no run in {folder} (no {RUN_FILE}); name a folder that "
            "`tiltyard play --out` wrote"
        )
    return found


def _read_checks(path: Path) -> tuple[Finding, ...]:
    from attacks.checks import Finding

    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Finding(**finding) for finding in written["checks"])
    except FileNotFoundError:
        return ()
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} can't be read: {error}; remove it and play again with --resume"
        ) from None


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.split("\n")[:-1]


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        with path.open("rb+") as file:
            file.truncate(whole)
