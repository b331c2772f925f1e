"""Signing in and the account's pages: forms as a browser sends them, and as it must not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from server import accounts
from server.app import create_app
from server.db.tables import Account, Submission, Token
from server.web.forms import COOKIE

if TYPE_CHECKING:
    from .conftest import World

PASSWORD = "four words that I made"
TRACK = "mnist5k-robust-model"


@pytest.fixture
def server_url(world: World, serve: Callable[[FastAPI], str]) -> str:
    """As elsewhere, but open to all who sign up."""
    return serve(create_app(world.settings.model_copy(update={"sign_up": "open"})))


@pytest.fixture
def client(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, headers={"origin": server_url}) as made:
        yield made


def sign_up(client: httpx.Client, name: str = "ada") -> httpx.Response:
    return client.post("/sign-up", data={"name": name, "password": PASSWORD})


def word(client: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/account").text)
    assert found is not None
    return found[1]


def post(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    return client.post(f"/account/{path}", data={"csrf": word(client), **fields})


def test_a_browser_keeps_a_session_that_scripts_do_not_read(
    client: httpx.Client, world: World
) -> None:
    answer = sign_up(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    shown = client.get("/account")
    assert shown.status_code == 200
    assert shown.headers["cache-control"] == "no-store"
    text = client.cookies[COOKIE]
    assert text not in shown.text
    with world.database.read() as session:
        assert session.scalars(select(Token.kind)).all() == ["session"]
    assert post(client, "sign-out").status_code == 303
    assert COOKIE not in client.cookies
    client.cookies.set(COOKIE, text)
    assert client.get("/account").headers["location"] == "/sign-in", "it is revoked"


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_alone(
    world: World, serve: Callable[[FastAPI], str]
) -> None:
    chosen = world.settings.model_copy(
        update={"sign_up": "open", "public_url": "https://bench.example"}
    )
    with httpx.Client(base_url=serve(create_app(chosen))) as client:
        client.headers["origin"] = "https://bench.example"
        assert "Secure" in sign_up(client).headers["set-cookie"]


def test_what_is_wrong_is_said_above_the_form_with_the_name_kept(client: httpx.Client) -> None:
    answer = client.post("/sign-up", data={"name": "ada", "password": "short"})
    assert answer.status_code == 422
    assert "wanted 12 to 200" in answer.text
    assert 'value="ada"' in answer.text
    assert "short" not in answer.text.replace("too short", "")
    answer = client.post("/sign-in", data={"name": "<ada>", "password": PASSWORD})
    assert answer.status_code == 401
    assert "no account with this name and password" in answer.text
    assert "<ada>" not in answer.text


@pytest.mark.parametrize("origin", [None, "null", "https://elsewhere.example"])
def test_a_form_of_another_site_is_refused(client: httpx.Client, origin: str | None) -> None:
    sign_up(client)
    good = word(client)
    headers = {"origin": origin} if origin is not None else {}
    if origin is None:
        del client.headers["origin"]
    for path in ("/account/team", "/account/sign-out"):
        data = {"csrf": good, "name": "Lances"}
        assert client.post(path, headers=headers, data=data).status_code == 403
    fields = {"name": "ada", "password": PASSWORD}
    assert client.post("/sign-in", headers=headers, data=fields).status_code == 403
    assert "Lances" not in client.get("/account").text


def test_a_form_of_another_session_is_refused(client: httpx.Client) -> None:
    sign_up(client)
    for wrong in ("", "0" * 64, "é"):
        answer = client.post("/account/team", data={"csrf": wrong, "name": "Lances"})
        assert (answer.status_code, "from another session" in answer.text) == (403, True)


def test_what_no_database_can_hold_is_told_so(client: httpx.Client, world: World) -> None:
    for field in ("name", "password"):
        data = {"name": "ada", "password": PASSWORD} | {field: "four words\0that I made"}
        answer = client.post("/sign-up", data=data)
        assert (answer.status_code, "without NUL" in answer.text) == (422, True)
    sign_up(client)
    assert client.get("/audit?before=99999999999999999999").status_code == 422
    assert client.get("/audit?before=0").status_code == 422


def test_forms_of_nobody_lead_to_the_sign_in(client: httpx.Client) -> None:
    for path in ("account/team", "account/tokens/x/revoke", "account/entries/x/cancel"):
        answer = client.post(f"/{path}", data={"name": "x"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    for path in ("/account", "/audit"):
        assert client.get(path).headers["location"] == "/sign-in"


def test_an_entry_is_cancelled_and_withdrawn_by_its_owner_alone(
    client: httpx.Client, world: World
) -> None:
    sign_up(client)
    waiting = world.enter("waiting", TRACK, accept=False)
    accepted = world.enter("shown", TRACK)
    others = world.enter("theirs", TRACK, owner="bob")
    text = client.get("/account").text
    assert "waiting" in text
    assert "theirs" not in text
    assert client.get(f"/entries/{waiting}").status_code == 200, "what is not public is its owner's"
    assert post(client, f"entries/{accepted}/withdraw").status_code == 303
    assert post(client, f"entries/{others}/withdraw").status_code == 404
    assert post(client, f"entries/{accepted}/explode").status_code == 404
    with world.database.read() as session:
        states = {each: session.get_one(Submission, each).state for each in (accepted, others)}
    assert states == {accepted: "withdrawn", others: "accepted"}


def test_the_audit_log_is_a_page_for_operators(client: httpx.Client, world: World) -> None:
    sign_up(client)
    assert client.get("/audit").status_code == 403
    with world.database.write() as session:
        accounts.find_user(session, "ada").role = "operator"
    assert client.get("/audit").status_code == 403, "the session may do what it could at its start"
    post(client, "sign-out")
    client.post("/sign-in", data={"name": "ada", "password": PASSWORD})
    shown = client.get("/audit")
    assert shown.status_code == 200
    assert "account.created" in shown.text
    only = client.get("/audit?kind=account.signed-in&by=ada").text
    assert "account.signed-in" in only
    assert "account.created" not in only


def test_from_sign_up_to_a_token_and_a_team_by_keyboard(
    world: World,
    browser: Browser,
    page: Page,
    server_url: str,
) -> None:
    page.goto("/")
    page.get_by_role("link", name="Account").press("Enter")
    page.get_by_role("link", name="Sign up").press("Enter")
    page.get_by_label("Name").press_sequentially("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("ada")
    page.get_by_text("Make a token for a program").press("Enter")
    page.get_by_label("What it is for").press_sequentially("laptop")
    page.keyboard.press("Enter")
    token = page.locator("code.secret").inner_text()
    me = httpx.get(f"{server_url}/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert (me.json()["name"], me.json()["scope"]) == ("ada", "submit")
    page.get_by_text("Make a team, or join one").press("Enter")
    page.get_by_label("Name of a new team").press_sequentially("Lances")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Lances: what a member enters is the team's")).to_be_visible()
    page.get_by_role("button", name="Invite somebody").press("Enter")
    code = page.locator("code.secret").inner_text()
    other = browser.new_context(base_url=server_url)
    theirs = other.new_page()
    theirs.goto("/sign-up")
    theirs.get_by_label("Name").fill("bob")
    theirs.get_by_label("Password").fill(PASSWORD)
    theirs.get_by_role("button", name="Sign up").click()
    theirs.get_by_text("Make a team, or join one").click()
    theirs.get_by_label("Invitation that its captain gave you").fill(code)
    theirs.get_by_role("button", name="Join").click()
    expect(theirs.get_by_text("in the team Lances")).to_be_visible()
    other.close()
    page.goto("/account")
    page.get_by_role("button", name="Revoke laptop").press("Enter")
    expect(page.get_by_role("button", name="Revoke laptop")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    world: World,
    page: Page,
    width: int,
    scheme: str,
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for path in ("/sign-in", "/sign-up"):
        page.goto(path)
        check(page, width, path)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    world.enter("Unbreakablenamewithoutanyspaceinitwhatsoeverforfortyletters", TRACK)
    with world.database.write() as session:
        session.scalars(select(Account).filter_by(name="ada")).one().role = "operator"
    page.get_by_text("Make a team, or join one").click()
    page.get_by_label("Name of a new team").fill("The lances of the northern field")
    page.get_by_role("button", name="Make a team").click()
    page.get_by_role("button", name="Invite somebody").click()
    for summary in page.locator("summary").all():
        summary.click()
    check(page, width, "/account")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Audit log").click()
    check(page, width, "/audit")


def check(page: Page, width: int, where: str) -> None:
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == [], where
    assert page.evaluate("document.documentElement.scrollWidth") == width, where
