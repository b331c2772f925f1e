"""A server on which jobs are rehearsed: its own queue and record, without the playing.

For what asks how jobs fare and not how attacks do: killed processes, many workers, many jobs. What
a match finds is a function of its two entries, so that one played again has the same facts.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from . import accounts, challenges, housekeeping, lifecycle, rules, settings
from .db.engine import Database
from .db.tables import Account, Submission, Upload
from .plays import EntryFacts, Findings, Player, StopRequested
from .policy import Actor
from .schemas import SubmissionRequest
from .storage import Store
from .worker import Worker, open_jobs

if TYPE_CHECKING:
    from attacks import Status
    from bench.match import Outcome
    from bench.tracks.types import Track

CHALLENGE: Final = "mnist5k"
MODELS: Final = f"{CHALLENGE}-robust-model"
WORST: Final = 28.0
"""Distance that a failure counts as; on `mnist5k` the largest L2 is sqrt(784)."""


class Rehearsal(Player):
    """Takes as long as ``seconds`` says for a pair of entries, and finds what their ids give.

    Args:
        seconds: {(entry, opponent or "")} -> seconds that the job takes.
        during: called in the middle of each job.
    """

    def __init__(
        self,
        store: Store,
        seconds: Callable[[str, str], float] = lambda entry, opponent: 0.0,
        during: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(None, store)
        self._seconds = seconds
        self.during = during

    def validate(
        self, entry: EntryFacts, track: Track, labels: tuple[str, int], stop: threading.Event
    ) -> Findings:
        """Every entry passes."""
        self._wait(stop, self._seconds(entry.id, ""))
        return Findings(sandbox="trusted", logs={entry.id: f"{entry.id} runs"})

    def match(
        self,
        model: EntryFacts,
        attack: EntryFacts,
        track: Track,
        labels: tuple[str, int],
        stop: threading.Event,
    ) -> Findings:
        """Facts on the track's images, with a picture of one of them."""
        self._wait(stop, self._seconds(model.id, attack.id))
        outcomes = [outcome(model.id, attack.id, sample, track) for sample in range(track.images)]
        return Findings(outcomes, [WORST] * track.images, sandbox="trusted")

    def _wait(self, stop: threading.Event, seconds: float) -> None:
        self.during()
        if stop.wait(seconds):
            raise StopRequested("told to stop")


def outcome(model: str, attack: str, sample: int, track: Track) -> Outcome:
    """What is made up for one image: a distance, sometimes a failure, sometimes a clean error."""
    import torch

    from bench.match import Outcome

    digest = hashlib.sha256(f"{model} {attack} {sample}".encode()).digest()
    distance = 0.5 + digest[0] / 64.0
    status: Status = "clean_error" if digest[1] < 13 else "failed" if digest[1] < 38 else "success"
    success = status == "success"
    shape = track.image_shape[2], *track.image_shape[:2]
    return Outcome(
        image_id=f"{track.dataset}-{sample:05}",
        clean_label=digest[2] % track.classes,
        predicted=digest[3] % track.classes,
        clean_correct=status != "clean_error",
        target=None,
        success=success,
        distance=distance if success else 0.0 if status == "clean_error" else float("inf"),
        distances=None,
        queries=0 if status == "clean_error" else 10 + digest[4],
        gradients=0,
        seconds=0.0,
        status=status,
        reason=None,
        image=torch.full(shape, digest[5] / 255) if success and sample == 0 else None,
        trace=((1, distance),) if success else (),
    )


class Now(Executor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done already."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Stage:
    """A server's folder and one participant's account.

    ``set_up``: open the challenge and enter its baselines; False: that was done before.
    """

    def __init__(
        self, database: Database, folder: Path, *, set_up: bool = True, **chosen: Any
    ) -> None:
        self.database = database
        usual = {"workers": 1, "sandbox": "process"}
        url = database.url.render_as_string(hide_password=False)
        self.settings = settings.load(data_dir=folder, database_url=url, **usual | chosen)
        self.store = Store(self.settings.artefacts)
        if set_up:
            with database.write() as session:
                challenges.open_first(session, [CHALLENGE])
                lifecycle.enter_baselines(session)
                accounts.create_user(session, "ada")
        with database.read() as session:
            self.account = session.scalars(select(Account.id).filter_by(name="ada")).one()

    def upload(self) -> str:
        """Have something uploaded; returns the upload's id."""
        data = uuid.uuid4().bytes
        with self.database.write() as session:
            row = Upload(
                account_id=self.account,
                length=len(data),
                received=len(data),
                sha256=self.store.put(data),
                expires_at=9e9,
            )
            session.add(row)
            session.flush()
            return row.id

    def enter(self, upload: str, key: str | None = None, track: str = MODELS) -> str:
        """Enter an upload; returns the submission's id."""
        request = SubmissionRequest(track=track, name="mine", upload=upload)
        actor = Actor(self.account, "ada", "participant", "submit")
        return lifecycle.enter(self.database, actor, request, "package", key)

    def submit(self, track: str = MODELS) -> str:
        """Upload and enter something; returns the submission's id."""
        return self.enter(self.upload(), track=track)

    def baseline(self, spec: str, track: str = MODELS) -> str:
        """Another baseline, whose matches are queued; returns its id."""
        with self.database.write() as session:
            row = Submission(
                account_id=accounts.baseline_account(session).id,
                name=spec,
                track=track,
                kind=rules.track(track).kind,
                source="zoo",
                spec=spec,
                state="accepted",
                accepted_at=1000.0,
            )
            session.add(row)
            session.flush()
            lifecycle.settle(session, rules.rules_version(rules.track(track)))
            return row.id

    def play(self, seconds: float = 0.0) -> None:
        """Claim and run everything that waits, one by one; a job takes ``seconds``."""
        player = Rehearsal(self.store, lambda entry, opponent: seconds)
        worker = Worker(self.settings, self.database, player, owner="stage:1", executor=Now())
        while open_jobs(self.database) or housekeeping.drain(self.database):
            worker.dispatch()


def small_tracks(images: int = 4, submissions_per_day: int = 10**6) -> dict[str, Track]:
    """The tracks of the challenge with few images, one baseline a side, and room for everybody.

    Put them in the place of ``rules.tracks``.
    """
    from bench.tracks.types import Baseline

    return {
        name: replace(
            track,
            images=images,
            limits=replace(track.limits, submissions_per_day=submissions_per_day, in_flight=10**6),
            baseline_models=(Baseline("small_cnn"),),
            baseline_attacks=() if track.threat.targeted else (Baseline("gaussian_noise"),),
        )
        for name, track in rules.tracks().items()
        if track.challenge == CHALLENGE
    }
