"""One suite for every provider. What `process` cannot do is the list CANNOT, and nothing else."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.sandbox import wire
from server.sandbox.docker_options import TMP_FILES
from server.sandbox.errors import (
    BadAnswer,
    Crashed,
    ExitedWhileStarting,
    OutOfMemory,
    PackageRefused,
    StartTimeout,
    Stopped,
    SubmissionFailed,
    TooSlow,
)
from server.sandbox.types import Labels, Limits, Package, Provider, Sandbox

PROVIDERS = ("docker", "process")

CANNOT: dict[str, dict[str, str]] = {
    "docker": {},
    "process": {
        "keep it from the network": "it is a process like any other",
        "keep it from this machine's files": "it runs as this user",
        "tell out of memory from an error": "an allocation fails instead of the program",
        "hold back a fork bomb": "the limit would count all processes of this user",
        "limit /tmp": "its folder is on this machine's disk",
        "end what has left its session": "nothing but its session holds it together",
    },
}

on_every_provider = pytest.mark.parametrize("provider_name", PROVIDERS)


def where_one_can(ability: str) -> pytest.MarkDecorator:
    able = [name for name in PROVIDERS if ability not in CANNOT[name]]
    assert len(able) < len(PROVIDERS), f"{ability} is not in CANNOT"
    return pytest.mark.parametrize("provider_name", able)


LIMITS = Limits(
    start_seconds=60, call_seconds=30, run_seconds=60, memory_mib=256, pids=48, tmp_mib=16
)
PIXELS = np.full((3, 4, 4, 1), [[[[10]]], [[[100]]], [[[200]]]], np.uint8)


@dataclass(frozen=True)
class Arena:
    provider: Provider
    entry: Callable[..., Package]

    def model(self, mode: str, **limits: Any) -> Sandbox:
        return self.open("model", "model.py", mode, **limits)

    def attack(self, mode: str, referee: Any, **limits: Any) -> Sandbox:
        return self.open("attack", "attack.py", mode, referee=referee, **limits)

    def open(self, role: Any, *argv: str, referee: Any = None, **limits: Any) -> Sandbox:
        return self.provider.open(
            self.entry(*argv),
            role,
            labels=labels(),
            limits=replace(LIMITS, **limits),
            referee=referee,
        )


def labels(job: str = "conformance", seconds: float = 600) -> Labels:
    return Labels(job, 1, time.time() + seconds)


@pytest.fixture
def arena(sandboxes: tuple[Provider, Callable[..., Package]]) -> Arena:
    return Arena(*sandboxes)


@contextmanager
def started(sandbox: Sandbox) -> Iterator[Sandbox]:
    with sandbox:
        sandbox.start()
        yield sandbox


def predict(sandbox: Sandbox, pixels: np.ndarray[Any, Any] = PIXELS) -> list[int]:
    reply = sandbox.call("POST", "/v1/predict", wire.dumps(pixels))
    assert reply.status == 200
    return [int(label) for label in wire.loads(reply.body)]


async def empty_referee(scope: Any, receive: Any, send: Any) -> None:
    """Answers 404 to everything: for attacks that are about something else."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@on_every_provider
def test_a_model_answers_as_soon_as_start_returns(arena: Arena) -> None:
    with started(arena.model("good")) as sandbox:
        assert predict(sandbox) == [0, 3, 7]
        assert predict(sandbox, PIXELS[:1]) == [0]


@on_every_provider
def test_a_model_that_closes_every_connection_answers_all_the_same(arena: Arena) -> None:
    with started(arena.model("http_1_0")) as sandbox:
        assert [predict(sandbox) for _ in range(3)] == [[0, 3, 7]] * 3


