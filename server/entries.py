"""Sandboxed entries as an `attacks.Model` and an `attacks.Attack`: what `bench.play` plays with.

So the budget, the counting, the traces and the verdict of a match between containers are the same
code as on somebody's laptop.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.criteria import Criterion
from attacks.oracle import Oracle
from attacks.random import ImageRandom
from attacks.types import Access, Bounds, Norm
from bench.adapters import Pixels, to_pixels

from . import bson, challenge_2018
from .referee import NPY, Referee
from .sandbox import wire
from .sandbox.base import exit_text, last_lines
from .sandbox.errors import BadAnswer, NotDeterministic, Stopped, SubmissionFailed, TooSlow
from .sandbox.types import Exit, Labels, Limits, Outputs, Package, Provider, Sandbox

CALL_IMAGES = 256
"""Images in one call of a model; call_seconds is for so many at most."""

PROBE_SINGLES = 8
DONE_SECONDS = 2.0
"""How long an attack that said it is done may take to end by itself."""

LOOK_SECONDS = 0.25


class ContainerModel:
    """A model in a sandbox: rounds to uint8, asks, and gives its labels as one-hot logits.

    A context manager: starts on entering, closes on leaving.

    Args:
        provider, package, labels, limits: where and as what it runs.
        image_shape: (H, W, C) of the track.
        classes: number of labels.
        stop: closes the sandbox within a second when set; calls then raise `Stopped`.

    Raises:
        SubmissionFailed: from entering and from calls, when it is the model's fault.
        EngineFailed, Stopped: when it is not.
    """

    bounds: Bounds = (0.0, 1.0)

    def __init__(
        self,
        provider: Provider,
        package: Package,
        *,
        labels: Labels,
        limits: Limits,
        image_shape: tuple[int, int, int],
        classes: int,
        stop: threading.Event | None = None,
    ) -> None:
        # A server of 2018 counts what comes without this secret, and stops at its own limit.
        self._secret = secrets.token_hex(16)
        self._sandbox = provider.open(
            package,
            "model",
            labels=labels,
            limits=limits,
            environment={"EVALUATOR_SECRET": self._secret},
        )
        self._call_seconds = limits.call_seconds
        self._stop = stop
        self._leaving = ExitStack()
        self._shape = image_shape
        self._classes = classes
        self._probed: Tensor | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._sandbox)
            stack.enter_context(_closing_on(self._stop, self._sandbox))
            self._sandbox.start()
            self._leaving = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.close()

    def __call__(self, images: Tensor) -> Tensor:
        """One-hot logits (N, K) float32 for images (N, C, H, W) float32 in [0, 1]."""
        found = self.pixel_labels(torch.from_numpy(to_pixels(images)))
        return torch.nn.functional.one_hot(found, self._classes).float().to(images.device)

    def pixel_labels(self, pixels: Tensor) -> Tensor:
        """Labels (N,) int64 for images (N, H, W, C) uint8."""
        if len(pixels) == 0:
            return torch.empty(0, dtype=torch.int64)
        if len(pixels) <= CALL_IMAGES:
            return self._labels(pixels.numpy())
        return torch.cat([self._labels(part.numpy()) for part in pixels.split(CALL_IMAGES)])

    def logs(self) -> str:
        """The last of its output, also after it was closed."""
        return self._sandbox.logs()

    def probe(self, images: Tensor) -> Tensor:
        """Ask in several ways and compare: thrice, in another order, alone, and as last time.

        Called before and after a match with the same images it also finds a model that changes
        with what it is asked.

        Returns:
            Labels (N,) int64.

        Raises:
            NotDeterministic: with the first difference that was found.
        """
        first = self(images).argmax(1)
        backwards = torch.arange(len(images)).flip(0)
        alone = images[:PROBE_SINGLES]
        others = {
            "when asked again": self(images).argmax(1),
            "when asked a third time": self(images).argmax(1),
            "when the batch was in another order": self(images[backwards]).argmax(1)[backwards],
            "when asked alone": torch.cat([self(image[None]).argmax(1) for image in alone]),
        }
        if self._probed is not None and len(self._probed) == len(first):
            others["before the match"] = self._probed
        for when, labels in others.items():
            differing = (labels != first[: len(labels)]).nonzero().flatten().tolist()
            if differing:
                i = differing[0]
                raise NotDeterministic(
                    f"the model gave image {i} the label {int(first[i])}, and {int(labels[i])} "
                    f"{when} ({len(differing)} of {len(labels)} images differ)",
                    "one image must always get the same label: no random numbers at prediction "
                    "time, dropout and batch normalisation in evaluation mode, no memory of "
                    "earlier questions",
                    "model",
                    None,
                    last_lines(self.logs()),
                )
        self._probed = first
        return first

    def _labels(self, pixels: Pixels) -> Tensor:
        if pixels.shape[1:] != self._shape:
            raise ValueError(f"got images {pixels.shape[1:]}, the track has {self._shape}")
        if self._sandbox.speaks == "2018":
            return self._labels_2018(pixels)
        reply = self._sandbox.call("POST", "/v1/predict", wire.dumps(pixels), {"content-type": NPY})
        if reply.status != 200:
            raise self._bad(f"answered {reply.status}: {_error_text(reply.body)}")
        try:
            labels = wire.loads(reply.body)
        except wire.NotAnArray as error:
            raise self._bad(f"answered something else than labels: {error}") from error
        if labels.dtype.kind not in "iu" or labels.shape != (len(pixels),):
            raise self._bad(
                f"answered {labels.dtype.name} of shape {labels.shape}, "
                f"wanted int64 of shape ({len(pixels)},), one label for each image"
            )
        return self._within(labels.astype(np.int64))

    def _labels_2018(self, pixels: Pixels) -> Tensor:
        """One image after another; all of them within the time that one call may take."""
        until = time.monotonic() + self._call_seconds
        headers = {"content-type": challenge_2018.BSON, challenge_2018.SECRET: self._secret}
        labels: list[int] = []
        for image in pixels:
            left = until - time.monotonic()
            if left <= 0:
                raise self._slow(len(labels), len(pixels))
            body = challenge_2018.request(image)
            reply = self._sandbox.call("POST", "/predict", body, headers, timeout=left)
            if reply.status != 200:
                raise self._bad(f"answered {reply.status}: {_error_text(reply.body)}")
            try:
                labels.append(challenge_2018.label(reply.body))
            except bson.NotBson as error:
                raise self._bad(f"answered something else than a label: {error}") from error
        return self._within(np.array(labels))

    def _within(self, labels: NDArray[np.int64]) -> Tensor:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self._classes:
            raise self._bad(
                f"answered the label {low if low < 0 else high}, wanted 0 to {self._classes - 1}"
            )
        return torch.from_numpy(labels)

    def _slow(self, done: int, wanted: int) -> TooSlow:
        return TooSlow(
            f"the model answered {done} of {wanted} images in {self._call_seconds:g} s",
            "answer faster: every batch must be done within that time",
            "model",
            None,
            last_lines(self.logs()),
        )

    def _bad(self, what: str) -> BadAnswer:
        return BadAnswer(
            f"the model {what}",
            "try it with `tiltyard test`",
            "model",
            None,
            last_lines(self.logs()),
        )


@dataclass(frozen=True)
class Run:
    """One run of an attack's sandbox, for the attempt's record.

    Attributes:
        ended: how its program ended; None when we ended it or it never started.
        timed_out: whether the track's run_seconds ended it.
        stored: samples for which there is a verified adversarial.
    """

    ended: Exit | None
    timed_out: bool
    seconds: float
    samples: int
    stored: int
    logs: str


class ContainerAttack:
    """An attack in a sandbox: each `run` starts it once, for all images of the batch.

    What an attack does wrong is noted for the samples it cost, and the others count; only a
    failing model, the engine or `stop` raise.

    Args:
        provider, package, labels, limits: where and as what it runs.
        track: name that the attack is told.
        norm: of the distance that counts.
        stop: closes the sandbox within a second when set; `run` then raises `Stopped`.
        show_logs: whether the notes end with the attack's last output. Off for hidden images,
            which an attack could print.

    Attributes:
        runs: one entry for each `run`.
    """

    access: Access = "decision"

    def __init__(
        self,
        provider: Provider,
        package: Package,
        *,
        labels: Labels,
        limits: Limits,
        track: str,
        norm: Norm = "l2",
        stop: threading.Event | None = None,
        show_logs: bool = True,
    ) -> None:
        self.norm: Norm = norm
        self.runs: list[Run] = []
        self._provider = provider
        self._package = package
        self._owner = labels
        self._limits = limits
        self._track = track
        self._stop = stop
        self._show_logs = show_logs

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """The best verified adversarials, (N, C, H, W); clean images where there are none."""
        seconds = self._limits.run_seconds
        referee = Referee(
            model,
            images,
            criterion,
            random=random,
            track=self._track,
            epsilon=epsilon,
            seconds=seconds,
        )
        sandbox = self._provider.open(
            self._package,
            "attack",
            labels=self._owner,
            limits=self._limits,
            referee=referee,
            files=referee.files(),
        )
        outputs = Outputs()
        begun = time.monotonic()
        ended: Exit | None = None
        fault: str | None = None
        with sandbox, _closing_on(self._stop, sandbox):
            try:
                sandbox.start()
                ended = self._watch(sandbox, referee, begun + seconds)
                outputs = sandbox.collect()
            except SubmissionFailed as error:
                fault = str(error)
            except Stopped:
                if referee.failure is None:
                    raise
        took = time.monotonic() - begun
        if referee.failure is None:
            referee.take(outputs)
        if referee.failure is not None:
            raise referee.failure
        timed_out = ended is None and fault is None and not referee.finished.is_set()
        better = model.claimed_distance < model.best_distance
        found = torch.minimum(model.claimed_distance, model.best_distance).isfinite()
        logs = sandbox.logs()
        self.runs.append(Run(ended, timed_out, took, len(images), int(found.sum()), logs))
        why = fault or self._why(ended, timed_out, referee)
        if self._show_logs and (shown := last_lines(logs)):
            why = f"{why}; its last output:\n{shown}"
        for row in (~found).nonzero().flatten().tolist():
            earlier = model.notes[row]
            model.note(row, why if earlier is None else f"{earlier}\nThen {why}")
        return torch.where(better.view(-1, 1, 1, 1), model.claimed, model.best)

    def _watch(self, sandbox: Sandbox, referee: Referee, until: float) -> Exit | None:
        """Wait for the program's end, its word that it is done, a failed model, or the limit."""
        while (left := until - time.monotonic()) > 0:
            ended = sandbox.wait(min(LOOK_SECONDS, left))
            if ended is not None or referee.failure is not None:
                return ended
            if referee.finished.is_set():
                return sandbox.wait(min(DONE_SECONDS, left))
        return None

    def _why(self, ended: Exit | None, timed_out: bool, referee: Referee) -> str:
        if timed_out:
            return (
                f"the attack was stopped after {self._limits.run_seconds:g} s, the track's limit, "
                "with nothing adversarial for this sample; give each sample less time"
            )
        if ended is not None and ended.oom_killed:
            return (
                f"the attack used more than its {self._limits.memory_mib} MiB of memory and was "
                "killed before it found anything for this sample"
            )
        remarks = f" ({referee.remarks})" if referee.remarks else ""
        if ended is not None and ended.code != 0:
            return (
                f"the attack ended with {exit_text(ended)}, with nothing for this sample{remarks}"
            )
        return (
            "the attack ended in order and had neither asked nor stored anything adversarial "
            f"for this sample{remarks}"
        )


@contextmanager
def _closing_on(stop: threading.Event | None, sandbox: Sandbox) -> Iterator[None]:
    """Close the sandbox as soon as `stop` is set, whatever this thread is waiting for."""
    if stop is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if stop.wait(LOOK_SECONDS):
                sandbox.close()
                return

    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _error_text(body: bytes) -> str:
    """The reason in an error's body, printable and short."""
    try:
        answer = json.loads(body)
        text = str(answer["error"]) if isinstance(answer, dict) else str(answer)
    except (ValueError, KeyError, RecursionError):
        text = body.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text)[:500]
