"""The pages in a real Chromium, against the real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect

if TYPE_CHECKING:
    from .conftest import World

MODEL_TRACK = "mnist5k-robust-model"
BOARD = f"/boards/{MODEL_TRACK}"


def names(page: Page) -> list[str]:
    return page.locator("#board tbody th a").all_inner_texts()


def test_a_result_appears_on_the_open_board_by_itself(world: World, page: Page) -> None:
    world.play()
    page.goto(BOARD)
    expect(page.locator("#live-state")).to_have_text("live")
    assert names(page) == ["small_cnn", "small_cnn:training=pgd"]
    page.evaluate("window.sameDocument = true")
    world.enter("Ridgeline", MODEL_TRACK)
    row = page.locator("#board tbody tr", has_text="Ridgeline")
    expect(row).to_contain_text("0 of 2 matches", timeout=30_000)
    world.play(strength=3)
    expect(page.locator("#board tbody tr").first).to_contain_text("Ridgeline", timeout=30_000)
    expect(page.locator("#live-said")).to_contain_text("Board updated: Ridgeline")
    expect(page.locator("#live-said")).to_contain_text("Ridgeline leads with")
    expect(page.locator(".matrix tbody th").first).to_have_text("Ridgeline")
    assert page.evaluate("window.sameDocument") is True


def test_a_paused_board_waits_until_it_is_resumed(world: World, page: Page) -> None:
    world.play()
    page.goto(BOARD)
    expect(page.locator("#live-state")).to_have_text("live")
    page.get_by_role("button", name="Pause updates").click()
    expect(page.locator("#live-state")).to_have_text("paused")
    world.enter("Ridgeline", MODEL_TRACK)
    page.wait_for_timeout(700)  # several times the server's and the script's pauses
    assert "Ridgeline" not in names(page)
    page.get_by_role("button", name="Resume updates").click()
    expect(page.locator("#board")).to_contain_text("Ridgeline", timeout=30_000)


def test_a_board_sorts_by_keyboard_and_stays_sorted_over_updates(world: World, page: Page) -> None:
    world.play()
    page.goto(BOARD)
    expect(page.locator("#live-state")).to_have_text("live")
    page.evaluate("window.sameDocument = true")
    page.locator("#board").get_by_role("link", name="Entry").focus()
    page.keyboard.press("Enter")
    head = page.locator("#board thead th", has_text="Entry")
    expect(head).to_have_attribute("aria-sort", "ascending")
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert names(page) == ["small_cnn:training=pgd", "small_cnn"]
    assert page.url.endswith(f"{BOARD}?sort=entry&order=desc")
    world.enter("zebra", MODEL_TRACK)
    expect(page.locator("#board tbody tr").first).to_contain_text("zebra", timeout=30_000)
    expect(head).to_have_attribute("aria-sort", "descending")
    assert page.evaluate("document.activeElement.dataset.focus") == "sort-entry"
    page.locator("#board").get_by_role("link", name="Score").click()
    expect(page.locator("#board thead th", has_text="Score")).to_have_attribute(
        "aria-sort", "ascending"
    )
    expect(head).not_to_have_attribute("aria-sort", "descending")
    assert names(page)[-1] == "zebra"  # without a score: last, whichever way
    page.go_back()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert page.evaluate("window.sameDocument") is True
    page.reload()
    assert names(page)[0] == "zebra"  # the address says it all


def test_a_filter_is_an_address_that_shows_the_same_to_others(world: World, page: Page) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK, owner="grace")
    world.enter("Ridge and furrow", MODEL_TRACK)
    world.play()
    page.goto(BOARD)
    page.get_by_label("Name or team").fill("RIDGE")
    page.get_by_role("combobox", name="By").select_option("entry")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#board caption")).to_contain_text("2 of 4 entries")
    assert names(page) == ["Ridge and furrow", "Ridgeline"]
    expect(page.locator("#live-state")).to_have_text("live")
    ranks = page.locator("#board tbody td[data-label=Rank]").all_inner_texts()
    assert ranks == ["4", "1"]  # of the whole board
    with page.expect_download() as caught:
        page.get_by_role("link", name="CSV").click()
    text = caught.value.path().read_text().splitlines()
    assert [line.split(",")[1] for line in text[1:]] == ["Ridge and furrow", "Ridgeline"]
    page.goto(f"{BOARD}?q=grace&who=participants&utm_source=elsewhere")
    assert names(page) == ["Ridgeline"]
    page.goto(f"{BOARD}?q=nobody+has+this+name")
    expect(page.locator(".empty").first).to_contain_text("None of the 4 entries is like that.")
    page.get_by_role("link", name="Show them all").click()
    assert len(names(page)) == 4


def test_an_update_does_not_take_away_what_somebody_is_typing(world: World, page: Page) -> None:
    world.play()
    page.goto(BOARD)
    expect(page.locator("#live-state")).to_have_text("live")
    page.get_by_label("Name or team").press_sequentially("Rid")
    world.enter("Ridgeline", MODEL_TRACK)
    expect(page.locator("#board")).to_contain_text("Ridgeline", timeout=30_000)
    page.keyboard.type("ge")
    expect(page.get_by_label("Name or team")).to_have_value("Ridge")
    page.keyboard.press("Enter")
    expect(page.locator("#board caption")).to_contain_text("1 of 3 entries")


def test_everything_works_without_javascript(
    world: World, browser: Browser, server_url: str
) -> None:
    world.play()
    context = browser.new_context(base_url=server_url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("link", name="Robust models on MNIST (5,000)").click()
    expect(page.locator("#board tbody tr")).to_have_count(2)
    expect(page.locator("#live-bar")).to_be_hidden()
    page.get_by_label("State").select_option("playing")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator(".empty").first).to_contain_text("None of the 2 entries is like that.")
    page.get_by_role("link", name="Show them all").click()
    page.locator("#board").get_by_role("link", name="Clean accuracy").click()
    assert page.url.endswith("?sort=accuracy")
    page.locator("#board tbody tr").first.get_by_role("link", name="boundary", exact=True).click()
    expect(page.locator("h1")).to_contain_text("against boundary")
    expect(page.get_by_role("img", name="Robust accuracy against epsilon (L2)")).to_be_visible()
    page.locator("details summary").first.click()
    expect(page.locator("details table").first).to_be_visible()
    page.locator("main").get_by_role("link", name="small_cnn").first.click()
    expect(page.locator("h2", has_text="Provenance")).to_be_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways(world: World, page: Page, width: int, scheme: str) -> None:
    world.play()
    world.enter("an entry with a name of unusual length by a team of many words", MODEL_TRACK)
    world.enter("Unbreakablenamewithoutanyspaceinitwhatsoeverforfortyletters", MODEL_TRACK)
    world.play(sandbox="process")
    world.enter("waiting", MODEL_TRACK)
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    match = world.match_id("small_cnn", "boundary")
    entry = world.entry_id("small_cnn")
    final = world.round("final")
    for path in (
        "/", BOARD, f"{BOARD}?q=line&sort=score", f"{BOARD}/matrix", f"{BOARD}/history",
        f"/matches/{match}", f"/entries/{entry}", "/queue",
        f"/rounds/{final}", f"/rounds/{final}{BOARD}",
    ):  # fmt: skip
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == width, path


def test_pictures_of_the_gallery_load_and_are_not_smoothed(world: World, page: Page) -> None:
    world.play()
    page.goto(f"/matches/{world.match_id('small_cnn', 'boundary')}")
    pictures = page.locator(".gallery img")
    assert pictures.count() == 18
    for index in range(18):
        pictures.nth(index).scroll_into_view_if_needed()
        expect(pictures.nth(index)).to_have_js_property("naturalWidth", 28)
    drawn = pictures.first.evaluate("image => getComputedStyle(image).imageRendering")
    assert drawn == "pixelated"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_finds_nothing_on_any_page(world: World, page: Page, width: int, scheme: str) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK)
    world.play(sandbox="process")
    world.enter("crashy", MODEL_TRACK)
    world.fail("exit code 1")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    match = world.match_id("Ridgeline", "boundary")
    entry = world.entry_id("Ridgeline")
    final = world.round("final")
    for path in (
        "/", BOARD, f"{BOARD}?q=line&sort=score", f"{BOARD}/matrix", f"{BOARD}/history",
        f"/matches/{match}", f"/entries/{entry}", "/queue",
        f"/rounds/{final}", f"/rounds/{final}{BOARD}",
    ):  # fmt: skip
        page.goto(path)
        if path == BOARD:
            expect(page.locator("#live-state")).to_have_text("live")
        found = Axe().run(page).response["violations"]
        told = [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]
        assert told == [], path
