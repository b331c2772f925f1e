"""Every route by every kind of actor: who gets in, and that nobody else does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from httpx import Client
from sqlalchemy import select

from server import accounts, invitations
from server.api import uploads
from server.db.ids import new_id
from server.db.tables import Account, Membership, Round, Submission, Token
from server.signing import Attempts

MODELS = "mnist5k-robust-model"
REFUSED = frozenset({401, 403, 404})

EVERYBODY = frozenset(
    {"nobody", "captain", "reader", "member", "other", "organiser", "elsewhere", "operator"}
)
SIGNED_IN = EVERYBODY - {"nobody"}
SUBMITTERS = SIGNED_IN - {"reader"}
TEAM = frozenset({"captain", "member", "operator"})
CAPTAIN = frozenset({"captain", "operator"})
ORGANISERS = frozenset({"organiser", "operator"})
OPERATORS = frozenset({"operator"})

WHO: dict[str, frozenset[str]] = {
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": OPERATORS,
    "GET /tracks": EVERYBODY,
    "GET /tracks/{track}/rules": EVERYBODY,
    "GET /boards/{track}": EVERYBODY,
    "GET /boards/{track}/events": EVERYBODY,
    "GET /boards/{track}/history": EVERYBODY,
    "GET /boards/{track}/scorings": EVERYBODY,
    "POST /boards/{track}:rescore": ORGANISERS,
    "GET /challenges": EVERYBODY,
    "GET /challenges/{challenge}": EVERYBODY,
    "GET /challenges/{challenge}/tracks/{track}/rules": EVERYBODY,
    "GET /challenges/{challenge}/rounds": EVERYBODY,
    "POST /challenges/{challenge}:open": ORGANISERS,
    "POST /challenges/{challenge}:close": ORGANISERS,
    "POST /challenges/{challenge}/rounds": ORGANISERS,
    "PUT /challenges/{challenge}/organisers/{name}": OPERATORS,
    "DELETE /challenges/{challenge}/organisers/{name}": OPERATORS,
    "GET /rounds/{round_id}": EVERYBODY,
    "GET /rounds/{round_id}/boards/{track}": ORGANISERS,
    "POST /rounds/{round_id}:publish": ORGANISERS,
    "POST /rounds/{round_id}:drop": ORGANISERS,
    "GET /matches": EVERYBODY,
    "GET /matches/{match_id}": EVERYBODY,
    "GET /matches/{match_id}/samples": EVERYBODY,
    "GET /entries/{submission_id}": TEAM | {"reader"},
    "GET /artifacts/{sha256}": TEAM | {"reader"},
    "GET /queue": EVERYBODY,
    "POST /uploads": SUBMITTERS,
    "GET /uploads/{upload_id}": CAPTAIN,
    "HEAD /uploads/{upload_id}": CAPTAIN,
    "PATCH /uploads/{upload_id}": frozenset({"captain"}),
    "DELETE /uploads/{upload_id}": frozenset({"captain"}),
    "POST /submissions": frozenset({"captain"}),
    "GET /submissions": SIGNED_IN,
    "GET /submissions/{submission_id}": TEAM | {"reader"},
    "GET /submissions/{submission_id}/logs": TEAM | {"reader"},
    "POST /submissions/{submission_id}:cancel": TEAM,
    "POST /submissions/{submission_id}:rerun": TEAM,
    "POST /submissions/{submission_id}:withdraw": CAPTAIN,
    "POST /auth/sign-up": EVERYBODY,
    "GET /auth/me": SIGNED_IN,
    "POST /auth/tokens": SIGNED_IN,
    "GET /auth/tokens": SIGNED_IN,
    "DELETE /auth/tokens/{token_id}": CAPTAIN,
    "PUT /auth/password": SUBMITTERS,
    "POST /teams": SUBMITTERS,
    "POST /teams:join": SUBMITTERS,
    "GET /teams/{team_id}": EVERYBODY,
    "POST /teams/{team_id}/invitations": CAPTAIN,
    "DELETE /teams/{team_id}/members/{account_id}": CAPTAIN,
    "POST /teams/{team_id}/members/{account_id}:captain": CAPTAIN,
    "POST /invitations": OPERATORS,
    "GET /accounts": OPERATORS,
    "POST /accounts/{name}:disable": OPERATORS,
    "POST /accounts/{name}:enable": OPERATORS,
    "GET /audit": OPERATORS,
}
"""Who gets in: to things of a team (ada is its captain, mia and nia are members), in a challenge
that orla organises, and to ada's own uploads and tokens. Its submission is not public yet."""

