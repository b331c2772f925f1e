"""The gateway: splices bytes between the participant's loopback and one unix socket. Trusted.

gateway.py attack SOCKET   127.0.0.1:8989 -> the referee's unix socket
gateway.py model SOCKET    a unix socket, made here -> 127.0.0.1:8989

It knows no protocol, keeps nothing and decides nothing: all rules live behind the socket. Standard
library only; it runs without network, capabilities or a writable root.
"""

import contextlib
import pathlib
import socket
import sys
import threading

PORT = 8989
CHUNK = 1 << 17
CONNECTIONS = 64
"""At once; each takes two threads. Further ones are closed."""


def listen(role: str, path: str) -> socket.socket:
    if role == "attack":
        server = socket.socket(socket.AF_INET)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", PORT))
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
    server.listen(CONNECTIONS)
    return server


def connect(role: str, path: str) -> socket.socket:
    if role == "attack":
        other = socket.socket(socket.AF_UNIX)
        other.connect(path)
    else:
        other = socket.create_connection(("127.0.0.1", PORT))
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return other


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the source ends, then tell the sink so; a broken one breaks both."""
    buffer = memoryview(bytearray(CHUNK))
    try:
        while True:
            count = source.recv_into(buffer)
            if not count:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(buffer[:count])
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def splice(role: str, path: str, accepted: socket.socket, slots: threading.Semaphore) -> None:
    try:
        with accepted:
            if role == "attack":
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connect(role, path) as other:
                back = threading.Thread(target=pump, args=(other, accepted), daemon=True)
                back.start()
                pump(accepted, other)
                back.join()
    except OSError:
        pass
    finally:
        slots.release()


def main(role: str, path: str) -> None:
    threading.stack_size(256 * 1024)
    slots = threading.Semaphore(CONNECTIONS)
    server = listen(role, path)
    # Beside the socket, in the folder that is mounted into gateways only.
    pathlib.Path(path).with_name("ready").touch()
    while True:
        accepted, _ = server.accept()
        if not slots.acquire(blocking=False):
            accepted.close()
            continue
        threading.Thread(target=splice, args=(role, path, accepted, slots), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
