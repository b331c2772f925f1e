"""Accounts as people use them, over HTTP: sign-up, tokens, passwords, teams, the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from httpx import Client, Response
from sqlalchemy import select, update

from bench.tracks.types import Track
from server import accounts, passwords
from server.db.engine import Database
from server.db.tables import Account, Event, Invitation, QuotaDay, Submission, Token
from server.signing import Attempts

COUNT = Attempts.count
PASSWORD = "four words that I made"
OTHER = "another four words here"


@pytest.fixture(params=["invitation"])
def client(
    request: pytest.FixtureRequest, served: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    """A client of a server whose `sign_up` is the parameter, without a limit of attempts."""
    monkeypatch.setattr(Attempts, "count", lambda *_: None)
    with served(sign_up=request.param) as (_, made):
        made.base_url = made.base_url.join("/api/v1/")
        yield made


open_to_all = pytest.mark.parametrize("client", ["open"], indirect=True)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def sign_up(client: Client, name: str, password: str = PASSWORD, **more: str) -> Response:
    return client.post("/auth/sign-up", json={"name": name, "password": password, **more})


def token(client: Client, name: str, password: str = PASSWORD, **more: Any) -> Response:
    return client.post("/auth/tokens", json={"name": name, "password": password, **more})


def person(client: Client, name: str) -> dict[str, str]:
    """A new account; the header of a token of its."""
    assert sign_up(client, name).status_code == 201
    return bearer(token(client, name).json()["text"])


def operator(world: Any) -> dict[str, str]:
    return bearer(world.token("root", "operate", "operator"))


def test_an_invitation_is_good_once(client: Client, world: Any) -> None:
    assert sign_up(client, "ada").status_code == 403
    made = client.post("/invitations", headers=operator(world))
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    code = made.json()["code"]
    assert "unknown, used or expired" in sign_up(client, "ada", invitation=code[:-1]).text
    answer = sign_up(client, "ada", invitation=code)
    assert answer.status_code == 201
    assert (answer.json()["name"], answer.json()["role"]) == ("ada", "participant")
    again = sign_up(client, "bob", invitation=code)
    assert (again.status_code, "used or expired" in again.text) == (422, True)
    assert token(client, "bob").status_code == 401, "nothing is left of a sign-up that failed"


def test_an_invitation_ends(client: Client, world: Any, sqlite: Database) -> None:
    code = client.post("/invitations", headers=operator(world)).json()["code"]
    with sqlite.write() as session:
        assert code not in repr(vars(session.scalars(select(Invitation)).one()))
        session.execute(update(Invitation).values(expires_at=1.0))
    assert sign_up(client, "ada", invitation=code).status_code == 422
    for days in ("0", "nan", "inf", "400"):
        answer = client.post(f"/invitations?days={days}", headers=operator(world))
        assert answer.status_code == 422, days


@pytest.mark.parametrize("client", ["closed"], indirect=True)
def test_a_closed_server_takes_no_sign_up(client: Client, world: Any) -> None:
    code = client.post("/invitations", headers=operator(world)).json()["code"]
    answer = sign_up(client, "ada", invitation=code)
    assert (answer.status_code, "made by its operator" in answer.text) == (403, True)


@open_to_all
def test_names_and_passwords_are_checked_before_anything_is_made(client: Client) -> None:
    for name, password, wanted in [
        ("ada", "short", "wanted 12 to 200"),
        ("ada", "x" * 201, "wanted 12 to 200"),
        ("<ada>", PASSWORD, "want 1 to 40 letters"),
        ("baseline", PASSWORD, "exists already"),
        ("command line", PASSWORD, "exists already"),
    ]:
        answer = sign_up(client, name, password)
        assert (answer.status_code, wanted in answer.json()["detail"]) == (422, True), name
    assert sign_up(client, "ada").status_code == 201
    assert sign_up(client, "ada", OTHER).status_code == 422


@open_to_all
def test_a_password_gives_tokens_that_are_listed_and_revoked(
    client: Client, sqlite: Database
) -> None:
    ada, bob = person(client, "ada"), person(client, "bob")
    made = token(client, "ada", scope="read", days=1, label="laptop")
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    text, number = made.json()["text"], made.json()["id"]
    assert client.get("/auth/me", headers=bearer(text)).json()["scope"] == "read"
    listed = client.get("/auth/tokens", headers=ada).json()
    assert [(each["scope"], each["label"]) for each in listed] == [
        ("submit", ""),
        ("read", "laptop"),
    ]
    assert "text" not in listed[0]
    assert client.delete(f"/auth/tokens/{number}", headers=bob).status_code == 404
    assert client.delete(f"/auth/tokens/{number}", headers=bearer(text)).status_code == 403
    for _ in range(2):
        assert client.delete(f"/auth/tokens/{number}", headers=ada).status_code == 204
    assert client.get("/auth/me", headers=bearer(text)).status_code == 401
    with sqlite.read() as session:
        account = session.scalars(select(Account).filter_by(name="ada")).one()
        assert account.password is not None
        assert account.password.startswith("$argon2id$")
        kinds = list(session.scalars(select(Event.kind).filter_by(actor="ada").order_by(Event.id)))
    assert kinds == ["account.created", "token.created", "token.created", "token.revoked"]


@open_to_all
def test_a_token_makes_none_that_may_do_more(client: Client, world: Any) -> None:
    person(client, "ada")
    reader = bearer(token(client, "ada", scope="read").json()["text"])
    answer = client.post("/auth/tokens", headers=reader, json={"scope": "submit"})
    assert (answer.status_code, "can't make one of scope 'submit'" in answer.text) == (403, True)
    assert client.post("/auth/tokens", headers=reader, json={"scope": "read"}).status_code == 201
    answer = token(client, "ada", scope="operate")
    assert (answer.status_code, "can't make one of scope 'operate'" in answer.text) == (403, True)
    assert client.post("/auth/tokens", json={"scope": "read"}).status_code == 401


@open_to_all
def test_a_wrong_password_says_the_same_as_no_account_and_is_tried_a_few_times_only(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(client, "ada")
    wrong, nobody = token(client, "ada", OTHER), token(client, "eve", OTHER)
    assert wrong.status_code == nobody.status_code == 401
    assert wrong.json()["detail"] == nobody.json()["detail"]
    few = Attempts(3)
    monkeypatch.setattr(Attempts, "count", lambda _, *keys: COUNT(few, *keys))
    answers = [token(client, "ada", OTHER) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["type"] == "urn:tiltyard:problem:too-many-requests"
    assert token(client, "ada").status_code == 429, "the right one has to wait too"


@open_to_all
def test_another_password_ends_the_old_one(client: Client) -> None:
    ada = person(client, "ada")
    body = {"old": OTHER, "new": OTHER}
    assert client.put("/auth/password", headers=ada, json=body).status_code == 401
    body = {"old": PASSWORD, "new": "short"}
    assert client.put("/auth/password", headers=ada, json=body).status_code == 422
    body = {"old": PASSWORD, "new": OTHER}
    assert client.put("/auth/password", headers=ada, json=body).status_code == 204
    assert token(client, "ada").status_code == 401
    assert token(client, "ada", OTHER).status_code == 201


@open_to_all
def test_a_closed_account_is_let_in_nowhere_until_it_is_opened(client: Client, world: Any) -> None:
    ada, root = person(client, "ada"), operator(world)
    for _ in range(2):
        assert client.post("/accounts/ada:disable", headers=root).json()["disabled"] is True
    assert client.get("/auth/me", headers=ada).status_code == 401
    assert token(client, "ada").status_code == 401
    assert client.post("/accounts/ada:enable", headers=root).json()["disabled"] is False
    assert client.get("/auth/me", headers=ada).status_code == 200
    assert client.post("/accounts/nobody:disable", headers=root).status_code == 404
    assert client.post("/accounts/baseline:disable", headers=root).status_code == 404
    client.post("/teams", headers=ada, json={"name": "Lances"})
    assert "is a team" in client.post("/accounts/Lances:disable", headers=root).text
    names = [each["name"] for each in client.get("/accounts", headers=root).json()["items"]]
    assert names == sorted(names)
    assert {"ada", "root"} <= set(names)
    page = client.get("/accounts?limit=1", headers=root).json()
    assert [each["name"] for each in page["items"]] == names[:1]
    rest = client.get(f"/accounts?after={page['next']}", headers=root).json()
    assert [each["name"] for each in rest["items"]] == names[1:]


def team_of_two(client: Client) -> tuple[dict[str, str], dict[str, str], str]:
    """(ada the captain, bob the member, the id of their team)"""
    ada, bob = person(client, "ada"), person(client, "bob")
    made = client.post("/teams", headers=ada, json={"name": "Lances"})
    assert made.status_code == 201, made.text
    place = made.headers["Location"].removeprefix("/api/v1")
    code = client.post(f"{place}/invitations", headers=ada).json()["code"]
    joined = client.post("/teams:join", headers=bob, json={"invitation": code})
    assert joined.status_code == 202, joined.text
    assert [(m["name"], m["captain"]) for m in joined.json()["members"]] == [
        ("ada", True),
        ("bob", False),
    ]
    return ada, bob, place.rpartition("/")[2]


def enter(client: Client, who: dict[str, str], name: str) -> Response:
    data = b"\x1f\x8ba folder of " + name.encode()
    start = client.post("/uploads", headers=who | {"Upload-Length": str(len(data))})
    place = start.headers["Location"].removeprefix("/api/v1")
    kind = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.patch(place, headers=who | kind, content=data).status_code == 204
    body = {"track": "mnist5k-robust-model", "name": name, "upload": place.rpartition("/")[2]}
    return client.post("/submissions", headers=who, json=body)


@open_to_all
def test_what_a_member_enters_is_the_teams_with_one_quota(
    client: Client, world: Any, sqlite: Database, tracks: dict[str, Track]
) -> None:
    before = person(client, "cyd")
    own = enter(client, before, "own").json()["id"]
    ada, bob, team = team_of_two(client)
    entered = [enter(client, who, f"m{i}") for i, who in enumerate((ada, bob, bob))]
    assert [answer.status_code for answer in entered] == [202] * 3
    assert enter(client, ada, "one more").status_code == 429, "three a day, for the whole team"
    ids = [answer.json()["id"] for answer in entered]
    for who in (ada, bob):
        listed = client.get("/submissions", headers=who).json()["items"]
        assert sorted(each["id"] for each in listed) == sorted(ids)
    with sqlite.read() as session:
        assert {session.get_one(Submission, each).account_id for each in ids} == {team}
        by = [session.get_one(Submission, each).submitted_by for each in ids]
        assert by[0] != by[1] == by[2]
        assert session.get_one(Submission, own).account_id != team
        assert session.scalars(select(QuotaDay.used).filter_by(account_id=team)).one() == 3
    assert client.post(f"/submissions/{ids[1]}:cancel", headers=ada).status_code == 202
    assert client.post(f"/submissions/{ids[0]}:cancel", headers=bob).status_code == 202
    assert client.post(f"/submissions/{ids[2]}:cancel", headers=before).status_code == 404
    with sqlite.write() as session:
        row = session.get_one(Submission, ids[2])
        row.state, row.accepted_at = "accepted", 1.0
    answer = client.post(f"/submissions/{ids[2]}:withdraw", headers=bob)
    assert (answer.status_code, "for the captain of your team" in answer.text) == (403, True)
    assert client.post(f"/submissions/{ids[2]}:withdraw", headers=ada).status_code == 202


@open_to_all
def test_a_team_is_managed_by_its_captain(client: Client) -> None:
    ada, bob, team = team_of_two(client)
    me = {who: client.get("/auth/me", headers=h).json() for who, h in (("a", ada), ("b", bob))}
    assert me["b"]["team"]["name"] == "Lances"
    place = f"/teams/{team}"
    assert client.get(place).json()["name"] == "Lances"
    assert client.post(f"{place}/invitations", headers=bob).status_code == 403
    stranger = person(client, "cyd")
    assert client.post(f"{place}/invitations", headers=stranger).status_code == 404
    a, b = me["a"]["id"], me["b"]["id"]
    assert client.delete(f"{place}/members/{a}", headers=bob).status_code == 403
    answer = client.delete(f"{place}/members/{a}", headers=ada)
    assert (answer.status_code, "make another member captain" in answer.text) == (409, True)
    assert client.post("/teams", headers=bob, json={"name": "Mine"}).status_code == 409
    assert client.post(f"{place}/members/{b}:captain", headers=bob).status_code == 403
    made = client.post(f"{place}/members/{b}:captain", headers=ada).json()
    assert [(m["name"], m["captain"]) for m in made["members"]] == [("ada", False), ("bob", True)]
    assert client.delete(f"{place}/members/{a}", headers=ada).status_code == 204, "ada leaves"
    assert client.delete(f"{place}/members/{a}", headers=bob).status_code == 404
    assert client.delete(f"{place}/members/{b}", headers=bob).status_code == 204, "the last one"
    assert client.get(place).json()["members"] == []
    assert client.post("/teams", headers=bob, json={"name": "Lances"}).status_code == 422
    assert client.post("/teams", headers=bob, json={"name": "Mine"}).status_code == 201


@open_to_all
def test_an_invitation_to_a_team_is_none_to_the_server_and_the_other_way_round(
    client: Client, world: Any
) -> None:
    ada, _, team = team_of_two(client)
    of_team = client.post(f"/teams/{team}/invitations", headers=ada).json()["code"]
    answer = sign_up(client, "cyd", invitation=of_team)
    assert (answer.status_code, "is to join a team" in answer.text) == (422, True)
    cyd = person(client, "cyd")
    of_server = client.post("/invitations", headers=operator(world)).json()["code"]
    answer = client.post("/teams:join", headers=cyd, json={"invitation": of_server})
    assert (answer.status_code, "to sign up here" in answer.text) == (422, True)
    body = {"invitation": of_team}
    assert client.post("/teams:join", headers=ada, json=body).status_code == 409
    assert client.post("/teams:join", headers=cyd, json=body).status_code == 202, "it was not used"


@open_to_all
def test_an_organiser_manages_one_challenge(client: Client, world: Any) -> None:
    person(client, "orla")
    root = operator(world)
    assert token(client, "orla", scope="operate").status_code == 403
    for _ in range(2):
        place = "/challenges/mnist5k/organisers/orla"
        assert client.put(place, headers=root).status_code == 204
    orla = bearer(token(client, "orla", scope="operate").json()["text"])
    assert client.get("/auth/me", headers=orla).json()["organises"] == ["mnist5k"]
    assert client.post("/challenges/mnist5k:close", headers=orla).status_code == 202
    assert client.post("/challenges/fashion-mnist:open", headers=orla).status_code == 403
    assert client.get("/audit", headers=orla).status_code == 403
    assert client.put("/challenges/none/organisers/orla", headers=root).status_code == 404
    assert client.put("/challenges/mnist5k/organisers/eve", headers=root).status_code == 404
    assert client.delete(place, headers=root).status_code == 204
    assert client.post("/challenges/mnist5k:open", headers=orla).status_code == 403


@open_to_all
def test_the_audit_log_says_who_did_what_page_by_page(client: Client, world: Any) -> None:
    ada, root = person(client, "ada"), operator(world)
    client.post("/teams", headers=ada, json={"name": "Lances"})
    client.post("/accounts/ada:disable", headers=root)
    found = client.get("/audit", headers=root).json()
    kinds = [(each["actor"], each["kind"]) for each in found["items"]]
    assert kinds[:3] == [
        ("root", "account.disabled"),
        ("ada", "team.created"),
        ("ada", "token.created"),
    ]
    pages, before = [], ""
    while True:
        page = client.get(f"/audit?limit=1{before}", headers=root).json()
        pages += page["items"]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert pages == found["items"]
    only = client.get("/audit?by=ada&kind=team.created", headers=root).json()["items"]
    assert [each["payload"] for each in only] == [{"team": "Lances"}]
    assert PASSWORD not in client.get("/audit", headers=root).text


def test_sessions_end_when_an_operator_sets_the_password(sqlite: Database, world: Any) -> None:
    from server import signing

    world.account("ada")
    with sqlite.write() as session:
        account = accounts.find_user(session, "ada")
        api = accounts.create_token(session, account)
        web = signing.open_session(session, account)
        signing.set_password(session, account, passwords.hashed(PASSWORD), actor="root")
    with sqlite.read() as session:
        assert accounts.authenticate(session, api) is not None
        assert accounts.authenticate(session, web) is None
        kept = accounts.find_user(session, "ada").password
        assert passwords.verified(PASSWORD, kept)[0] is True
        assert passwords.verified(OTHER, kept)[0] is False
        assert session.scalars(select(Token.kind).order_by(Token.id)).all() == ["api", "session"]


def test_the_answer_to_a_token_is_kept_by_no_cache(client: Client, world: Any) -> None:
    answer = httpx.post(
        f"{client.base_url}auth/tokens", json={"scope": "read"}, headers=operator(world)
    )
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
