"""The docker provider: every option of an untrusted container, and what the engine does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from server.sandbox import docker_options, self_check
from server.sandbox.docker import DockerProvider
from server.sandbox.environment import environment
from server.sandbox.errors import Crashed, EngineFailed, PackageRefused
from server.sandbox.types import Labels, Limits, Package

MIB = 1 << 20
LIMITS = Limits(
    memory_mib=300, cores=0.5, pids=40, tmp_mib=16, open_files=100, file_mib=7, start_seconds=60
)
OWNER = Labels("options", 3, 2_000_000_000.5)

INFO = {
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default", "name=userns"],
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "NCPU": 2,
    "Runtimes": {"runc": {}, "runsc": {}},
    "DefaultRuntime": "runc",
    "CgroupVersion": "2",
}


def engine(**changes: Any) -> self_check.Engine:
    return self_check.read(INFO | changes, {"Version": "20.10", "ApiVersion": "1.41"}, None)


def participant(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": OWNER.name("model"),
        "image": "tiltyard/entry:x",
        "volumes": ["/data"],
        "gateway": "gateway-id",
        "labels": docker_options.labels("here", OWNER, "model"),
        "limits": LIMITS,
        "environment": environment(None, LIMITS, port=8989, tmp="/tmp"),
        "engine": engine(),
        "runtime": None,
        "gpus": 0,
    }
    return docker_options.participant(docker.APIClient(version="1.41"), **(options | changes))


def test_an_untrusted_container_has_every_option() -> None:
    options = participant()
    host = options.pop("host_config")
    assert options["name"] == "tiltyard-options-3-model"
    assert options["user"] == "65534:65534"
    assert options["healthcheck"] == {"test": ["NONE"]}
    assert options["labels"] == {
        "tiltyard.instance": "here",
        "tiltyard.job": "options",
        "tiltyard.fence": "3",
        "tiltyard.role": "model",
        "tiltyard.deadline": "2000000001",
    }
    assert options["environment"]["MODEL_PORT"] == "8989"
    assert options["environment"]["OMP_NUM_THREADS"] == "1"
    tmp = "rw,noexec,nosuid,nodev,size=16m,nr_inodes=65536,mode=1777"
    wanted = {
        "NetworkMode": "container:gateway-id",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Memory": 300 * MIB,
        "MemorySwap": 300 * MIB,
        "NanoCpus": 500_000_000,
        "PidsLimit": 40,
        "IpcMode": "private",
        "Init": True,
        "Tmpfs": {"/tmp": tmp, "/data": tmp},
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
    }
    assert {key: host[key] for key in wanted} == wanted
    assert {(u["Name"], u["Soft"], u["Hard"]) for u in host["Ulimits"]} == {
        ("core", 0, 0),
        ("nofile", 100, 100),
        ("fsize", 7 * MIB, 7 * MIB),
    }
    for absent in ("Binds", "Privileged", "AutoRemove", "Devices", "CapAdd", "Mounts"):
        assert not host.get(absent), absent


def test_a_track_may_allow_programs_in_tmp_and_an_operator_gpus_and_a_runtime() -> None:
    host = participant(limits=replace(LIMITS, exec_tmp=True), gpus=2, runtime="runsc")[
        "host_config"
    ]
    assert "noexec" not in host["Tmpfs"]["/tmp"]
    assert host["Runtime"] == "runsc"
    assert host["DeviceRequests"][0]["Count"] == 2
    assert host["DeviceRequests"][0]["Capabilities"] == [["gpu"]]


def test_the_gateway_has_the_socket_and_no_network_and_the_participant_not() -> None:
    options = docker_options.gateway(
        docker.APIClient(version="1.41"),
        name="g",
        image="tiltyard/gateway:x",
        role="model",
        folder=Path("/host/sockets/s1"),
        socket="s",
        labels={},
        engine=engine(),
    )
    host = options["host_config"]
    assert host["NetworkMode"] == "none"
    assert host["Binds"] == ["/host/sockets/s1:/run/tiltyard:rw"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert options["command"] == ["model", "/run/tiltyard/s"]
    assert "Binds" not in participant()["host_config"]


@pytest.mark.parametrize("path", ["/", "data", "/tmp", "/a/../..", "/proc/x", "/etc", "//"])
def test_a_strange_volume_is_refused(path: str) -> None:
    with pytest.raises(PackageRefused, match="VOLUME"):
        participant(volumes=[path])


def test_too_many_volumes_are_refused() -> None:
    with pytest.raises(PackageRefused, match="9 volumes"):
        participant(volumes=[f"/v{i}" for i in range(9)])


def test_a_host_that_has_everything_lacks_nothing() -> None:
    assert engine().missing == ()


@pytest.mark.parametrize(
    ("change", "option", "words"),
    [
        ({"CpuCfsQuota": False}, "NanoCpus", "processor limit"),
        ({"PidsLimit": False}, "PidsLimit", "fork bomb"),
        ({"MemoryLimit": False}, "Memory", "memory limit"),
        ({"SwapLimit": False}, "MemorySwap", "swap"),
        ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, None, "seccomp"),
        ({"SecurityOptions": ["name=seccomp,profile=default"]}, None, "AppArmor"),
    ],
)
def test_a_feature_that_the_host_lacks_is_left_out_and_recorded(
    change: dict[str, Any], option: str | None, words: str
) -> None:
    lacking = engine(**change)
    assert any(words in text for text in lacking.missing)
    assert any(words in text for text in lacking.to_json()["missing"])
    if option is not None:
        assert not participant(engine=lacking)["host_config"].get(option)


def test_more_cores_than_the_host_has_are_all_of_them() -> None:
    host = participant(limits=replace(LIMITS, cores=64))["host_config"]
    assert host["NanoCpus"] == 2_000_000_000


def test_the_facts_name_the_engine(docker_provider: DockerProvider, docker_engine: str) -> None:
    facts = docker_provider.facts()
    assert facts["version"] == docker_engine
    assert facts["runtime"] in facts["runtimes"]
    assert facts["cgroup_version"] in ("1", "2")


def test_a_runtime_that_the_engine_lacks_is_an_error_of_ours(docker_engine: str) -> None:
    with pytest.raises(EngineFailed, match="no runtime 'nonsuch', it has"):
        DockerProvider("t", runtime="nonsuch")


def test_an_engine_that_does_not_answer_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineFailed, match="could not reach the Docker engine"):
        DockerProvider("t")


def test_a_folder_for_sockets_that_others_can_write_to_is_refused(
    docker_engine: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(EngineFailed, match="closed to others"):
        DockerProvider("t", sockets=tmp_path)


def test_a_socket_path_that_is_too_long_is_said_to_be(
    docker_provider: DockerProvider, hostile_image: Callable[..., Package], tmp_path: Path
) -> None:
    provider = DockerProvider(docker_provider.instance, sockets=tmp_path / ("long" * 25))
    package = hostile_image("model.py", "good")
    sandbox = provider.open(package, "model", labels=OWNER, limits=LIMITS)
    with pytest.raises(EngineFailed, match="shorter path"):
        sandbox.start()
    provider.close()


def test_a_flood_of_output_takes_no_more_than_its_share_of_the_disk(
    docker_provider: DockerProvider, hostile_image: Callable[..., Package]
) -> None:
    package = hostile_image("model.py", "flood")
    with docker_provider.open(package, "model", labels=OWNER, limits=LIMITS) as sandbox:
        sandbox.start()
        log = Path(docker_provider.api.inspect_container(sandbox.name)["LogPath"])
        try:
            sizes = [path.stat().st_size for path in log.parent.glob(f"{log.name}*")]
        except PermissionError:
            sizes = []  # only root may look
        assert sum(sizes) < 3 * MIB


def test_a_sandbox_leaves_no_container_volume_or_folder(
    docker_provider: DockerProvider, hostile_image: Callable[..., Package]
) -> None:
    volumes = {v["Name"] for v in docker_provider.api.volumes()["Volumes"] or []}
    package = hostile_image("model.py", "good")
    with docker_provider.open(package, "model", labels=OWNER, limits=LIMITS) as sandbox:
        sandbox.start()
        mine = {"label": f"tiltyard.instance={docker_provider.instance}"}
        running = docker_provider.api.containers(filters=mine)
        assert {c["Labels"]["tiltyard.role"] for c in running} == {"model", "model-gateway"}
        assert len(list(docker_provider.sockets.iterdir())) == 1
    assert docker_provider.api.containers(all=True, filters=mine) == []
    assert list(docker_provider.sockets.iterdir()) == []
    after = {v["Name"] for v in docker_provider.api.volumes()["Volumes"] or []}
    assert after <= volumes


@pytest.mark.parametrize(
    ("killed", "fault"),
    [
        (["model", "model-gateway"], EngineFailed),  # as when the engine goes down
        (["model-gateway"], EngineFailed),
        (["model"], Crashed),
    ],
)
def test_whose_fault_an_end_was_is_told_by_what_else_has_ended(
    docker_provider: DockerProvider,
    hostile_image: Callable[..., Package],
    killed: list[str],
    fault: type[Exception],
) -> None:
    package = hostile_image("model.py", "slow")
    with docker_provider.open(package, "model", labels=OWNER, limits=LIMITS) as sandbox:
        sandbox.start()
        names = [sandbox.name.replace("-model", f"-{role}") for role in killed]
        timer = threading.Timer(0.3, lambda: [docker_provider.api.kill(name) for name in names])
        timer.start()
        with pytest.raises(fault):
            sandbox.call("POST", "/v1/predict", b"x", timeout=30)
        timer.join()


def test_a_container_that_somebody_removed_is_not_its_authors_fault(
    docker_provider: DockerProvider, hostile_image: Callable[..., Package]
) -> None:
    package = hostile_image("model.py", "good")
    with docker_provider.open(package, "model", labels=OWNER, limits=LIMITS) as sandbox:
        sandbox.start()
        docker_provider.api.remove_container(sandbox.name, force=True, v=True)
        with pytest.raises(EngineFailed):
            sandbox.call("GET", "/v1/ready")


def test_a_name_that_is_taken_by_another_server_does_not_stop_a_match(
    docker_provider: DockerProvider, hostile_image: Callable[..., Package]
) -> None:
    package = hostile_image("model.py", "good")
    other = DockerProvider(f"{docker_provider.instance}-other")
    try:
        with (
            docker_provider.open(package, "model", labels=OWNER, limits=LIMITS) as first,
            other.open(package, "model", labels=OWNER, limits=LIMITS) as second,
        ):
            first.start()
            second.start()
            assert other.reap(lambda: [("options", 3)]) == []
            first.close()
            assert second.call("GET", "/v1/ready").status == 200
    finally:
        other.close()


def test_the_reaper_takes_what_a_dead_server_left_and_nothing_of_others(
    docker_provider: DockerProvider, hostile_image: Callable[..., Package], tmp_path: Path
) -> None:
    package = hostile_image("model.py", "good")
    dead = DockerProvider(f"{docker_provider.instance}-dead", sockets=tmp_path)
    labels = Labels("orphan", 1, time.time() + 600)
    sandbox = dead.open(package, "model", labels=labels, limits=LIMITS)
    sandbox.start()
    network = dead.api.create_network(
        f"{dead.instance}-net", labels=docker_options.labels(dead.instance, labels, "model")
    )
    volume = dead.api.create_volume(labels=docker_options.labels(dead.instance, labels, "model"))
    assert docker_provider.reap(list) == []
    # A new process of the same server: it knows nothing but what the engine and the folder say.
    again = DockerProvider(dead.instance, sockets=tmp_path)
    removed = again.reap(lambda: [("orphan", 2)])
    assert set(removed) == {
        "tiltyard-orphan-1-model",
        "tiltyard-orphan-1-model-gateway",
        f"{dead.instance}-net",
        volume["Name"],
    }
    assert network["Id"] not in {n["Id"] for n in again.api.networks()}
    assert list(tmp_path.iterdir()) == []
    sandbox.close()
    dead.close()
    again.close()
