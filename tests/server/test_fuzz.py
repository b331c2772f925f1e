"""Every route with what Schemathesis makes of it: no crash, and no error of another form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance

from bench.tracks.types import Track
from server import errors
from server import settings as server_settings
from server.app import create_app
from server.db.engine import Database

EXAMPLES = 6
KNOWN = {errors.TYPE_PREFIX + kind.slug: kind.status for kind in errors.PROBLEMS}
ENDLESS = "/api/v1/boards/{track}/events"
"""A feed that ends when its reader goes: test_api.py reads it."""


@pytest.fixture
def app(tmp_path: Path, database: Database, tracks: dict[str, Track]) -> FastAPI:
    made = create_app(
        server_settings.load(
            data_dir=tmp_path / "data",
            database_url=database.url.render_as_string(hide_password=False),
            workers=0,
            sandbox="process",
            baselines="none",
            sign_up="open",
        )
    )
    made.state.tiltyard.attempts.count = lambda *keys: None
    return made


@pytest.fixture
def ids(anywhere: Any) -> dict[str, list[str]]:
    """What there is, for the placeholders of routes."""
    foe, model = anywhere.entry("untargeted-attack", "baseline"), anywhere.entry("model", "ada")
    waiting = anywhere.entry("model", "ada", "validating")
    anywhere.settle()
    return {
        "track": [track.name for track in anywhere.tracks.values()],
        "challenge": ["mnist5k", "fashion-mnist"],
        "match_id": [anywhere.play(model, foe, [1.0, 0, None, 2.0])],
        "submission_id": [foe, model, waiting],
        "account_id": [anywhere.account("ada")],
        "name": ["ada", "baseline"],
    }


def test_whatever_is_asked_the_answer_is_one_that_was_promised(
    app: FastAPI, anywhere: Any, ids: dict[str, list[str]], serve: Callable[[FastAPI], str]
) -> None:
    actors = [
        {},
        {"Authorization": f"Bearer {anywhere.token('ada')}"},
        {"Authorization": f"Bearer {anywhere.token('root', 'operate', 'operator')}"},
    ]
    address = serve(app)
    schema = schemathesis.openapi.from_dict(app.openapi())
    asked = set()
    with requests.Session() as session:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok), found
            operation = found.ok()
            if operation.path == ENDLESS:
                continue
            asked.add((operation.method, operation.path))

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(
                case=operation.as_strategy(),
                actor=st.sampled_from(actors),
                pick=st.one_of(st.none(), st.integers(0, 9)),
            )
            def ask(case: Any, actor: dict[str, str], pick: int | None) -> None:
                if pick is not None:
                    for name in case.path_parameters:
                        there = ids.get(name)
                        if there:
                            case.path_parameters[name] = there[pick % len(there)]
                answer = case.call(base_url=address, session=session, headers=actor, timeout=30)
                case.validate_response(
                    answer, checks=(not_a_server_error, response_schema_conformance)
                )
                if answer.status_code >= 400 and case.method != "HEAD":
                    assert answer.headers["content-type"] == ["application/problem+json"]
                    problem = answer.json()
                    assert problem["status"] == answer.status_code
                    assert KNOWN.get(problem["type"], answer.status_code) == answer.status_code
                    assert problem["detail"]
                    assert problem["request_id"]

            ask()
    assert len(asked) == sum(len(methods) for methods in app.openapi()["paths"].values()) - 1
