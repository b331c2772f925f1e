"""Models that behave, and models that don't: model.py MODE. Label: mean brightness // 26."""

import ctypes
import os
import random
import sys
import time

import numpy as np
import wire

asked = 0


def labels(images):
    return images.reshape(len(images), -1).mean(axis=1).astype(np.int64) // 26


def good(handler, body):
    return wire.dumps(labels(wire.loads(body)))


def exit_3():
    print("cannot find weights.npz", file=sys.stderr)
    sys.exit(3)


def hang():
    print("loading", flush=True)
    time.sleep(3600)


def segfault():
    ctypes.string_at(0)


def never_ready():
    wire.serve(good, ready=lambda: b'{"ready": false}')


def memory_at_start():
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20)))


def memory_later():
    wire.serve(lambda handler, body: memory_at_start())


def crash(handler, body):
    print("assertion failed in layer 3", flush=True)
    os._exit(5)


def slow(handler, body):
    time.sleep(3600)


def drip(handler, body):
    while True:
        handler.wfile.write(b"H")
        handler.wfile.flush()
        time.sleep(0.1)


def nonsense(handler, body):
    handler.wfile.write(b"I am not a web server\r\n\r\n")
    handler.close_connection = True


def huge(handler, body):
    return b"x" * (4 << 20)


def refuses(handler, body):
    handler.reply(b'{"error": "only 32x32 images, please"}', status=400)


def cuts_off(handler, body):
    handler.close_connection = True


def floats(handler, body):
    return wire.dumps(labels(wire.loads(body)).astype(np.float64))


def one_short(handler, body):
    return wire.dumps(labels(wire.loads(body))[1:])


def out_of_range(handler, body):
    return wire.dumps(labels(wire.loads(body)) + 100)


def pickled(handler, body):
    return wire.dumps(np.array([{"label": 1}], dtype=object))


def random_labels(handler, body):
    return wire.dumps(np.array([random.randrange(10) for _ in wire.loads(body)]))


def by_position(handler, body):
    return wire.dumps(np.arange(len(wire.loads(body))) % 10)


def remembers(handler, body):
    global asked
    images = wire.loads(body)
    asked += len(images)
    return wire.dumps(labels(images) if asked < 60 else 0 * labels(images))


def flood():
    for _ in range(300_000):
        print("\x1b[31m" + 90 * "x", flush=False)
    wire.serve(good)


def http_1_0():
    wire.serve(good, version="HTTP/1.0")


STARTS = {
    f.__name__: f
    for f in (exit_3, hang, segfault, never_ready, memory_at_start, memory_later, flood, http_1_0)
}

if __name__ == "__main__":
    mode = sys.argv[1]
    if mode in STARTS:
        STARTS[mode]()
    else:
        wire.serve(globals()[mode])
