"""Signing in through an OpenID provider: a real one of its own process, with our side as served."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import select

from bench.errors import UserError
from server import oidc, settings
from server.app import create_app
from server.db.tables import Account, Identity

if TYPE_CHECKING:
    from .conftest import World

PASSWORD = "four words that I made"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The address of a provider that knows whoever it is told of."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    known = ('{"sub": "1", "preferred_username": "ada"}', '{"sub": "2", "name": "ada"}')
    users = [part for claims in known for part in ("--user-claims", claims)]
    with subprocess.Popen(
        [*command, *users], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        place = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                httpx.get(f"{place}/.well-known/openid-configuration").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None
                time.sleep(0.1)
        yield place
        process.terminate()


def served(world: World, serve: Callable[[FastAPI], str], issuer: str, how: str) -> str:
    changed = {
        "sign_up": how,
        "oidc_issuer": issuer,
        "oidc_client_id": "tiltyard",
        "oidc_client_secret": SecretStr("a secret"),
    }
    return serve(create_app(world.settings.model_copy(update=changed)))


@pytest.fixture
def place(world: World, serve: Callable[[FastAPI], str], issuer: str) -> str:
    return served(world, serve, issuer, "invitation")


def browser(place: str) -> httpx.Client:
    return httpx.Client(base_url=place, headers={"origin": place})


def at_provider(client: httpx.Client, subject: str | None) -> str:
    """Where the provider sends the browser back to: signed in as this subject, or refused."""
    there = client.get("/sign-in/oidc")
    assert there.status_code == 303
    form = {"sub": subject} if subject is not None else {"action": "deny"}
    answer = httpx.post(there.headers["location"], data=form)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def sign_in(client: httpx.Client, subject: str) -> httpx.Response:
    return client.get(at_provider(client, subject))


def names(world: World) -> list[str]:
    with world.database.read() as session:
        return sorted(session.scalars(select(Account.name).where(Account.role == "participant")))


def test_whom_the_provider_knows_has_one_account_without_a_password(
    place: str, world: World
) -> None:
    for _ in range(2):
        with browser(place) as client:
            answer = sign_in(client, "1")
            assert answer.status_code == 303, answer.text
            assert answer.headers["location"] == "/account"
            shown = client.get("/account").text
            assert "<h1>ada</h1>" in shown
            assert "Change the password" not in shown
    with browser(place) as client:
        sign_in(client, "2")
        assert "<h1>ada-2</h1>" in client.get("/account").text, "another one of the same name"
        sign_in(client, "2")
    assert names(world) == ["ada", "ada-2"]


def test_the_provider_is_asked_with_pkce_and_a_nonce(place: str) -> None:
    with browser(place) as client:
        asked = parse_qs(urlsplit(client.get("/sign-in/oidc").headers["location"]).query)
        kept = client.cookies["tiltyard-oidc"].split(".")
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{place}/sign-in/oidc/back"]
    assert asked["state"] == [kept[0]]
    assert asked["nonce"] == [kept[1]]
    assert kept[2] not in str(asked), "the verifier stays with the browser"


def test_what_is_not_of_this_sign_in_opens_nothing(place: str, world: World) -> None:
    with browser(place) as client, browser(place) as other:
        back = at_provider(client, "1")
        answer = other.get(back)
        assert (answer.status_code, "not the sign-in that was begun here" in answer.text) == (
            403,
            True,
        )
        state = parse_qs(urlsplit(back).query)["state"][0]
        for query in ({"state": state, "code": "made-up"}, {"state": state}):
            client.get("/sign-in/oidc")
            kept = client.cookies["tiltyard-oidc"].split(".")
            answer = client.get("/sign-in/oidc/back", params=query | {"state": kept[0]})
            assert answer.status_code == 403, query
        client.get("/sign-in/oidc")
        kept = client.cookies["tiltyard-oidc"].split(".")
        said = {"state": kept[0], "error": "access_denied", "error_description": "<no>"}
        refused = client.get("/sign-in/oidc/back", params=said)
        assert refused.status_code == 403
        assert "did not sign you in; it said: &lt;no&gt;" in refused.text
        assert client.get(at_provider(client, None)).status_code == 403
        at_provider(client, "1")
        assert client.get("/sign-in/oidc/back", params={"state": "é"}).status_code == 403
    assert names(world) == []


def test_an_id_token_for_another_sign_in_is_refused(place: str, world: World) -> None:
    with browser(place) as client, browser(place) as other:
        theirs = parse_qs(urlsplit(at_provider(other, "1")).query)["code"][0]
        ours = parse_qs(urlsplit(at_provider(client, "2")).query)["state"][0]
        answer = client.get("/sign-in/oidc/back", params={"state": ours, "code": theirs})
    assert answer.status_code == 403, "its nonce is another one"
    assert "is not good" in answer.text
    assert names(world) == []


def test_an_account_with_a_password_is_linked_by_whoever_is_signed_in(
    world: World, serve: Callable[[FastAPI], str], issuer: str
) -> None:
    place = served(world, serve, issuer, "open")
    with browser(place) as client:
        client.post("/sign-up", data={"name": "bob", "password": PASSWORD})
        assert "Sign in with your organisation" in client.get("/account").text
        assert sign_in(client, "1").status_code == 303
    with browser(place) as client:
        sign_in(client, "1")
        assert "<h1>bob</h1>" in client.get("/account").text
    with browser(place) as client:
        client.post("/sign-up", data={"name": "eve", "password": PASSWORD})
        assert sign_in(client, "1").status_code == 409, "it is bob's"
    with world.database.read() as session:
        assert len(session.scalars(select(Identity)).all()) == 1


def test_a_closed_server_lets_in_whom_it_knows_alone(
    world: World, serve: Callable[[FastAPI], str], issuer: str
) -> None:
    with browser(served(world, serve, issuer, "closed")) as client:
        answer = sign_in(client, "1")
    assert (answer.status_code, "made by its operator alone" in answer.text) == (403, True)
    assert names(world) == []


def test_a_closed_account_is_not_opened_by_the_provider(place: str, world: World) -> None:
    with browser(place) as client:
        sign_in(client, "1")
    with world.database.write() as session:
        session.scalars(select(Account).filter_by(name="ada")).one().disabled_at = 1.0
    with browser(place) as client:
        assert sign_in(client, "1").status_code == 403


def test_a_provider_that_is_none_is_told_apart(
    world: World, serve: Callable[[FastAPI], str], issuer: str
) -> None:
    with browser(served(world, serve, issuer + "/elsewhere", "open")) as client:
        answer = client.get("/sign-in/oidc", headers={"accept": "text/html"})
    assert (answer.status_code, "does not answer as an OpenID provider" in answer.text) == (
        503,
        True,
    )


def test_without_a_provider_there_is_no_such_page(server_url: str) -> None:
    with browser(server_url) as client:
        assert client.get("/sign-in/oidc").status_code == 404
        assert "Sign in with" not in client.get("/sign-in").text


@pytest.mark.parametrize("bad", ["http://id.example", "id.example", "https://", "ftp://127.0.0.1"])
def test_an_issuer_that_is_not_asked_over_tls_is_refused(bad: str) -> None:
    with pytest.raises(UserError, match="wanted an https:// URL"):
        oidc.require_good(oidc.Provider(bad, "", ""))
    oidc.require_good(oidc.Provider("https://id.example/realms/1", "", ""))


def test_the_secret_is_not_printed() -> None:
    assert "hunter2" not in repr(settings.load(oidc_client_secret="hunter2"))
