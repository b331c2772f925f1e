"""The server's commands as an operator and a participant meet them."""

from __future__ import annotations

from typing import Any

import pytest

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("submit", "folder"), 2, "set TILTYARD_TOKEN"),
        (("submit", "folder", "--token", "x", "--server", NOWHERE), 2, "no answer from"),
        (("board", "nope", "--server", NOWHERE), 2, "start one with `tiltyard serve`"),
        (("test", "nowhere"), 2, "is no folder"),
        (("admin", "open-challenge", "nope", "--data-dir", "server"), 2, "no challenge 'nope'"),
        (("admin", "rescore", "nope", "--data-dir", "server"), 2, "there is no track 'nope'"),
        (("admin", "publish-round", "nope", "--data-dir", "server"), 2, "no round 'nope'"),
        (("admin", "rounds", "mnist5k", "--data-dir", "server"), 2, "is not played here"),
        (("serve", "--data-dir", "/proc/nowhere"), 2, "can't use /proc/nowhere"),
        (("serve", "--database", "postgresql://127.0.0.1:1/x"), 3, "does not answer"),
        (("serve", "--port", "99999"), 2, "setting port"),
        (("admin", "create-token", "nobody"), 2, "create it with"),
        (("admin", "create-user", "bad/name"), 2, "starting with a letter or a digit"),
    ],
)
def test_what_goes_wrong_is_one_line_with_the_mend(
    tiltyard: Any, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = tiltyard(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_docker_the_server_says_so_before_it_listens(tiltyard: Any) -> None:
    done = tiltyard("serve", env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert done.returncode == 3
    assert "could not reach the Docker engine at unix:///nowhere/docker.sock" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_account_gets_a_token_that_is_printed_once(tiltyard: Any) -> None:
    made = tiltyard("admin", "create-user", "ada", "--data-dir", "server")
    assert made.returncode == 0, made.stderr
    token = tiltyard("admin", "create-token", "ada", "--data-dir", "server")
    assert token.stdout.startswith("tilt_")
    assert len(token.stdout.splitlines()) == 1
    again = tiltyard("admin", "create-user", "ada", "--data-dir", "server")
    assert again.returncode == 2
    assert "exists already" in again.stderr