@on_every_provider
def test_an_attack_reaches_its_referee_and_its_exit_is_seen(arena: Arena) -> None:
    asked: list[str] = []

    async def referee(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await empty_referee(scope, receive, send)

    with started(arena.attack("good", referee)) as sandbox:
        ended = sandbox.wait(30)
        assert ended is not None
        assert ended.code == 1  # it finds no samples in "{}"
        assert "/v1/task" in asked
        assert "Traceback" in sandbox.logs()


@on_every_provider
def test_waiting_gives_none_while_the_program_runs(arena: Arena) -> None:
    with started(arena.open("attack", "model.py", "hang", referee=empty_referee)) as sandbox:
        assert sandbox.wait(0.3) is None


@on_every_provider
def test_a_program_that_exits_while_starting_is_told_with_its_code_and_last_lines(
    arena: Arena,
) -> None:
    with pytest.raises(ExitedWhileStarting) as failure:
        arena.model("exit_3").start()
    assert failure.value.code == 3
    assert failure.value.role == "model"
    assert "exit code 3" in str(failure.value)
    assert "cannot find weights.npz" in failure.value.logs


@on_every_provider
def test_a_crash_in_native_code_is_named(arena: Arena) -> None:
    with pytest.raises(ExitedWhileStarting, match="SIGSEGV"):
        arena.model("segfault").start()


@on_every_provider
def test_a_command_that_does_not_exist_is_the_submissions_fault(arena: Arena) -> None:
    with pytest.raises(ExitedWhileStarting) as failure:
        arena.open("model", "no_such_file.py").start()
    assert "no_such_file.py" in failure.value.logs


@on_every_provider
def test_a_model_that_never_listens_is_given_up_in_time(arena: Arena) -> None:
    with pytest.raises(StartTimeout, match="nothing listened") as failure:
        arena.model("hang", start_seconds=3).start()
    assert failure.value.logs == "loading"


@on_every_provider
def test_a_model_that_says_it_is_not_ready_is_quoted(arena: Arena) -> None:
    with pytest.raises(StartTimeout, match='"ready": false'):
        arena.model("never_ready", start_seconds=3).start()


@on_every_provider
def test_a_crash_in_the_middle_of_the_match_has_its_exit_code(arena: Arena) -> None:
    with started(arena.model("crash")) as sandbox, pytest.raises(Crashed) as failure:
        predict(sandbox)
    assert failure.value.code == 5
    assert "assertion failed in layer 3" in failure.value.logs


@on_every_provider
@pytest.mark.parametrize("mode", ["slow", "drip"])
def test_an_answer_that_does_not_end_is_cut_off(arena: Arena, mode: str) -> None:
    with (
        started(arena.model(mode, call_seconds=0.7)) as sandbox,
        pytest.raises(TooSlow, match=r"0\.7 s"),
    ):
        predict(sandbox)


@on_every_provider
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("nonsense", "I am not a web server"),
        ("huge", "4194304 bytes"),
        ("cuts_off", "closed the connection"),
    ],
)
def test_an_answer_that_is_not_one_is_described(arena: Arena, mode: str, words: str) -> None:
    with started(arena.model(mode)) as sandbox, pytest.raises(BadAnswer, match=words):
        predict(sandbox)


@on_every_provider
def test_a_flood_of_output_is_capped_and_made_printable(arena: Arena) -> None:
    with started(arena.model("flood")) as sandbox:
        assert predict(sandbox) == [0, 3, 7]
        logs = sandbox.logs()
    assert 1000 < len(logs) <= 65536
    assert "\x1b" not in logs
    assert sandbox.logs() != ""  # what was kept when it was closed


@on_every_provider
def test_closing_from_another_thread_ends_a_call(arena: Arena) -> None:
    with started(arena.model("slow")) as sandbox:
        timer = threading.Timer(0.3, sandbox.close)
        timer.start()
        with pytest.raises(Stopped):
            predict(sandbox)
        timer.join()


@on_every_provider
def test_closing_from_another_thread_ends_a_wait_and_a_start(arena: Arena) -> None:
    starting = arena.model("hang")
    timer = threading.Timer(0.5, starting.close)
    timer.start()
    with pytest.raises(Stopped):
        starting.start()
    timer.join()
    with started(arena.open("attack", "model.py", "hang", referee=empty_referee)) as sandbox:
        timer = threading.Timer(0.3, sandbox.close)
        timer.start()
        with pytest.raises(Stopped):
            sandbox.wait(60)
        timer.join()


@on_every_provider
def test_a_program_that_ignores_signals_is_killed_and_closing_twice_is_fine(arena: Arena) -> None:
    sandbox = arena.open("attack", "attack.py", "ignores_signals", referee=task_of_nothing)
    with started(sandbox):
        while "thinking" not in sandbox.logs():
            assert sandbox.wait(0.05) is None
    sandbox.close()
    assert arena.provider.reap(list) == []
    with pytest.raises(Stopped):
        sandbox.wait(0)


