"""The referee: what an attack in a sandbox talks to. It owns the rules.

Budget, counting, trace and verdict are those of `attacks.Oracle`, the same as in a local run;
this is its HTTP side (docs/sandbox.md describes every request). Errors are JSON {"error": reason}
and are kept as notes, so that an attack's author reads them beside the sample.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.criteria import Criterion
from attacks.errors import BudgetExhausted
from attacks.oracle import Oracle
from attacks.random import ImageRandom
from bench.adapters import starts_of, to_images, to_pixels

from .sandbox import wire
from .sandbox.errors import Stopped

MOST_IMAGES: Final = 1024
"""Images in one predict request."""

FREE_CLAIMS: Final = 20
"""Images a sample may hand in that were never asked about. The verdict on them is not counted as
a query, so there must be few; what was asked by predict may be handed in at any time."""

NPY: Final = "application/x-npy"
HELLO: Final = """Tiltyard's referee. An attack asks:
GET  /v1/task                      the samples, their labels, seeds and budgets (JSON)
GET  /v1/images.npy                their images, uint8 (S,H,W,C)
GET  /v1/starts/3.npy              images that sample 3 may start from, uint8 (n,H,W,C)
POST /v1/predict?samples=3,3,7     .npy uint8 (n,H,W,C) -> .npy int64 (n,); one query an image
POST /v1/adversarials/3            .npy uint8 (H,W,C): verified, measured, the best one is kept
POST /v1/done                      nothing more will come
"""

Message = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A request that breaks the protocol or the rules; `fields` go into the JSON body."""

    def __init__(self, status: int, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.fields = fields


class _Gone(Exception):
    """The client has closed the connection in the middle of a request."""


class Referee:
    """An ASGI application over one batch's oracle.

    Args:
        oracle: the metered model.
        images: the clean batch (S, C, H, W) float32 in [0, 1], on the uint8 lattice.
        criterion: what counts as adversarial.
        random: its seeds are handed to the attack, one for each sample.
        track: name of the track.
        epsilon: the radius, None when the distance is minimised.
        seconds: what the attack may take from now on.

    Attributes:
        finished: set when the attack says it is done, or when the model has failed.
        failure: the error that ended the match, when it was not the attack's: to be raised again.
        remarks: the latest complaint that belongs to no sample.
    """

    def __init__(
        self,
        oracle: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        random: ImageRandom,
        track: str,
        epsilon: float | None,
        seconds: float,
    ) -> None:
        self.finished = threading.Event()
        self.failure: Exception | None = None
        self.remarks: str | None = None
        self._oracle = oracle
        self._criterion = criterion
        self._seeds = random.seeds
        self._track = track
        self._epsilon = epsilon
        self._until = time.monotonic() + seconds
        self._pixels = to_pixels(images)
        self._shape = self._pixels.shape[1:]
        self._asked: set[int] = set()
        self._claims = [0] * len(images)
        # Room for float64, so that its author is told so instead of "too large".
        self.largest_body = wire.HEADER_BYTES + 8 * MOST_IMAGES * math.prod(self._shape)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        try:
            body = await self._read(receive)
        except _Gone:
            return
        answer = self.answer(scope["method"], scope["path"], scope["query_string"].decode(), body)
        headers = {"content-type": answer.kind, "content-length": str(len(answer.body))}
        pairs = [(k.encode(), v.encode()) for k, v in (headers | dict(answer.headers)).items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        await send({"type": "http.response.body", "body": answer.body})

    def answer(self, method: str, path: str, query: str, body: bytes | None) -> Answer:
        """The answer to one request. The model is asked in here, in the caller's thread.

        Args:
            body: None when it was larger than `largest_body`.
        """
        try:
            return self._route(method, path, query, body)
        except Refused as refused:
            return _json(refused.status, error=refused.reason, **refused.fields)
        except Exception as error:  # the model's fault or ours: it ends the match, not this server
            self.failure = error
            self.finished.set()
            return self._ended()

    async def _read(self, receive: Callable[[], Awaitable[Message]]) -> bytes | None:
        """The whole body; None when it is too large. Raises _Gone when the client is."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size <= self.largest_body:  # the rest is read and dropped, to answer with a reason
                parts.append(part)
        return b"".join(parts) if size <= self.largest_body else None

    def _route(self, method: str, path: str, query: str, body: bytes | None) -> Answer:
        if self.failure is not None:
            return self._ended()
        if body is None:
            self.remarks = f"a request had more than {self.largest_body} bytes"
            raise Refused(413, f"{self.remarks}: ask about {MOST_IMAGES} images at most in one")
        match (method, path):
            case ("GET" | "HEAD", "/"):
                return Answer(200, HELLO.encode(), "text/plain; charset=utf-8")
            case ("GET", "/v1/task"):
                return self._task()
            case ("GET", "/v1/images.npy"):
                return Answer(200, wire.dumps(self._pixels), NPY)
            case ("POST", "/v1/predict"):
                return self._predict(query, body)
            case ("POST", "/v1/done"):
                self.finished.set()
                return _json(200, stored=int(torch.isfinite(self._best()).sum()))
        if method in ("GET", "HEAD") and path.startswith("/v1/starts/"):
            return self._starts(path.removeprefix("/v1/starts/").removesuffix(".npy"))
        if method == "POST" and path.startswith("/v1/adversarials/"):
            return self._adversarial(path.removeprefix("/v1/adversarials/"), body)
        raise Refused(404, f"there is no {method} {path}; GET / lists what there is")

    def _task(self) -> Answer:
        labels, targets = self._criterion.labels, self._criterion.targets
        remaining = self._oracle.remaining().tolist()
        samples = [
            {
                "sample": row,
                "label": int(labels[row]),
                "target": None if targets is None else int(targets[row]),
                "seed": self._seeds[row],
                "remaining": remaining[row],
            }
            for row in range(len(self._pixels))
        ]
        return _json(
            200,
            protocol=1,
            track=self._track,
            image={"shape": list(self._shape), "dtype": "uint8"},
            norm=self._oracle.norm,
            epsilon=self._epsilon,
            targeted=targets is not None,
            deadline_seconds=round(max(0.0, self._until - time.monotonic()), 3),
            samples=samples,
        )

    def _starts(self, sample: str) -> Answer:
        """Free of queries: an attack in a container could carry such images with it."""
        row = self._row(sample)
        image = to_images(self._pixels[row : row + 1])
        found = starts_of(self._oracle, image, self._criterion.take(torch.tensor([row])))[0]
        return Answer(200, wire.dumps(found), NPY)

    def _predict(self, query: str, body: bytes) -> Answer:
        rows = self._rows(query)
        pixels = self._images(body, rows, (len(rows), *self._shape), "query")
        index = torch.tensor(rows)
        try:
            labels = self._oracle.labels(to_images(pixels), index)
        except BudgetExhausted as spent:
            raise self._exhausted(spent.rows[0]) from spent
        self._asked.update(map(_key, rows, pixels))
        remaining = self._oracle.remaining()[index].tolist()
        header = {"x-tiltyard-remaining": ",".join(map(str, remaining))}
        return Answer(200, wire.dumps(labels.numpy()), NPY, header)

    def _adversarial(self, sample: str, body: bytes) -> Answer:
        row = self._row(sample)
        pixels = self._images(body, [row], self._shape, "stored image")
        if np.array_equal(pixels, self._pixels[row]):
            raise self._complaint(
                [row], "the stored image is the unchanged clean image; store one that differs"
            )
        if _key(row, pixels) not in self._asked:
            self._claims[row] += 1
            if self._claims[row] > FREE_CLAIMS:
                raise self._complaint(
                    [row],
                    f"sample {row} has handed in {FREE_CLAIMS} images without asking about them; "
                    "ask by POST /v1/predict: the best adversarial asked is kept by itself",
                    status=429,
                    sample=row,
                )
        verdict = self._oracle.record(row, to_images(pixels[None])[0])
        reason = None
        if not verdict.adversarial:
            reason = f"the stored image is not adversarial: the model says {verdict.predicted}"
            self._oracle.note(row, reason)
        best = float(self._best()[row])
        return _json(
            200,
            accepted=True,
            adversarial=verdict.adversarial,
            distance=verdict.distance,
            best=best if math.isfinite(best) else None,
            reason=reason,
        )

    def _best(self) -> Tensor:
        """The smallest verified distance of each sample, (S,); infinite where there is none."""
        return torch.minimum(self._oracle.best_distance, self._oracle.claimed_distance)

    def _rows(self, query: str) -> list[int]:
        given = parse_qs(query).get("samples", [""])[-1]
        if not given:
            raise self._complaint(
                [], "got no samples; wanted POST /v1/predict?samples=3,3,7: a sample for each image"
            )
        parts = given.split(",")
        if len(parts) > MOST_IMAGES:
            raise self._complaint(
                [], f"got {len(parts)} images in one request, wanted {MOST_IMAGES} at most"
            )
        return [self._row(part) for part in parts]

    def _row(self, text: str) -> int:
        count = len(self._pixels)
        if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) < count):
            raise self._complaint(
                [], f"there is no sample {text[:20]!r}; they are 0 to {count - 1}", status=404
            )
        return int(text)

    def _images(
        self, body: bytes, rows: list[int], shape: tuple[int, ...], what: str
    ) -> NDArray[np.uint8]:
        try:
            array = wire.loads(body)
        except wire.NotAnArray as error:
            raise self._complaint(rows, f"a {what} could not be read: {error}") from error
        reason = why_not_pixels(array, shape)
        if reason is not None:
            raise self._complaint(rows, f"a {what} was refused: {reason}")
        return array

    def _exhausted(self, row: int) -> Refused:
        remaining = int(self._oracle.remaining()[row])
        budget = self._oracle.budget
        return self._complaint(
            [row],
            f"sample {row} has {remaining} of its {budget} queries left, too few for this request",
            status=429,
            sample=row,
            remaining=remaining,
            mend="go on with another sample: the best adversarial that was asked counts already",
        )

    def _complaint(
        self, rows: list[int], reason: str, *, status: int = 422, **fields: Any
    ) -> Refused:
        """A refusal that the attack's author will read."""
        for row in set(rows):
            self._oracle.note(row, reason)
        if not rows:
            self.remarks = reason
        return Refused(status, reason, **fields)

    def _ended(self) -> Answer:
        ours = isinstance(self.failure, Stopped)
        return _json(503, error="the match was stopped" if ours else "the model has failed")


def why_not_pixels(array: NDArray[Any], shape: tuple[int, ...]) -> str | None:
    """What is wrong with an array that should be uint8 of this shape, and the mend, or None."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return (
            "it holds NaN or infinite values; wanted uint8: look for a division by zero or a root "
            "of a negative number before the image is sent"
        )
    if array.dtype != np.uint8:
        scale = ""
        if array.dtype.kind == "f" and array.size and float(array.max()) <= 1.0:
            scale = "255 * "
        return (
            f"got {array.dtype.name}, wanted uint8 (values 0 to 255): send "
            f"np.clip(np.rint({scale}x), 0, 255).astype(np.uint8)"
        )
    if array.shape != shape:
        same = f": x.reshape{shape}" if array.size == math.prod(shape) else ""
        return f"got the shape {array.shape}, wanted {shape}{same}"
    return None


def _key(row: int, pixels: NDArray[np.uint8]) -> int:
    return hash((row, pixels.tobytes()))


def _json(status: int, **fields: Any) -> Answer:
    return Answer(status, json.dumps(fields).encode())
