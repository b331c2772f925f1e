"""The referee: what an attack in a sandbox talks to. It owns the rules.

Budget, counting, trace and verdict are those of `attacks.Oracle`, the same as in a local run;
this is its HTTP side, in our protocol and in that of 2018 (all requests: docs/sandbox.md).
Errors are JSON {"error": reason} and are kept as notes, so that an attack's author reads them
beside the sample.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable
from functools import cached_property
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

from . import bson, challenge_2018
from .answers import Answer, Refused, json_answer, text_answer, why_not_pixels
from .sandbox import wire
from .sandbox.errors import Stopped
from .sandbox.types import Files, Outputs

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
An attack of 2018 asks POST /predict, one image at a time, as BSON.
"""

Message = dict[str, Any]


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
            return json_answer(refused.status, error=refused.reason, **refused.fields)
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
            if path == "/predict":
                self._waste()
            self.remarks = f"a request had more than {self.largest_body} bytes"
            raise Refused(413, f"{self.remarks}: ask about {MOST_IMAGES} images at most in one")
        match (method, path):
            case ("GET" | "HEAD", "/"):
                return text_answer(challenge_2018.GREETING)
            case ("GET" | "HEAD", "/v1"):
                return text_answer(HELLO)
            case ("GET", "/server_version"):
                return text_answer(challenge_2018.VERSION)
            case ("GET", "/shutdown"):
                return text_answer("the server goes on until the run is over\n")
            case ("POST", "/predict"):
                return self._predict_2018(body)
            case ("GET", "/v1/task"):
                return self._task()
            case ("GET", "/v1/images.npy"):
                return Answer(200, wire.dumps(self._pixels), NPY)
            case ("POST", "/v1/predict"):
                return self._predict(query, body)
            case ("POST", "/v1/done"):
                self.finished.set()
                return json_answer(200, stored=int(torch.isfinite(self._best()).sum()))
        if method in ("GET", "HEAD") and path.startswith("/v1/starts/"):
            return self._starts(path.removeprefix("/v1/starts/").removesuffix(".npy"))
        if method == "POST" and path.startswith("/v1/adversarials/"):
            return self._adversarial(path.removeprefix("/v1/adversarials/"), body)
        raise Refused(404, f"there is no {method} {path}; GET /v1 lists what there is")

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
        return json_answer(
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
        found = starts_of(self._oracle, image, self._criterion.take(torch.tensor([row])))
        return Answer(200, wire.dumps(found), NPY)

    def _predict(self, query: str, body: bytes) -> Answer:
        rows = self._rows(query)
        pixels = self._images(body, rows, (len(rows), *self._shape), "query")
        index = torch.tensor(rows)
        try:
            labels = self._oracle.pixel_labels(torch.from_numpy(pixels.copy()), index)
        except BudgetExhausted as spent:
            raise self._exhausted(spent.rows[0]) from spent
        self._asked.update(map(_key, rows, pixels))
        remaining = self._oracle.remaining_of(rows)
        header = {"x-tiltyard-remaining": ",".join(map(str, remaining))}
        return Answer(200, wire.dumps(labels.numpy()), NPY, header)

    def files(self) -> Files:
        """What an attack of 2018 finds as files, and may leave as such."""
        targets = self._criterion.targets
        labels = self._criterion.labels if targets is None else targets
        return Files(
            challenge_2018.input_files(self._pixels, labels.tolist()),
            largest=wire.HEADER_BYTES + 8 * math.prod(self._shape),
        )

    def take(self, outputs: Outputs) -> None:
        """Verify and keep what an attack of 2018 has left as files, once it has ended."""
        for row in range(len(self._pixels)):
            name = challenge_2018.file_name(row)
            if name in outputs.refused:
                self._oracle.note(row, f"the file {name} was refused: {outputs.refused[name]}")
            elif name in outputs.files:
                self._take(row, outputs.files[name])
        expected = {challenge_2018.file_name(row) for row in range(len(self._pixels))}
        strange = sorted((set(outputs.files) | set(outputs.refused)) - expected)
        if strange:
            why = outputs.refused.get(strange[0], "it is the name of no image")
            self.remarks = (
                f"it stored {strange[0]!r}: {why}; wanted names such as "
                f"{challenge_2018.file_name(0)}"
            )

    def _take(self, row: int, body: bytes) -> None:
        if challenge_2018.is_none(body):
            self._oracle.note(row, "the attack stored None: it found nothing for this image")
            return
        self.answer("POST", f"/v1/adversarials/{row}", "", body)  # notes what is wrong with it

    def _predict_2018(self, body: bytes) -> Answer:
        """One image as BSON. It counts whatever it holds, and belongs to the nearest sample."""
        if self._oracle.shared_remaining() < 1:
            raise self._all_spent()
        try:
            pixels = challenge_2018.image(body)
            reason = why_not_pixels(pixels, self._shape)
        except bson.NotBson as error:
            reason = f"the body is not BSON as it was in 2018: {error}"
        if reason is not None:
            self._waste()
            self.remarks = f"a query was refused: {reason}"
            raise Refused(422, self.remarks)
        row = self._nearest(pixels)
        try:
            asked = torch.from_numpy(pixels[None].copy())
            labels = self._oracle.pixel_labels(asked, torch.tensor([row]), shared=True)
        except BudgetExhausted as spent:
            raise self._all_spent() from spent
        self._asked.add(_key(row, pixels))
        return Answer(200, challenge_2018.reply(int(labels[0])), challenge_2018.BSON)

    def _waste(self) -> None:
        try:
            self._oracle.waste()
        except BudgetExhausted as spent:
            raise self._all_spent() from spent

    def _all_spent(self) -> Refused:
        """The refusal that ends a run of 2018, whose client would try again and then die."""
        self.remarks = (
            f"the budget of this run, {self._oracle.budget} queries for each of "
            f"{len(self._pixels)} samples, is spent"
        )
        self.finished.set()
        return Refused(429, self.remarks, remaining=0)

    @cached_property
    def _nearest(self) -> challenge_2018.Nearest:
        return challenge_2018.Nearest(self._pixels)

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
        return json_answer(
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
        reason = f"sample {row} has {remaining} of its {self._oracle.budget} queries left"
        if self._oracle.shared_remaining() == remaining:
            reason = f"the run has {remaining} queries left for all its samples together"
        return self._complaint(
            [row],
            f"{reason}, too few for this request",
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
        return json_answer(503, error="the match was stopped" if ours else "the model has failed")


def _key(row: int, pixels: NDArray[np.uint8]) -> int:
    return hash((row, pixels.tobytes()))