BARE = ("/healthz", "/readyz", "/metrics")
"""Without the API's prefix."""

BODIES: dict[str, dict[str, Any]] = {
    "POST /boards/{track}:rescore": {"rule": {"queries": 3}},
    "POST /challenges/{challenge}/rounds": {"name": "final", "images": 3},
    "POST /auth/tokens": {"scope": "read"},
    "PUT /auth/password": {"old": "a wrong password", "new": "some other words of mine"},
    "POST /teams:join": {"invitation": "none"},
}


class Scene(NamedTuple):
    """A server, who asks it, and what stands for the placeholders of its routes."""

    app: FastAPI
    client: Client
    actors: dict[str, dict[str, str]]
    ids: dict[str, str]


@pytest.fixture
def scene(world: Any, served: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(uploads, "OPEN_UPLOADS", 1000)
    monkeypatch.setattr(Attempts, "count", lambda *_: None)
    foe, shown = world.entry("untargeted-attack", "baseline"), world.entry("model", "bob")
    world.settle()
    match = world.play(shown, foe, [1.0] * 4)
    ada, mia, nia = (world.account(name) for name in ("ada", "mia", "nia"))
    sha256 = hashlib.sha256(b"the submission").hexdigest()
    world.account("vic")
    tokens = {
        "captain": world.token("ada"),
        "reader": world.token("ada", "read"),
        "member": world.token("mia"),
        "other": world.token("bob"),
        "operator": world.token("root", "operate", "operator"),
    }
    with world.database.write() as session:
        for name, challenge in (("orla", "mnist5k"), ("otto", "fashion-mnist")):
            accounts.create_user(session, name)
            accounts.set_organiser(session, name, challenge, "root")
        tokens["organiser"] = accounts.create_token(session, "orla", "operate")
        tokens["elsewhere"] = accounts.create_token(session, "otto", "operate")
        team = accounts.create_user(session, "Lances", "participant")
        team.role = "team"
        session.add_all(
            [
                Membership(account_id=ada, team_id=team.id, captain=True),
                Membership(account_id=mia, team_id=team.id, captain=False),
                Membership(account_id=nia, team_id=team.id, captain=False),
            ]
        )
        row = Submission(
            account_id=team.id,
            name="secret",
            track=MODELS,
            kind="model",
            source="package",
            sha256=sha256,
            state="validating",
        )
        of_match = Round(
            id=new_id(),
            challenge="mnist5k",
            name="first",
            state="playing",
            images=1,
            images_sha256="0" * 64,
            seed=1,
            scoring={t.name: {"number": 1, **t.scoring.to_json()} for t in world.tracks.values()},
            digest="",
            actor="root",
        )
        session.add_all([row, of_match])
        session.flush()
        ids = {
            "track": MODELS,
            "challenge": "mnist5k",
            "round_id": of_match.id,
            "match_id": match,
            "submission_id": row.id,
            "sha256": sha256,
            "team_id": team.id,
            "account_id": nia,
            "name": "vic",
        }
    actors = {who: {"Authorization": f"Bearer {text}"} for who, text in tokens.items()}
    with served(sign_up="open") as (app, client):
        app.state.tiltyard.store.put(b"the submission")
        yield Scene(app, client, {"nobody": {}, **actors}, ids)


def operations(app: FastAPI) -> list[str]:
    """ "METHOD /path" of every route, without the API's prefix."""
    return [
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    ]


def test_every_route_says_who_may(scene: Scene) -> None:
    assert sorted(operations(scene.app)) == sorted(WHO)


def fresh(scene: Scene, operation: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Ids and a body for one request: what it may use up is made anew."""
    ids, body = dict(scene.ids), dict(BODIES.get(operation, {}))
    captain = scene.actors["captain"]
    if "{upload_id}" in operation or operation == "POST /submissions":
        made = scene.client.post("/api/v1/uploads", headers=captain | {"Upload-Length": "3"})
        ids["upload_id"] = made.json()["id"]
        if operation == "POST /submissions":
            kind = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
            place = f"/api/v1/uploads/{ids['upload_id']}"
            data = b"\x1f\x8bx"
            assert scene.client.patch(place, headers=captain | kind, content=data).is_success
            body = {"track": MODELS, "name": "mine", "upload": ids["upload_id"]}
    if "{token_id}" in operation:
        made = scene.client.post("/api/v1/auth/tokens", headers=captain, json={"scope": "read"})
        ids["token_id"] = made.json()["id"]
    if operation == "POST /auth/sign-up":
        body = {"name": new_id(), "password": "four words that I made"}
    if operation == "POST /teams":
        body = {"name": new_id()}
    return ids, body


def ask(scene: Scene, operation: str, who: str) -> int:
    method, path = operation.split(" ", 1)
    ids, body = fresh(scene, operation)
    if path not in BARE:
        path = "/api/v1" + path
    headers = dict(scene.actors[who])
    if method == "PATCH":
        headers |= {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    if operation == "POST /uploads":
        headers["Upload-Length"] = "3"
    content = b"abc" if method == "PATCH" else json.dumps(body).encode() if body else None
    if body:
        headers["Content-Type"] = "application/json"
    request = scene.client.build_request(
        method, path.format(**ids), headers=headers, content=content
    )
    answer = scene.client.send(request, stream=True)
    answer.close()
    return answer.status_code


def test_each_actor_gets_in_where_the_table_says_and_nowhere_else(scene: Scene) -> None:
    wrong = []
    for operation in WHO:
        denied = sorted(EVERYBODY - WHO[operation])
        for who in [*denied, *sorted(WHO[operation])]:  # what changes something comes last
            if "/members/" in operation:
                restore(scene)
            status = ask(scene, operation, who)
            let_in = status not in REFUSED or is_password(operation, who, status)
            if let_in != (who in WHO[operation]) or status >= 500:
                wrong.append((operation, who, status))
    assert wrong == []


def is_password(operation: str, who: str, status: int) -> bool:
    """The route let it in and found the old password wrong."""
    return operation == "PUT /auth/password" and who in SUBMITTERS and status == 401


def restore(scene: Scene) -> None:
    """Ada is the captain again, and nia a member."""
    team, nia = scene.ids["team_id"], scene.ids["account_id"]
    with scene.app.state.tiltyard.database.write() as session:
        if session.get(Membership, nia) is None:
            session.add(Membership(account_id=nia, team_id=team, captain=False))
        for row in session.query(Membership).filter_by(team_id=team):
            row.captain = (
                row.account_id == session.scalars(select(Account.id).filter_by(name="ada")).one()
            )


def test_no_answer_to_a_stranger_holds_a_secret(scene: Scene, world: Any) -> None:
    with world.database.write() as session:
        _, code = invitations.create(session, "root")
        digests = [row.digest for row in session.query(Token)]
    for operation in WHO:
        method, path = operation.split(" ", 1)
        if method == "GET" and not path.endswith("/events"):
            ids = scene.ids | {"upload_id": "none", "token_id": "none"}
            place = path if path in BARE else "/api/v1" + path
            for who in ("nobody", "other", "operator"):
                text = httpx.get(
                    f"{scene.client.base_url}".rstrip("/") + place.format(**ids),
                    headers=scene.actors[who],
                ).text
                assert code not in text
                assert not any(digest in text for digest in digests), (operation, who)
                if who != "operator":
                    assert "secret" not in text or "secret reason" in text, (operation, who)