async def task_of_nothing(scope: Any, receive: Any, send: Any) -> None:
    bodies = {"/v1/task": b'{"samples": []}', "/v1/images.npy": wire.dumps(PIXELS)}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bodies.get(scope["path"], b"{}")})


@on_every_provider
def test_the_servers_environment_does_not_get_in(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTYARD_SECRET", "hunter2")
    with started(arena.open("attack", "env.py", referee=empty_referee)) as sandbox:
        assert sandbox.wait(30) is not None
        lines = sandbox.logs().split()
    assert "TILTYARD_SECRET" not in lines
    assert {"MODEL_SERVER", "MODEL_PORT", "OMP_NUM_THREADS"} <= set(lines)


@on_every_provider
def test_a_variable_that_is_not_on_the_list_is_refused(arena: Arena) -> None:
    with pytest.raises(ValueError, match="LD_PRELOAD"):
        arena.provider.open(
            arena.entry("model.py", "good"),
            "model",
            labels=labels(),
            limits=LIMITS,
            environment={"LD_PRELOAD": "/tmp/x.so"},
        )


@on_every_provider
def test_the_reaper_takes_what_is_not_current_or_late_and_leaves_the_rest(arena: Arena) -> None:
    def opened(job: str, seconds: float = 600) -> Sandbox:
        return arena.provider.open(
            arena.entry("model.py", "good"),
            "model",
            labels=labels(job, seconds),
            limits=LIMITS,
        )

    with started(opened("kept")) as kept, started(opened("late", -1)), started(opened("lost")):
        current = [("kept", 1), ("late", 1), ("lost", 2)]
        named = arena.provider.leftovers(lambda: current)
        removed = arena.provider.reap(lambda: current)
        assert sorted(named) == sorted(removed)
        assert {name.removesuffix("-gateway") for name in removed} == {
            "tiltyard-late-1-model",
            "tiltyard-lost-1-model",
        }
        assert predict(kept) == [0, 3, 7]


@on_every_provider
def test_a_package_of_the_other_kind_is_refused_with_the_mend(arena: Arena, tmp_path: Path) -> None:
    other = replace(arena.entry("model.py", "good"))
    swapped = replace(other, form="source" if other.form == "image" else "image")
    with pytest.raises(PackageRefused, match="tiltyard submit"):
        arena.provider.open(swapped, "model", labels=labels(), limits=LIMITS)


@on_every_provider
def test_ulimits_are_set_inside(arena: Arena) -> None:
    with started(
        arena.open("attack", "env.py", referee=empty_referee, open_files=77, file_mib=3)
    ) as sandbox:
        assert sandbox.wait(30) is not None
        assert f"CORE=0 FSIZE={3 << 20} NOFILE=77" in sandbox.logs()


@on_every_provider
def test_facts_say_what_is_missing(arena: Arena) -> None:
    facts = arena.provider.facts()
    assert facts["provider"] == arena.provider.name
    assert facts["isolated"] is arena.provider.isolated
    assert arena.provider.isolated is not bool(CANNOT[arena.provider.name])
    assert all(isinstance(text, str) for text in facts["missing"])


@where_one_can("tell out of memory from an error")
@pytest.mark.parametrize("mode", ["memory_at_start", "memory_later"])
def test_a_memory_bomb_is_told_as_out_of_memory(arena: Arena, mode: str) -> None:
    sandbox = arena.model(mode, memory_mib=96)
    with pytest.raises(OutOfMemory, match="96 MiB"), started(sandbox):
        predict(sandbox)


@where_one_can("tell out of memory from an error")
def test_an_attack_that_ran_out_of_memory_has_it_in_its_exit(arena: Arena) -> None:
    sandbox = arena.open(
        "attack", "model.py", "memory_at_start", referee=empty_referee, memory_mib=96
    )
    with started(sandbox):
        ended = sandbox.wait(60)
    assert ended is not None
    assert ended.oom_killed


@where_one_can("end what has left its session")
def test_what_has_left_its_session_ends_with_the_sandbox(arena: Arena) -> None:
    with started(arena.open("attack", "daemon.py", referee=empty_referee)) as sandbox:
        assert sandbox.wait(30) is not None
        mark = sandbox.logs().split()[-1]
    assert mark.startswith("tiltyard-daemon-")
    found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False)
    assert found.stdout == ""


