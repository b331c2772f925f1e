"""server/logs.py: lines for people and for machines, each with what it belongs to."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from server import logs, worker


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged as JSON, from "info" on."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def crash() -> None:
    logging.getLogger("deep.down").warning("about to fail")
    raise RuntimeError("a secret of ours")


def crashing(app: FastAPI) -> None:
    """A route that logs, from the thread pool, and then fails."""
    app.add_api_route("/api/v1/crash", crash)


def test_every_line_of_a_request_carries_its_id(served: Any, lines: io.StringIO) -> None:
    with served(crashing) as (_, client):
        lines.truncate(0)
        lines.seek(0)
        answer = client.get("/api/v1/crash", headers={"X-Request-Id": "from-the-proxy-7"})
    assert answer.headers["x-request-id"] == "from-the-proxy-7"
    assert answer.json()["request_id"] == "from-the-proxy-7"
    told = [line for line in read(lines) if line["logger"] in ("deep.down", "server.app")]
    assert [line["event"] for line in told] == ["about to fail", "GET /api/v1/crash failed"]
    assert "RuntimeError: a secret of ours" in told[1]["exception"]
    (access,) = [line for line in read(lines) if line["logger"] == "server.middleware"]
    assert (access["route"], access["status"], access["method"]) == ("/api/v1/crash", 500, "GET")
    assert {line["request_id"] for line in [*told, access]} == {"from-the-proxy-7"}
    assert {line["level"] for line in told} == {"warning", "error"}
    assert all(line["timestamp"].endswith("Z") for line in told)


@pytest.mark.parametrize(
    "bad", ["short", "x" * 65, 'eight"quotes', "a b c d e f", "é" * 10, "-" * 9]
)
def test_an_id_that_is_none_is_replaced(served: Any, bad: str) -> None:
    with served() as (_, client):
        answer = client.get("/readyz", headers={"X-Request-Id": bad.encode()})
    assert answer.headers["x-request-id"] != bad


@given(st.text())
def test_an_id_that_is_taken_over_fits_a_header_and_a_line(text: str) -> None:
    taken = logs.request_id(text)
    assert taken.isascii()
    assert taken.isprintable()
    assert 8 <= len(taken) <= 64


def test_every_line_of_a_job_carries_its_id_and_fence(lines: io.StringIO) -> None:
    with logs.belongs_to(job_id="j1", fence=2):
        worker.logger.warning("inside")
    worker.logger.warning("outside")
    inside, outside = read(lines)
    assert (inside["job_id"], inside["fence"]) == ("j1", 2)
    assert "job_id" not in outside


def test_a_line_for_people_says_the_same(lines: io.StringIO) -> None:
    stream = io.StringIO()
    logs.configure("text", "warning", stream)
    with logs.belongs_to(request_id="12345678"):
        worker.logger.info("not shown")
        worker.logger.error("it broke")
    (line,) = stream.getvalue().splitlines()
    assert "it broke" in line
    assert "request_id=12345678" in line
    assert "[error" in line
