"""What a submission can see and do: probe.py HOST:PORT... prints one line of JSON, then serves."""

# ruff: noqa: PTH107, PTH109, PTH110, PTH123, PTH208

import ctypes
import json
import os
import pathlib
import resource
import socket
import stat
import subprocess
import sys

import numpy as np
import wire

KERNEL = (
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/vm/drop_caches",
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/memory.max",
)
"""What a program that has it for writing can stop the machine, or become root, with."""


def attempt(action):
    """ "ok", or the name of the error."""
    try:
        action()
    except OSError as error:
        return type(error).__name__ if error.errno is None else os.strerror(error.errno)
    return "ok"


def connect(host, port):
    socket.create_connection((host, port), timeout=2).close()


def send_datagram(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (host, 53))


def run_from_tmp():
    script = pathlib.Path("/tmp/script")
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    subprocess.run([script], check=True)


def fill(folder, mib):
    with open(f"{folder}/big", "wb") as file:
        for _ in range(mib):
            file.write(bytes(1 << 20))
    os.remove(f"{folder}/big")


def many_files():
    """How many empty files /tmp takes, of a million; and why no more."""
    made, why = 0, "ok"
    while made < 1_000_000 and why == "ok":
        why = attempt(lambda made=made: os.mknod(f"/tmp/file{made}"))
        made += why == "ok"
    for number in range(made):
        os.remove(f"/tmp/file{number}")
    return made, why


def fork_bomb():
    children = []
    try:
        while len(children) < 2000:
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), 19)  # stop, so that it stays without using the processor
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return len(children)


def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name + ":"))


def setuid_as():
    """Who a program is that belongs to root and has the setuid bit."""
    done = subprocess.run(["/usr/bin/id-as-root", "-u"], capture_output=True, text=True)
    return int(done.stdout)


def write_over(path):
    """Opens only: where it works, nothing is changed."""
    os.close(os.open(path, os.O_WRONLY))


def read_some(path):
    with open(path, "rb") as file:
        if not file.read(4):
            raise OSError("nothing in it")


def unshare():
    """A user namespace of one's own, in which one is root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None) != 0:  # attach
        raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(17, pid, None, None)  # detach


def strangers():
    """Processes that are neither this program nor its init, by what /proc says of them."""
    own = {"1", str(os.getpid()), str(os.getppid())}
    found = [name for name in os.listdir("/proc") if name.isdigit() and name not in own]
    return {name: int(name) for name in found}


def report(targets):
    hosts = [target.rpartition(":") for target in targets]
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "capabilities": [status(name) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")],
        "no_new_privileges": status("NoNewPrivs"),
        "seccomp": status("Seccomp"),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "tcp": {f"{h}:{p}": attempt(lambda h=h, p=p: connect(h, int(p))) for h, _, p in hosts},
        "udp": {h: attempt(lambda h=h: send_datagram(h)) for h, _, _ in hosts},
        "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
        "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
        "names": attempt(lambda: socket.getaddrinfo("example.com", 80)),
        "resolver": pathlib.Path("/etc/resolv.conf").read_text(),
        "write": {
            path: attempt(lambda path=path: pathlib.Path(path, "x").write_text("x"))
            for path in ("/", "/etc", "/usr", "/var/tmp", "/submission", "/data", "/tmp")
        },
        "exec_tmp": attempt(run_from_tmp),
        "fill_tmp": attempt(lambda: fill("/tmp", 64)),
        "files_tmp": many_files(),
        "mount": attempt(lambda: mount()),
        "unshare": attempt(unshare),
        "device": attempt(lambda: os.mknod("/tmp/disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))),
        "trace": {name: attempt(lambda pid=pid: trace(pid)) for name, pid in strangers().items()},
        "signal": attempt(lambda: os.kill(-1, 0)),  # whom it may signal, but itself and its init
        "kernel": {path: attempt(lambda path=path: write_over(path)) for path in KERNEL},
        "memory_of_the_kernel": attempt(lambda: read_some("/proc/kcore")),
        "sockets": pathlib.Path("/run/tiltyard").exists(),
        "docker_socket": os.path.exists("/var/run/docker.sock"),
        "processes": [name for name in os.listdir("/proc") if name.isdigit()],
        "threads_numpy": os.environ.get("OPENBLAS_NUM_THREADS"),
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
            for name in ("NOFILE", "CORE", "FSIZE")
        },
        "forks": fork_bomb(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "setuid_as": setuid_as(),
    }


def mount():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")


if __name__ == "__main__":
    print("REPORT " + json.dumps(report(sys.argv[2:])), flush=True)
    if sys.argv[1] == "model":
        wire.serve(lambda handler, body: wire.dumps(np.zeros(len(wire.loads(body)), np.int64)))