def host_addresses() -> list[str]:
    """Every IPv4 address of this machine but loopback."""
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    local = {lines[i - 1].split()[-1] for i, line in enumerate(lines) if "/32 host LOCAL" in line}
    return sorted(address for address in local if not address.startswith("127."))


@pytest.fixture(params=["model", "attack"])
def seen(request: pytest.FixtureRequest, arena: Arena) -> dict[str, Any]:
    """What a submission of each role sees and can do."""
    import json

    targets = [f"{address}:22" for address in host_addresses()]
    targets += ["172.17.0.1:80", "169.254.169.254:80", "1.1.1.1:53", "127.0.0.1:22"]
    referee = empty_referee if request.param == "attack" else None
    argv = ("probe.py", request.param, *targets)
    with started(arena.open(request.param, *argv, referee=referee)) as sandbox:
        if request.param == "attack":
            assert sandbox.wait(60) is not None
        line = next(x for x in sandbox.logs().splitlines() if x.startswith("REPORT "))
    report: dict[str, Any] = json.loads(line.removeprefix("REPORT "))
    return report


@where_one_can("keep it from the network")
def test_nothing_but_loopback_is_reachable(seen: dict[str, Any]) -> None:
    assert seen["interfaces"] == ["lo"]
    assert seen["tcp"].pop("127.0.0.1:22") == "Connection refused"
    assert len(seen["tcp"]) > 3
    assert set(seen["tcp"].values()) == {"Network is unreachable"}
    seen["udp"].pop("127.0.0.1")
    assert set(seen["udp"].values()) == {"Network is unreachable"}
    assert seen["names"] != "ok"
    assert "127.0.0.1" in seen["resolver"]
    assert seen["raw"] == seen["packet"] == "Operation not permitted"
    assert not seen["sockets"]
    assert not seen["docker_socket"]


@where_one_can("keep it from this machine's files")
def test_it_is_nobody_without_powers_in_a_box_that_is_read_only(seen: dict[str, Any]) -> None:
    assert {seen["uid"], seen["gid"], *seen["groups"]} == {65534}
    assert set(seen["capabilities"]) == {"0000000000000000"}
    assert seen["no_new_privileges"] == "1"
    assert seen["seccomp"] == "2"
    assert seen["mount"] == "Operation not permitted"
    for path in ("/", "/etc", "/usr", "/var/tmp", "/submission"):
        assert seen["write"][path] == "Read-only file system"
    assert seen["write"]["/tmp"] == seen["write"]["/data"] == "ok"
    assert seen["exec_tmp"] == "Permission denied"
    assert seen["setuid_as"] == 65534


@where_one_can("keep it from this machine's files")
def test_it_sees_and_signals_no_process_but_its_own(seen: dict[str, Any]) -> None:
    assert "1" in seen["processes"]
    assert seen["trace"] == {}
    assert seen["signal"] == "No such process"


@where_one_can("keep it from this machine's files")
def test_the_kernel_is_not_its_to_change(seen: dict[str, Any]) -> None:
    assert seen["unshare"] == seen["device"] == "Operation not permitted"
    refused = {"Read-only file system", "Permission denied", "No such file or directory"}
    kernel = seen["kernel"]
    assert len(kernel) == 5
    assert set(kernel.values()) <= refused
    assert seen["memory_of_the_kernel"] != "ok"


@where_one_can("limit /tmp")
def test_tmp_is_small(seen: dict[str, Any]) -> None:
    assert seen["fill_tmp"] == "No space left on device"
    files, why = seen["files_tmp"]
    assert 100 < files <= TMP_FILES
    assert why == "No space left on device"


@where_one_can("hold back a fork bomb")
def test_a_fork_bomb_stays_within_its_limit(seen: dict[str, Any]) -> None:
    assert 10 < seen["forks"] <= 48


def test_what_process_cannot_do_is_said_in_its_facts(process_provider: Provider) -> None:
    said = " ".join(process_provider.facts()["missing"])
    for word in ("files", "network", "memory", "process limit", "/tmp", "isolation"):
        assert word in said


def test_errors_survive_the_way_to_another_process() -> None:
    import pickle

    error = Crashed("it ended", "look", "model", 5, "last line")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, SubmissionFailed)
    assert (again.role, again.code, again.logs, str(again)) == ("model", 5, "last line", str(error))
