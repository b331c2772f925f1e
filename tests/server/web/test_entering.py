"""Entering from the browser, and following the entry on its page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from fastapi import FastAPI
from playwright.sync_api import Page, expect
from sqlalchemy import func, select

from server import packaging
from server.app import create_app
from server.db.tables import Submission, Upload
from server.web import entering

if TYPE_CHECKING:
    from .conftest import World

PASSWORD = "four words that I made"
TRACK = "mnist5k-robust-model"


@pytest.fixture
def server_url(world: World, serve: Callable[[FastAPI], str]) -> str:
    """Open to all who sign up, and one worker that runs source packages."""
    chosen = {"sign_up": "open", "workers": 1}
    return serve(create_app(world.settings.model_copy(update=chosen)))


@pytest.fixture
def client(server_url: str) -> Iterator[httpx.Client]:
    headers = {"origin": server_url}
    with httpx.Client(base_url=server_url, headers=headers, timeout=60) as made:
        made.post("/sign-up", data={"name": "ada", "password": PASSWORD})
        yield made


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The template of a model, packed."""
    folder = tmp_path / "mine"
    packaging.new("model", folder)
    return packaging.source_package(folder, tmp_path / "mine.tar.gz", TRACK)


def fields(client: httpx.Client, **changed: str) -> dict[str, str]:
    html = client.get("/submit").text
    hidden = dict(re.findall(r'type="hidden" name="(csrf|key)" value="([^"]+)"', html))
    return {**hidden, "track": TRACK, "name": "Ridgeline", **changed}


def test_from_sign_in_to_a_score_by_keyboard_alone(world: World, page: Page, package: Path) -> None:
    page.goto("/")
    page.get_by_role("link", name="Enter", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Sign up").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name").focus()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("ada")
    page.get_by_role("link", name="Enter", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Enter a model or an attack")
    assert Axe().run(page).response["violations"] == []
    page.get_by_label("Track").focus()
    page.keyboard.type("Robust models")
    page.keyboard.press("Tab")
    page.keyboard.type("Ridgeline")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Source package")).to_be_focused()
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Space")
    chosen.value.set_files(package)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Ridgeline")
    page.evaluate("window.sameDocument = true")
    expect(page.locator(".facts").first).to_contain_text("Rank", timeout=120_000)
    assert page.evaluate("window.sameDocument") is True
    expect(page.locator("#live-said")).to_contain_text("Ridgeline: accepted")
    assert Axe().run(page).response["violations"] == []
    page.get_by_role("link", name=TRACK).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#board tbody tr", has_text="Ridgeline")).to_contain_text("ada")


def test_what_is_wrong_is_said_and_nothing_is_entered(
    world: World, client: httpx.Client, package: Path
) -> None:
    data = package.read_bytes()
    for changed, file, status, said in (
        ({}, ("mine.tar.gz", b""), 422, "no file was chosen, or it is empty"),
        ({"name": ""}, ("mine.tar.gz", data), 422, "an entry has a name of 1 to 80 letters"),
        ({"name": "a" * 81}, ("mine.tar.gz", data), 422, "an entry has a name of 1 to 80"),
        ({"track": "nope"}, ("mine.tar.gz", data), 404, "nope"),
        ({}, ("image.tar", b"not packed at all"), 422, "upload the folder as .tar.gz"),
        ({"csrf": "0" * 64}, ("mine.tar.gz", data), 403, "from another session"),
    ):
        answer = client.post("/submit", data=fields(client, **changed), files={"file": file})
        assert (answer.status_code, said in answer.text) == (status, True), (changed, answer.text)
    broken = {"content-type": "multipart/form-data"}  # without a boundary
    assert client.post("/submit", content=b"nonsense", headers=broken).status_code == 400
    client.headers["origin"] = "https://elsewhere.example"
    form = fields(client)
    assert client.post("/submit", data=form, files={"file": ("a", data)}).status_code == 403
    with world.database.read() as session:
        mine = select(func.count()).select_from(Submission).where(Submission.source != "zoo")
        assert session.scalar(mine) == 0
        assert session.scalar(select(func.count()).where(Upload.sha256.is_(None))) == 0


def test_a_file_that_no_track_takes_is_refused_while_it_arrives(
    world: World, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "largest", lambda: 2**20)
    files = {"file": ("big.tar.gz", b"\x1f\x8b" + bytes(3 * 2**20))}
    answer = client.post("/submit", data=fields(client), files=files)
    assert answer.status_code == 413
    assert "which no track takes" in answer.text


def test_nobody_enters_without_an_account(server_url: str, package: Path) -> None:
    with httpx.Client(base_url=server_url, headers={"origin": server_url}) as client:
        assert client.get("/submit").headers["location"] == "/sign-in"
        form = {"track": TRACK, "name": "Ridgeline"}
        answer = client.post("/submit", data=form, files={"file": ("a", package.read_bytes())})
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")


def test_the_same_form_twice_is_one_entry(
    world: World, client: httpx.Client, package: Path
) -> None:
    form, file = fields(client), {"file": ("mine.tar.gz", package.read_bytes())}
    first = client.post("/submit", data=form, files=file)
    assert first.status_code == 303
    again = client.post("/submit", data=form, files=file)
    assert again.headers.get("location", "") in ("", first.headers["location"])
    with world.database.read() as session:
        named = select(func.count()).select_from(Submission).filter_by(name="Ridgeline")
        assert session.scalar(named) == 1


def test_what_waits_and_what_was_printed_is_for_its_owner(
    world: World, client: httpx.Client, server_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "noisy"
    packaging.new("model", folder)
    (folder / "model.py").write_text(
        "print('a secret of its author', flush=True)\nraise SystemExit(3)\n"
    )
    packed = packaging.source_package(folder, tmp_path / "noisy.tar.gz", TRACK)
    file = {"file": ("noisy.tar.gz", packed.read_bytes())}
    address = client.post("/submit", data=fields(client), files=file).headers["location"]
    html = client.get(address).text
    while ">rejected<" not in html:  # the test's own time limit ends a wait in vain
        assert ">validating<" in html
        time.sleep(0.1)
        html = client.get(address).text
    assert "a secret of its author" in html
    assert "a secret of its author" in client.get(f"{address}/log").text
    with httpx.Client(base_url=server_url) as nobody:
        assert nobody.get(address).status_code == 404
        assert nobody.get(f"{address}/live").status_code == 404
        assert nobody.get(f"{address}/log").status_code == 404
