"""An attack's side of the game: ask the referee, keep the best, hand it in."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from typing import Any, Protocol

import numpy as np

from . import wire
from .errors import BudgetExhausted, RefereeError, RefereeGoneError, WireError
from .transport import Connection, Reply

Image = np.ndarray[Any, Any]
NPY = "application/x-npy"
START_SECONDS = 100.0
ANSWER_SECONDS = 600.0  # the referee keeps the deadline; this only ends a dead connection


class Attack(Protocol):
    """What ``attack`` wants."""

    def attack_image(
        self, predict: Any, image: Image, label: int, rng: np.random.Generator, /
    ) -> Image | None:
        """Give an adversarial uint8 (H,W,C), or None: the best one asked is handed in."""


class Predict:
    """The question that an attack may ask about one sample: uint8 (n,H,W,C) -> int64 (n,).

    Each image asked is one query. ``remaining``: queries left. ``best``: the adversarial nearest
    to the original among all images asked so far, or None; ``distance``: how near, on [0,1].
    ``target``: the label that is wanted, or None where any wrong one will do.
    """

    def __init__(self, referee: Referee, sample: dict[str, Any], image: Image, norm: str) -> None:
        self._referee = referee
        self._number = str(sample["sample"])
        self._image = image
        self._label = int(sample["label"])
        target = sample.get("target")
        self.target = None if target is None else int(target)
        self._starts: Image | None = None
        self._norm = norm
        self.remaining = int(sample["remaining"])
        self.best: Image | None = None
        self.distance = float("inf")

    def __call__(self, images: Image) -> Image:
        """Raises ``BudgetExhausted`` when fewer than n queries are left: then none is counted."""
        check_images(images, self._image.shape)
        count = len(images)
        if count == 0:
            return np.zeros(0, dtype=np.int64)
        samples = ",".join([self._number] * count)
        reply = self._referee.ask("POST", f"/v1/predict?samples={samples}", wire.dumps(images))
        if reply.status == 429:
            answer = read_json(reply.body)
            self.remaining = int(answer.get("remaining", 0))
            raise BudgetExhausted(answer.get("error", "the budget of this sample is spent"))
        if reply.status != 200:
            raise refusal(reply)
        labels = wire.loads(reply.body, dtype="int64", shape=(count,))
        self.remaining = int(reply.headers["x-tiltyard-remaining"].rpartition(",")[2])
        self._keep(images, labels)
        return labels

    def fools(self, images: Image) -> Image:
        """Ask: which images (n,H,W,C) are adversarial, (n,) bool. Each is a query, as above."""
        return self._adversarial(self(images))

    @property
    def starts(self) -> Image:
        """Images (n,H,W,C) of other samples, true to the wanted label, the nearest first; free.

        At most five, of any wrong label where none is wanted; the model may see them differently.
        """
        if self._starts is None:
            self._starts = self._referee.starts(self._number, self._image.shape)
        return self._starts

    def _adversarial(self, labels: Image) -> Image:
        if self.target is None:
            return np.asarray(labels != self._label)
        return np.asarray(labels == self.target)

    def _keep(self, images: Image, labels: Image) -> None:
        adversarial = images[self._adversarial(labels)]
        if len(adversarial):
            distances = measure(self._norm, adversarial, self._image)
            nearest = int(distances.argmin())
            if distances[nearest] < self.distance:
                self.distance = float(distances[nearest])
                self.best = adversarial[nearest].copy()


class Referee:
    """The referee over one kept-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = Connection(host, port, timeout=ANSWER_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Send one request. Raises ``RefereeGoneError`` when no answer comes."""
        try:
            return self._connection.request(method, path, body, kind=NPY if body else "")
        except OSError as error:
            where = f"{self._connection.host}:{self._connection.port}"
            raise RefereeGoneError(f"no answer from the referee at {where}: {error}") from error

    def task(self, patience: float = START_SECONDS) -> dict[str, Any]:
        """Wait until the referee is ready, ``patience`` seconds at most, and give its task."""
        end = time.monotonic() + patience
        pause = 0.02
        while True:
            try:
                reply = self.ask("GET", "/v1/task")
                if reply.status == 200:
                    return read_json(reply.body)
                if reply.status < 500:
                    raise refusal(reply)
                trouble = f"it answered {refusal(reply)}"
            except RefereeGoneError as error:
                trouble = str(error)
            if time.monotonic() > end:
                raise RefereeGoneError(f"the referee was not ready in {patience:.0f} s: {trouble}")
            time.sleep(pause)
            pause = min(1.5 * pause, 0.5)

    def images(self, shape: tuple[int, ...]) -> Image:
        """Give the clean images, uint8 (S,H,W,C), in the order of the task's samples."""
        reply = self.ask("GET", "/v1/images.npy")
        if reply.status != 200:
            raise refusal(reply)
        return wire.loads(reply.body, dtype="uint8", shape=shape)

    def starts(self, sample: str, shape: tuple[int, ...]) -> Image:
        """Give the images uint8 (n, *shape) that a sample may start from."""
        reply = self.ask("GET", f"/v1/starts/{sample}.npy")
        if reply.status != 200:
            raise refusal(reply)
        return wire.loads(reply.body, dtype="uint8", shape=(None, *shape))

    def hand_in(self, sample: int, image: Image) -> dict[str, Any]:
        """Hand in an adversarial: ``{"adversarial": bool, "distance": float, ...}``."""
        reply = self.ask("POST", f"/v1/adversarials/{sample}", wire.dumps(image))
        if reply.status != 200:
            raise refusal(reply)
        return read_json(reply.body)

    def done(self) -> int:
        """Say that nothing more comes; give the number of samples with an adversarial."""
        reply = self.ask("POST", "/v1/done")
        if reply.status != 200:
            raise refusal(reply)
        return int(read_json(reply.body).get("stored", 0))


def attack(attack: Attack, *, host: str | None = None, port: int | None = None) -> None:
    """Play ``attack`` against the referee: every sample once, then end.

    ``host``, ``port``: MODEL_SERVER and MODEL_PORT of the environment (127.0.0.1, 8989) when None.
    A sample whose attack raises is printed with its traceback and the next one goes on; when all
    of them raise, the process ends with exit code 1.
    """
    if not callable(getattr(attack, "attack_image", None)):
        raise TypeError(
            f"kit.attack got {type(attack).__name__}, wanted an object with attack_image("
            "predict, image, label, rng): pass the attack itself, not its class"
        )
    host = os.environ.get("MODEL_SERVER", "127.0.0.1") if host is None else host
    port = int(os.environ.get("MODEL_PORT", "8989")) if port is None else port
    with contextlib.closing(Referee(host, port)) as referee:
        _run(attack, referee)


def _run(attack: Attack, referee: Referee) -> None:
    task = referee.task()
    if task.get("protocol") != 1:
        raise RefereeError(200, "this kit plays by protocol 1 alone: get a newer one")
    samples = task["samples"]
    images = referee.images((len(samples), *task["image"]["shape"]))
    raised = 0
    for row, sample in enumerate(samples):
        image = images[row]
        predict = Predict(referee, sample, image, task["norm"])
        raised += not _play(attack, predict, referee, sample, image)
    stored = referee.done()
    _say(f"done: adversarials for {stored} of {len(samples)} samples")
    if samples and raised == len(samples):
        raise SystemExit("the attack raised on every sample: see the tracebacks above")


def _play(
    attack: Attack, predict: Predict, referee: Referee, sample: dict[str, Any], image: Image
) -> bool:
    """Attack one sample and hand in what came of it; False when the attack raised."""
    rng = np.random.default_rng(int(sample["seed"]))
    found: Image | None = None
    fine = True
    try:
        found = attack.attack_image(predict, image.copy(), int(sample["label"]), rng)
    except BudgetExhausted:
        pass
    except RefereeGoneError:
        raise
    except Exception:
        _say(f"sample {sample['sample']}: the attack raised")
        traceback.print_exc()
        fine = False
    taken = found is not None and _hand_in(referee, sample["sample"], found)
    if predict.best is not None and not taken:
        _hand_in(referee, sample["sample"], predict.best)
    return fine


def _hand_in(referee: Referee, number: int, image: Image) -> bool:
    """Hand in one image; False, and the reason printed, when it is no adversarial."""
    try:
        answer = referee.hand_in(number, np.asarray(image))
    except (RefereeError, WireError) as error:
        _say(f"sample {number}: not accepted: {error}")
        return False
    if not answer.get("adversarial"):
        _say(f"sample {number}: {answer.get('reason') or 'not adversarial'}")
        return False
    return True


def check_images(images: Image, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless ``images`` is uint8 (n, *shape)."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        got = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(
            f"predict got {got}, wanted a uint8 array: "
            "np.clip(np.rint(images), 0, 255).astype(np.uint8)"
        )
    if images.shape[1:] != shape:
        mend = ": for one image, predict(image[None])" if images.shape == shape else ""
        wanted = ("n", *shape)
        raise ValueError(f"predict got shape {images.shape}, wanted {wanted}{mend}")


def measure(norm: str, images: Image, original: Image) -> Image:
    """Give the distance of each image (n,H,W,C) to the original (H,W,C), on values in [0,1].

    l0 counts pixels, all channels of a pixel together.
    """
    delta = np.abs(images.astype(np.float64) - original) / 255
    if norm == "l0":
        return np.asarray(delta.any(axis=-1).reshape(len(images), -1).sum(axis=1), np.float64)
    flat = delta.reshape(len(images), -1)
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    return np.asarray(np.linalg.norm(flat, ord=order, axis=1))


def refusal(reply: Reply) -> RuntimeError:
    """Make an exception of an answer that refuses: for this request, or (5xx) for the whole run."""
    answer = read_json(reply.body)
    mend = f": {answer['mend']}" if answer.get("mend") else ""
    reason = f"{answer.get('error', 'refused')}{mend}"
    if reply.status >= 500:
        return RefereeGoneError(f"the run is over: {reason}")
    return RefereeError(reply.status, reason)


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object; {} when the body is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
