"""Attacks that behave, and attacks that don't: attack.py MODE."""

# ruff: noqa: PTH123

import contextlib
import os
import signal
import socket
import sys
import time

import numpy as np
import wire


def brighter(image, step):
    return np.clip(image.astype(np.int64) + step, 0, 255).astype(np.uint8)


def good(referee):
    """Raise the brightness step by step until the label changes."""
    for sample in referee.task["samples"]:
        row, image = sample["sample"], referee.images[sample["sample"]]
        steps = np.stack([brighter(image, step) for step in range(2, 60, 2)])
        _, body = referee.predict(row, steps)
        wrong = np.flatnonzero(wire.loads(body) != sample["label"])
        if len(wrong):
            referee.store(row, steps[wrong[0]])
    referee.done()


def first_only(referee):
    """Sample 0 honestly, then what the caller wants."""
    referee.task["samples"] = referee.task["samples"][:1]
    good(referee)


def exit_1(referee):
    good_samples = referee.task["samples"][:1]
    for sample in good_samples:
        image = brighter(referee.images[sample["sample"]], 60)
        referee.predict(sample["sample"], image[None])
    raise ValueError("shapes (3,4) and (5,) not aligned")


def hang(referee):
    print("thinking about sample 0", flush=True)
    time.sleep(3600)


def ignores_signals(referee):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hang(referee)


def writes_outside(referee):
    with open("/etc/tiltyard-was-here", "w") as file:
        file.write("hello")


def store_all(referee, change):
    for row, image in enumerate(referee.images):
        status, body = referee.store(row, change(image))
        print(status, body.decode())
    referee.done()


def float64(referee):
    store_all(referee, lambda image: image / 255 + 0.1)


def nan(referee):
    store_all(referee, lambda image: np.full(image.shape, np.nan))


def wrong_shape(referee):
    store_all(referee, lambda image: image[..., 0])


def unchanged(referee):
    store_all(referee, lambda image: image)


def not_adversarial(referee):
    store_all(referee, lambda image: brighter(image, 1))


def pickled(referee):
    store_all(referee, lambda image: np.array({"image": image}, dtype=object))


def overspends(referee):
    """1,001 queries for sample 0, each alone; the others honestly."""
    image = brighter(referee.images[0], 60)
    statuses = [referee.predict(0, image[None])[0] for _ in range(1001)]
    print("200s:", statuses.count(200), "last:", statuses[-1], flush=True)
    referee.task["samples"] = referee.task["samples"][1:]
    good(referee)


def many_connections(referee):
    """Hundreds of half requests at once, then honestly."""
    address = os.environ["MODEL_SERVER"], int(os.environ["MODEL_PORT"])
    half = b"POST /v1/predict?samples=0 HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n" + bytes(9000)
    connections = []
    for _ in range(300):
        connections.append(socket.create_connection(address))
        with contextlib.suppress(OSError):
            connections[-1].sendall(half)
    for connection in connections:
        connection.close()
    time.sleep(1)
    good(wire.Referee())


def silent(referee):
    referee.done()


def done_then_hang(referee):
    good(referee)
    hang(referee)


def memory(referee):
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20)))


if __name__ == "__main__":
    globals()[sys.argv[1]](wire.Referee())
