"""A player that answers from memory: the server's own queue and record, without the playing.

For what asks how jobs fare and not how attacks do: killed processes, many workers, many jobs. What
it finds is a function of the two entries, so that a match played again has the same facts.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from .plays import EntryFacts, Findings, Player, StopRequested
from .storage import Store

if TYPE_CHECKING:
    from attacks import Status
    from bench.match import Outcome
    from bench.tracks.types import Track

WORST = 28.0
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
        self._during = during

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
        self._during()
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
