"""What this engine can do: read once, recorded with each result, shown on /healthz."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Engine:
    """A Docker engine's features.

    Attributes:
        cores: processors that it has.
        memory_limit, swap_limit, cpu_limit, pids_limit: whether it can keep these limits.
        runtime: what containers are run with (runc, runsc, ...).
        missing: protections that this host lacks, in words for the operator.
    """

    version: str
    api_version: str
    kernel: str
    architecture: str
    cores: int
    cgroup_version: str
    cgroup_driver: str
    storage_driver: str
    runtimes: tuple[str, ...]
    runtime: str
    seccomp: bool
    apparmor: bool
    user_namespaces: bool
    rootless: bool
    memory_limit: bool
    swap_limit: bool
    cpu_limit: bool
    pids_limit: bool
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For a result's provenance."""
        facts = asdict(self)
        return facts | {"runtimes": list(self.runtimes), "missing": list(self.missing)}


_PROTECTIONS = {
    "memory_limit": "memory limit: a submission can use up this host's memory",
    "swap_limit": "swap limit: a submission may use swap beyond its memory limit",
    "cpu_limit": "processor limit: a submission may use every core",
    "pids_limit": "process limit: a fork bomb can use up this host's processes",
    "seccomp": "seccomp: system calls are not filtered",
    "apparmor": "AppArmor: no profile is applied to containers",
    "user_namespaces": "user namespaces: a container's user ids are those of the host "
    "(submissions run as 65534 in any case)",
}


def read(info: dict[str, Any], version: dict[str, Any], runtime: str | None) -> Engine:
    """From the engine's own answers to `info` and `version`.

    Args:
        runtime: the OCI runtime that the operator asked for, None for the engine's default.
    """
    options = [str(option) for option in info.get("SecurityOptions") or []]
    names = {option.partition(",")[0].removeprefix("name=") for option in options}
    unconfined = any("profile=unconfined" in option for option in options)
    features = {
        "memory_limit": bool(info.get("MemoryLimit")),
        "swap_limit": bool(info.get("SwapLimit")),
        "cpu_limit": bool(info.get("CpuCfsQuota")),
        "pids_limit": bool(info.get("PidsLimit")),
        "seccomp": "seccomp" in names and not unconfined,
        "apparmor": "apparmor" in names,
        "user_namespaces": "userns" in names or "rootless" in names,
    }
    return Engine(
        version=str(version.get("Version")),
        api_version=str(version.get("ApiVersion")),
        kernel=str(info.get("KernelVersion")),
        architecture=str(info.get("Architecture")),
        cores=int(info.get("NCPU") or 1),
        cgroup_version=str(info.get("CgroupVersion", "1")),
        cgroup_driver=str(info.get("CgroupDriver")),
        storage_driver=str(info.get("Driver")),
        runtimes=tuple(sorted(info.get("Runtimes") or {})),
        runtime=runtime or str(info.get("DefaultRuntime")),
        rootless="rootless" in names,
        missing=tuple(text for name, text in _PROTECTIONS.items() if not features[name]),
        **features,
    )
