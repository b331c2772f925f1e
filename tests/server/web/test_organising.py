"""The pages of operators and organisers: what they do, and that nobody else may."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from fastapi import FastAPI
from playwright.sync_api import Page
from sqlalchemy import select

from server import accounts, passwords, signing
from server.app import create_app
from server.db import queries
from server.db.tables import Account, Challenge, Event, Invitation, Round
from server.policy import ANONYMOUS
from server.web.forms import COOKIE

if TYPE_CHECKING:
    from .conftest import World

PASSWORD = "four words that I made"
TRACK = "mnist5k-robust-model"
CHALLENGE = "mnist5k"
As = Callable[[str], httpx.Client]


@pytest.fixture
def server_url(world: World, serve: Callable[[FastAPI], str]) -> str:
    hashed = passwords.hashed(PASSWORD)
    with world.database.write() as session:
        for name, role in (("root", "operator"), ("olga", "participant"), ("ada", "participant")):
            signing.set_password(
                session, accounts.create_user(session, name, role), hashed, actor="root"
            )
        accounts.set_organiser(session, "olga", CHALLENGE, "root", organises=True)
    return serve(create_app(world.settings))


@pytest.fixture
def signed_in(server_url: str) -> Iterator[As]:
    """A browser of somebody."""
    made: list[httpx.Client] = []

    def client(name: str) -> httpx.Client:
        client = httpx.Client(base_url=server_url, headers={"origin": server_url}, timeout=60)
        made.append(client)
        answer = client.post("/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303
        return client

    yield client
    for each in made:
        each.close()


def post(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/account").text)
    assert found is not None
    return client.post(path, data={"csrf": found[1], **fields})


POSTS = [
    ("/admin/challenges/mnist5k/close", {}),
    ("/admin/rounds", {"challenge": CHALLENGE, "name": "final", "images": "8"}),
    (f"/admin/boards/{TRACK}", {"after_queries": "50"}),
    ("/admin/invitations", {"days": "3"}),
    ("/admin/accounts/ada/disable", {}),
    ("/admin/accounts/ada/organise", {"challenge": CHALLENGE}),
]
OPERATORS_ONLY = ("/admin/invitations", "/admin/accounts")


@pytest.mark.parametrize(("path", "fields"), POSTS)
def test_what_is_not_for_somebody_is_refused_and_changes_nothing(
    world: World, signed_in: As, server_url: str, path: str, fields: dict[str, str]
) -> None:
    def record() -> list[object]:
        with world.database.read() as session:
            kinds = [*session.scalars(select(Event.kind).where(Event.kind.not_like("%sign%")))]
            return [kinds, *session.scalars(select(Account.disabled_at))]

    signed_in("ada")
    before = record()
    assert post(signed_in("ada"), path, **fields).status_code == 403
    if path.startswith(OPERATORS_ONLY):
        assert post(signed_in("olga"), path, **fields).status_code == 403
    root = signed_in("root")
    assert root.post(path, data=fields).status_code == 403, "without the word of the session"
    root.headers["origin"] = "https://elsewhere.example"
    assert post(root, path, **fields).status_code == 403
    with httpx.Client(base_url=server_url, headers={"origin": server_url}) as nobody:
        assert nobody.post(path, data=fields).headers["location"] == "/sign-in"
        assert nobody.get("/admin").headers["location"] == "/sign-in"
        assert nobody.get(f"/admin/boards/{TRACK}").headers["location"] == "/sign-in"
    assert signed_in("ada").get("/admin").status_code == 403
    assert signed_in("ada").get(f"/admin/boards/{TRACK}").status_code == 403
    assert record() == before


def test_an_organiser_closes_a_challenge_and_opens_it_again(world: World, signed_in: As) -> None:
    olga = signed_in("olga")
    assert "Administration" in olga.get("/account").text
    html = olga.get("/admin").text
    assert "Close<span" in html
    assert "Accounts" not in html
    assert post(olga, "/admin/challenges/mnist5k/close").status_code == 303
    assert "It takes no entries since" in olga.get("/admin").text
    with world.database.read() as session:
        assert session.get_one(Challenge, CHALLENGE).closed_at is not None
    assert "No challenge takes entries now." in olga.get("/submit").text
    assert post(olga, "/admin/challenges/mnist5k/open").status_code == 303
    assert "It takes entries since" in olga.get("/admin").text


def test_an_organiser_freezes_a_round_and_publishes_it_when_it_is_over(
    world: World, signed_in: As
) -> None:
    world.play()
    olga = signed_in("olga")
    for wrong, said in (
        ({"name": " "}, "a name of 1 to 80 letters"),
        ({"best": "many"}, "wanted a whole number"),
    ):
        fields = {"challenge": CHALLENGE, "name": "The final", "images": "8", **wrong}
        answer = post(olga, "/admin/rounds", **fields)
        assert (answer.status_code, said in answer.text) == (422, True)
    fields = {"challenge": CHALLENGE, "name": "The final", "images": "8", "best": ""}
    assert post(olga, "/admin/rounds", **fields).status_code == 303
    with world.database.read() as session:
        made = session.scalars(select(Round)).one()
    early = post(olga, f"/admin/rounds/{made.id}/publish")
    assert (early.status_code, "0 of 4" in early.text) == (409, True)
    world.play()
    assert post(olga, f"/admin/rounds/{made.id}/publish").status_code == 303
    with world.database.read() as session:
        assert queries.round_of(session, made.id, ANONYMOUS).state == "published"
        assert queries.round_board(session, made.id, TRACK, ANONYMOUS).rows
    assert post(olga, "/admin/rounds/nope/publish").status_code in (403, 404)


def test_a_rule_is_published_only_as_the_difference_that_was_seen(
    world: World, signed_in: As
) -> None:
    world.play()
    olga = signed_in("olga")
    path = f"/admin/boards/{TRACK}"
    same = post(olga, path)
    assert (same.status_code, "nothing to change" in same.text) == (409, True)
    answer = post(olga, path, after_queries="20")
    assert answer.status_code == 200
    assert "<strong>2 of 2</strong> entries get another score or rank" in answer.text
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', answer.text)
    assert digest is not None
    silent = post(olga, path, after_queries="20", digest=digest[1])
    assert (silent.status_code, "say why the rule changes" in silent.text) == (422, True)
    other = post(olga, path, after_queries="30", digest=digest[1], note="fewer questions")
    assert (other.status_code, "this is not the difference" in other.text) == (409, True)
    with world.database.read() as session:
        assert queries.track(session, TRACK).scoring.number == 1
    done = post(olga, path, after_queries="20", digest=digest[1], note="fewer questions")
    assert done.headers["location"] == f"/boards/{TRACK}/history"
    shown = olga.get(f"/boards/{TRACK}/history").text
    assert "fewer questions" in shown
    assert "what was known after 20 queries" in shown
    wrong = post(olga, path, exclude="no-such-image")
    assert (wrong.status_code, "no-such-image" in wrong.text) == (422, True)


def test_an_operator_invites_closes_accounts_and_makes_organisers(
    world: World, signed_in: As
) -> None:
    root, ada = signed_in("root"), signed_in("ada")
    code = re.search(r'class="secret">([^<]+)<', post(root, "/admin/invitations", days="3").text)
    assert code is not None
    assert code[1] not in root.get("/admin").text
    with world.database.read() as session:
        assert session.scalars(select(Invitation.actor)).all() == ["root"]
    assert post(root, "/admin/accounts/ada/organise", challenge=CHALLENGE).status_code == 303
    assert ada.get("/admin").status_code == 200
    assert post(root, "/admin/accounts/ada/release", challenge=CHALLENGE).status_code == 303
    assert ada.get("/admin").status_code == 403
    assert post(root, "/admin/accounts/ada/disable").status_code == 303
    assert ada.get("/account").headers["location"] == "/sign-in"
    assert "Open again" in root.get("/admin").text
    assert post(root, "/admin/accounts/ada/enable").status_code == 303
    for path in ("/admin/accounts/nobody/disable", "/admin/accounts/ada/nothing"):
        assert post(root, path).status_code == 404
    assert COOKIE in root.cookies


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    world: World, page: Page, width: int, scheme: str
) -> None:
    world.play()
    world.round("The final")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/sign-in")
    page.get_by_label("Name").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/account")
    for path in ("/admin", f"/admin/boards/{TRACK}", "/submit"):
        page.goto(path)
        if path.endswith(TRACK):
            page.get_by_label("Count only what").fill("20")
            page.get_by_role("button", name="Show the difference").click()
            page.wait_for_selector("text=The difference")
        for summary in page.locator("summary").all():
            summary.click()
        found = Axe().run(page).response["violations"]
        told = [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]
        assert told == [], path
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
