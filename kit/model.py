"""A model's side of the game: answer the referee's questions over HTTP."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from typing import Any, Protocol

import numpy as np

from . import wire
from .errors import WireError
from .transport import Reply, Server, failure

HELLO = b"A Tiltyard model. GET /v1/ready, POST /v1/predict (.npy in, .npy out).\n"
ARRAY = {"content-type": "application/x-npy"}
TEXT = {"content-type": "text/plain; charset=utf-8"}
LARGEST_BODY = 1 << 28


class Model(Protocol):
    """What ``serve`` wants."""

    def predict(self, images: np.ndarray[Any, Any], /) -> Any:
        """uint8 (N,H,W,C) -> N whole numbers from 0, the labels, as an array or a list."""


def serve(model: Model, *, port: int | None = None) -> None:
    """Answer for ``model`` on 127.0.0.1 until the process is ended.

    ``port``: MODEL_PORT of the environment (8989 without it) when None. Calls of ``predict`` come
    one at a time, whatever the number of connections, so the model needs no lock of its own.
    """
    if not callable(getattr(model, "predict", None)):
        raise TypeError(
            f"kit.serve got {type(model).__name__}, wanted an object with "
            "predict(images: uint8 (N,H,W,C)) -> N labels: pass the model itself, not its class"
        )
    port = int(os.environ.get("MODEL_PORT", "8989")) if port is None else port
    with make_server(model, port) as server:
        print(f"answering on 127.0.0.1:{server.server_address[1]}", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def make_server(model: Model, port: int) -> Server:
    """Bind the server without starting it: ``serve_forever`` does, ``shutdown`` ends that.

    Port 0 takes any free one: see ``server_address``.
    """
    lock = threading.Lock()

    def answer(method: str, path: str, body: bytes) -> Reply:
        path = path.partition("?")[0]
        if (method, path) == ("POST", "/v1/predict"):
            with lock:
                return _predict(model, body)
        if (method, path) == ("GET", "/v1/ready"):
            return Reply(200, b'{"ready": true}', {})
        if (method, path) == ("GET", "/"):
            return Reply(200, HELLO, TEXT)
        if path in ("/v1/predict", "/v1/ready", "/"):
            return failure(405, f"got {method} {path}, wanted " + HELLO.decode().strip())
        return failure(404, f"got {method} {path}, wanted one of: " + HELLO.decode().strip())

    return Server(("127.0.0.1", port), answer, largest=LARGEST_BODY)


def _predict(model: Model, body: bytes) -> Reply:
    try:
        images = wire.loads(body, dtype="uint8", shape=(None, None, None, None))
    except WireError as error:
        return failure(400, f"{error}: send uint8 (N,H,W,C) as .npy")
    try:
        labels = check_labels(model.predict(images), len(images))
    except Exception as error:
        traceback.print_exc()
        return failure(500, f"the model raised {type(error).__name__}: {error}")
    return Reply(200, wire.dumps(labels), ARRAY)


def check_labels(labels: Any, count: int) -> np.ndarray[Any, Any]:
    """Give what ``predict`` returned as int64 (count,), or say with ValueError what is wrong."""
    array = np.asarray(labels)
    if array.ndim == 2 and len(array) == count:
        raise ValueError(
            f"predict returned shape {array.shape}, wanted ({count},): "
            "return the labels, scores.argmax(axis=1), not the scores"
        )
    if array.shape != (count,):
        raise ValueError(f"predict returned shape {array.shape}, wanted ({count},)")
    if count and array.dtype.kind not in "iu":
        raise ValueError(f"predict returned {array.dtype}, wanted whole numbers: use argmax")
    if count and array.min() < 0:
        raise ValueError(f"predict returned the label {array.min()}, wanted 0 or more")
    return array.astype(np.int64)
