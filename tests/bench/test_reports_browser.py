"""The report in a real browser, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, sync_playwright

from bench.reports import write_html
from bench.runs import Run, RunConfig


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs with long names, from outcome lines written by hand."""
    base = tmp_path_factory.mktemp("browser")
    folders: list[Path] = []
    for model in ("small_cnn", "small_cnn:training=pgd,epsilon=0.3"):
        for attack in ("boundary", "foolbox:L2CarliniWagnerAttack:steps=200,stepsize=0.02"):
            folders.append(base / str(len(folders)))
            _write(folders[-1], model, attack, scale=len(folders))
    return write_html(folders, base / "report.html")


def _write(folder: Path, model: str, attack: str, scale: int) -> None:
    config = RunConfig(
        model=model,
        attack=attack,
        dataset="digits",
        split="test",
        images=9,
        norm="l2",
        epsilon=None,
        max_queries=1000,
        targeted=False,
        quantised=False,
        access="decision",
        seed=0,
        batch_size=64,
        versions={"python": "3"},
    )
    Run.start(folder, config)
    line = (
        '{{"image_id": "digits-{0:04}", "clean_label": 1, "predicted": 1, "clean_correct": true, '
        '"target": null, "success": {1}, "distance": {2}, "distances": null, "queries": 900, '
        '"gradients": 0, "seconds": 0.1, "status": "{3}", "reason": null, "adversarial": null, '
        '"trace": [[3, 9.0], [{4}, {5}]]}}\n'
    )
    with (folder / "outcomes.jsonl").open("w") as lines:
        for i in range(9):
            distance = 0.3 * scale + i
            words = ("true", distance, "success") if i else ("false", "null", "failed")
            lines.write(line.format(i, words[0], words[1], words[2], 10 + i, distance))


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_opens_offline_and_fits_the_screen(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        offline=True,
    )
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(message.text)

    page.on("console", listen)
    page.goto(report.as_uri())
    assert page.locator("h1").inner_text() == "2 models against 2 attacks"
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(21, 23, 26)" if scheme == "dark" else "rgb(251, 250, 247)")
    line = page.locator("svg.chart .mark-line path[stroke]").first
    drawn = line.evaluate("element => getComputedStyle(element).stroke")
    assert drawn == ("rgb(106, 180, 240)" if scheme == "dark" else "rgb(11, 107, 181)")
    context.close()


def test_text_is_large_enough_on_a_phone(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(report.as_uri())
    sizes = page.locator("svg.chart").evaluate_all(
        "charts => charts.map(c => 13 * c.getBoundingClientRect().width / c.viewBox.baseVal.width)"
    )
    assert len(sizes) == 3
    assert min(sizes) >= 9.0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_finds_nothing_in_the_report(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(report.as_uri())
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
    context.close()
