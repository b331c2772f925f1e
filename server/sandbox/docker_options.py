"""Every option of every container, in one place. Pure: no engine is asked."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import docker

from .errors import PackageRefused, Role
from .self_check import Engine
from .types import Files, Labels, Limits

MIB: Final = 1 << 20
NOBODY: Final = "65534:65534"
SHM_MIB: Final = 64
TMP_FILES: Final = 65536
VOLUMES: Final = 8
GATEWAY_MEMORY_MIB: Final = 128
GATEWAY_PIDS: Final = 160
PAGE: Final = 4096
INPUTS: Final = "/avc/images"
OUTPUTS: Final = "/avc/results"
"""Where an attack of 2018 finds its files; not /images and /results, which an entry's own image may
have."""
SOCKETS: Final = "/run/tiltyard"
"""Where a gateway finds the folder that holds the socket; participants never see it."""


def labels(instance: str, owner: Labels, role: str) -> dict[str, str]:
    """What the reaper reads; an image's own labels of these names are overridden."""
    return {
        "tiltyard.instance": instance,
        "tiltyard.job": owner.job,
        "tiltyard.fence": str(owner.fence),
        "tiltyard.role": role,
        "tiltyard.deadline": str(math.ceil(owner.deadline)),
    }


def participant(
    api: Any,
    *,
    name: str,
    image: str,
    volumes: Sequence[str],
    gateway: str,
    labels: Mapping[str, str],
    limits: Limits,
    environment: Mapping[str, str],
    engine: Engine,
    runtime: str | None,
    gpus: int,
    files: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Arguments of create_container for an untrusted program.

    Args:
        volumes: paths that the image declares; each is covered by a tmpfs.
        gateway: id of the container whose network namespace it joins.
        files: mounts of an attack's files, as `file_mounts` gives them.
    """
    noexec = "" if limits.exec_tmp else "noexec,"
    tmpfs = f"rw,{noexec}nosuid,nodev,size={limits.tmp_mib}m,nr_inodes={TMP_FILES},mode=1777"
    request = docker.types.DeviceRequest(count=gpus, capabilities=[["gpu"]])
    return {
        "image": image,
        "name": name,
        "user": NOBODY,
        "environment": dict(environment),
        "labels": dict(labels),
        "healthcheck": {"test": ["NONE"]},
        "host_config": api.create_host_config(
            network_mode=f"container:{gateway}",
            tmpfs=dict.fromkeys(["/tmp", *_covered(volumes)], tmpfs),
            binds=dict(files) if files else None,
            shm_size=SHM_MIB * MIB,
            device_requests=[request] if gpus else None,
            runtime=runtime,
            ulimits=[
                _ulimit("core", 0),
                _ulimit("nofile", limits.open_files),
                _ulimit("fsize", limits.file_mib * MIB),
            ],
            **_closed_box(engine, limits.memory_mib, limits.cores, limits.pids),
        ),
    }


def gateway(
    api: Any,
    *,
    name: str,
    image: str,
    role: Role,
    folder: Path,
    socket: str,
    labels: Mapping[str, str],
    engine: Engine,
    results: str | None = None,
) -> dict[str, Any]:
    """Arguments of create_container for the trusted gateway. It runs as the server's own user.

    Args:
        folder: on the host, holds the socket of this name.
        results: the volume that an attack writes to; it lives on while the gateway has it.
    """
    binds = {str(folder): {"bind": SOCKETS, "mode": "rw"}}
    if results is not None:
        binds[results] = {"bind": OUTPUTS, "mode": "ro"}
    # With a rootless engine, 0 inside is the engine's own user outside.
    user = "0:0" if engine.rootless else f"{os.getuid()}:{os.getgid()}"
    return {
        "image": image,
        "command": [role, f"{SOCKETS}/{socket}"],
        "name": name,
        "hostname": "sandbox",
        "user": user,
        "labels": dict(labels),
        "healthcheck": {"test": ["NONE"]},
        "host_config": api.create_host_config(
            network_mode="none",
            # Docker copies the host's resolv.conf in, and the participant shares it.
            dns=["127.0.0.1"],
            dns_search=["."],
            binds=binds,
            ulimits=[_ulimit("core", 0), _ulimit("nofile", 1024)],
            **_closed_box(engine, GATEWAY_MEMORY_MIB, 1.0, GATEWAY_PIDS),
        ),
    }


def results(name: str, files: Files, labels: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of create_volume for what an attack leaves: in memory, of bounded size."""
    size = files.most * (files.largest + PAGE) + MIB
    options = f"size={size},nr_inodes={files.most + 16},mode=1777,nosuid,nodev,noexec"
    return {
        "name": name,
        "driver": "local",
        "driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": options},
        "labels": dict(labels),
    }


def file_mounts(inputs: Path, results: str) -> dict[str, dict[str, str]]:
    """Where an attack finds its files and leaves others.

    Args:
        inputs: folder on the host.
        results: name of the volume.
    """
    return {
        str(inputs): {"bind": INPUTS, "mode": "ro"},
        results: {"bind": OUTPUTS, "mode": "rw"},
    }


def _closed_box(engine: Engine, memory_mib: int, cores: float, pids: int) -> dict[str, Any]:
    """What both kinds share. A limit that the engine can't keep is left out; see Engine.missing."""
    memory = memory_mib * MIB if engine.memory_limit else None
    return {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],  # seccomp: the engine's default profile
        "mem_limit": memory,
        "memswap_limit": memory if engine.swap_limit else None,
        "nano_cpus": round(min(cores, engine.cores) * 1e9) if engine.cpu_limit else None,
        "pids_limit": pids if engine.pids_limit else None,
        "ipc_mode": "private",
        "init": True,
        "log_config": docker.types.LogConfig(
            type="json-file", config={"max-size": "1m", "max-file": "1"}
        ),
        "auto_remove": False,
        "restart_policy": {"Name": "no"},
        "privileged": False,
        "oom_score_adj": 500,
    }


def _covered(volumes: Sequence[str]) -> list[str]:
    """The volumes of an image, each of which gets a tmpfs; strange ones are refused."""
    if len(volumes) > VOLUMES:
        raise PackageRefused(
            f"the image declares {len(volumes)} volumes, wanted {VOLUMES} at most",
            "leave VOLUME out of the Dockerfile: /tmp is the place to write",
        )
    for path in volumes:
        first = path.split("/")[1] if path.startswith("/") else ""
        if ".." in path.split("/") or first in ("", "dev", "proc", "sys", "etc", "tmp", "run"):
            raise PackageRefused(
                f"the image declares the volume {path[:60]!r}",
                "leave VOLUME out of the Dockerfile: /tmp is the place to write",
            )
    return list(volumes)


def _ulimit(name: str, value: int) -> Any:
    return docker.types.Ulimit(name=name, soft=value, hard=value)
