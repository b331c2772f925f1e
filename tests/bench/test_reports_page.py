"""The report of real runs: a linear model on the digits, attacked by noise and by Foolbox's PGD."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attacks
import bench
from attacks.checks import Finding
from bench.errors import UserError
from bench.match import Match, ThreatModel, play
from bench.playing import score_run
from bench.reports import components, write_html
from bench.runs import Run, RunConfig, versions

IMAGES = 30


class NearestMean:
    """Logits are minus the distance to each class's mean image: a model that errs sometimes."""

    def __init__(self) -> None:
        data = bench.dataset("digits", "train")
        labels = torch.from_numpy(data.labels)
        flat = data.images.flatten(1)
        self._means = torch.stack([flat[labels == k].mean(0) for k in range(10)])

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def __call__(self, images: torch.Tensor, /) -> torch.Tensor:
        return -((images.flatten(1)[:, None] - self._means[None]) ** 2).sum(2)


@dataclass(frozen=True)
class Node:
    """A start tag with its attributes, and the text up to its end."""

    tag: str
    attributes: dict[str, str]


class Page(HTMLParser):
    """All tags, and every table as rows of cell texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._cell: list[str] | None = None
        self._skip = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append(Node(tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag == "style":
            self._skip += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag == "style":
            self._skip -= 1

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text += data
        if self._cell is not None:
            self._cell.append(data)

    def all(self, tag: str) -> list[Node]:
        return [node for node in self.nodes if node.tag == tag]


def run(folder: Path, attack: str, *, epsilon: float | None = None, queries: int = 60) -> Path:
    torch.set_num_threads(1)
    made = attacks.create(attack)
    data = bench.dataset("digits").take(IMAGES)
    threat = ThreatModel(
        norm=made.norm, epsilon=epsilon, access=made.access, max_queries=queries, quantised=True
    )
    config = RunConfig(
        model="nearest_mean",
        attack=attack,
        dataset="digits",
        split="test",
        images=IMAGES,
        norm=threat.norm,
        epsilon=epsilon,
        max_queries=queries,
        targeted=False,
        quantised=True,
        access=threat.access,
        seed=0,
        batch_size=16,
        versions=versions(),
    )
    match = Match(model=NearestMean(), attack=made, dataset=data, threat=threat, seed=0)
    Run.start(folder, config).append(play(match, batch_size=16))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base = tmp_path_factory.mktemp("runs")
    return [
        run(base / "noise", "gaussian_noise"),
        run(base / "tired", "gaussian_noise", queries=3),
        run(base / "pgd", "foolbox:LinfPGD", epsilon=0.1),
    ]


@pytest.fixture(scope="module")
def html(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_html(runs, tmp_path_factory.mktemp("out") / "new" / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def facts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]


def results(page: Page, head: str) -> dict[str, list[str]]:
    """The rows of the results table whose last head but one is `head`, by their name."""
    table = next(table for table in page.tables if head in table[0])
    return {row[0]: row[1:] for row in table[1:]}


def numbers(cell: str) -> list[float]:
    return [float(n) for n in re.findall(r"inf|\d+(?:\.\d+)?", cell)]


def agrees(shown: str, value: float) -> bool:
    """Whether a printed number is `value`, rounded where it was printed."""
    printed = numbers(shown)[0]
    if np.isinf(printed) or np.isinf(value):
        return bool(np.isinf(printed) and np.isinf(value))
    digits = len(shown.split()[0].partition(".")[2])
    return bool(abs(printed - value) <= 0.5 * 10**-digits + 1e-9)


@pytest.mark.parametrize(
    ("index", "head"), [(0, "Median L2"), (1, "Median L2"), (2, "Median Linf")]
)
def test_the_figures_are_those_of_the_raw_lines(
    page: Page, runs: list[Path], index: int, head: str
) -> None:
    rows = list(results(page, head).values())
    row = rows[index] if head == "Median L2" else rows[0]
    lines = facts(runs[index])
    radius = 0.1 if head == "Median Linf" else 1.5
    distances = [np.inf if line["distance"] is None else line["distance"] for line in lines]
    attacked = [line["queries"] for line in lines if line["status"] != "clean_error"]
    assert int(row[0]) == len(lines) == IMAGES
    assert agrees(row[1], float(100 * np.mean([line["clean_correct"] for line in lines])))
    assert agrees(row[2], float(100 * np.mean([d > radius * 1.00001 for d in distances])))
    assert agrees(row[3], float(np.median(distances)))
    assert agrees(row[4], float(np.mean(attacked)))


def test_intervals_and_warnings_are_those_of_the_score(page: Page, runs: list[Path]) -> None:
    for folder in runs:
        loaded = Run.load(folder)
        score = score_run(loaded)
        shown = (
            f"[{components.distance(score.interval[0])}, {components.distance(score.interval[1])}]"
        )
        assert shown in " ".join(page.text.split())
        for warning in score.warnings:
            assert warning in page.text


def test_checks_stand_in_the_report_with_what_failed_first(
    tmp_path: Path, runs: list[Path]
) -> None:
    folder = copy(runs[0], tmp_path / "checked")
    Run.load(folder).keep_checks(
        Finding(name=name, ok=ok, measured=0.25, limit=0.1, text=f"<b>{name}</b> was measured")
        for name, ok in (("noise", True), ("rounding", False))
    )
    page = Page(write_html([folder, runs[2]], tmp_path / "report.html").read_text())
    head = ["Check", "Result", "Measured", "Limit", "What was found"]
    (table,) = [table for table in page.tables if table[0] == head]
    assert table[1:] == [
        ["rounding", "fails", "0.25", "0.1", "<b>rounding</b> was measured"],
        ["noise", "holds", "0.25", "0.1", "<b>noise</b> was measured"],
    ]
    assert "1 of 2 checks failed" in page.text
    assert page.text.count("The soundness checks were not run.") == 1


def test_the_failure_policy_stands_above_the_results(page: Page) -> None:
    assert page.text.count("Failures: infinite; clean errors count as 0.") == 2


def test_a_picture_of_an_adversarial_says_what_the_model_takes_it_for(
    page: Page, runs: list[Path]
) -> None:
    shown = re.findall(
        r"adversarial of (digits-\d+): (\d)$",
        "\n".join(image.attributes["alt"] for image in page.all("img")),
        re.MULTILINE,
    )
    assert len(shown) > 5
    for image_id, label in shown:
        known = {
            o.adversarial_label
            for folder in runs
            for o in Run.load(folder).outcomes
            if o.image_id == image_id and o.success
        }
        assert int(label) in known


def test_the_report_fetches_nothing(html: str, page: Page) -> None:
    for node in page.nodes:
        assert node.tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "xlink:href", "srcset", "poster", "action", "data"):
            address = node.attributes.get(name, "#")
            assert address.startswith(("data:image/png;base64,", "#")), address
        assert not [name for name in node.attributes if name.startswith("on")]
    assert "@import" not in html
    assert all(target.startswith("#c") for target in re.findall(r"url\(([^)]*)\)", html))
    assert set(re.findall(r"https?://[^\"\s<]+", html)) <= {"http://www.w3.org/2000/svg"}


def test_no_path_of_this_machine_is_told(html: str, runs: list[Path]) -> None:
    assert str(runs[0].parent) not in html
    assert str(Path(components.__file__).parents[2]) not in html


def test_runs_of_one_pair_are_told_apart_by_what_differs(page: Page) -> None:
    first, second = results(page, "Median L2")
    assert first.startswith("nearest_mean / gaussian_noise, queries at most 60")
    assert second.startswith("nearest_mean / gaussian_noise, queries at most 3")


def test_every_failure_stands_with_its_reason(page: Page, runs: list[Path]) -> None:
    head = ["Image", "Label", "Queries", "Status", "Reason"]
    shown = [row for table in page.tables if table[0] == head for row in table[1:]]
    failed = [
        [str(line[key]) for key in ("image_id", "clean_label", "queries", "status", "reason")]
        for folder in runs
        for line in facts(folder)
        if not line["success"] and line["status"] != "clean_error"
    ]
    assert failed
    assert shown == failed


def test_each_norm_has_charts_of_its_own(page: Page) -> None:
    titles = re.findall(r"Robust accuracy against epsilon \((\w+)\)", page.text)
    assert titles == ["L2", "Linf"]


def test_every_picture_says_what_it_shows(page: Page) -> None:
    pictures = page.all("img")
    assert len(pictures) > 0
    assert len(pictures) % 3 == 0
    for picture in pictures:
        said = picture.attributes["alt"]
        assert re.match(r"(original|perturbation|adversarial) of digits-\d+: ", said)
        assert picture.attributes["width"] == picture.attributes["height"]


def test_every_table_has_a_caption_and_scoped_heads(page: Page) -> None:
    assert len(page.all("caption")) == len(page.all("table")) == len(page.tables)
    assert all(node.attributes.get("scope") in ("col", "row") for node in page.all("th"))


def test_hostile_names_are_text(tmp_path: Path, runs: list[Path]) -> None:
    loaded = Run.load(runs[1])
    attack = "</style><script>alert(1)</script>"
    reason = "<img src=x onerror=alert(1)>"
    lines = [json.dumps({**line, "reason": reason}) + "\n" for line in facts(runs[1])]
    folder = tmp_path / "hostile"
    folder.mkdir()
    written = {**loaded.config.to_json(), "attack": attack}
    (folder / "run.json").write_text(json.dumps(written))
    (folder / "outcomes.jsonl").write_text("".join(lines))
    hostile = Page(write_html([folder], tmp_path / "report.html").read_text())
    assert not hostile.all("script")
    assert attack in hostile.text
    assert reason in hostile.text
    assert all("onerror" not in image.attributes for image in hostile.all("img"))


def test_a_changed_adversarial_is_not_shown(tmp_path: Path, runs: list[Path]) -> None:
    folder = copy(runs[2], tmp_path / "changed")
    assert Page(write_html([folder], tmp_path / "report.html").read_text()).all("img")
    for file in (folder / "adversarials").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    changed = Page(write_html([folder], tmp_path / "report.html").read_text())
    assert not changed.all("img")
    assert "is not the file that was measured" in changed.text


def test_an_adversarial_outside_of_the_folder_is_not_read(tmp_path: Path, runs: list[Path]) -> None:
    folder = copy(runs[2], tmp_path / "escaping")
    lines = (folder / "outcomes.jsonl").read_text()
    (folder / "outcomes.jsonl").write_text(lines.replace('"adversarials/', '"../adversarials/'))
    escaping = Page(write_html([folder], tmp_path / "report.html").read_text())
    assert not escaping.all("img")
    assert "names a file outside of the run folder" in escaping.text


def test_a_missing_data_set_leaves_the_figures_and_says_why(
    tmp_path: Path, runs: list[Path]
) -> None:
    folder = copy(runs[2], tmp_path / "elsewhere")
    written = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**written, "dataset": "digitz"}))
    page = Page(write_html([folder], tmp_path / "report.html").read_text())
    assert "there is no data set 'digitz'" in page.text
    assert results(page, "Median Linf")


@pytest.mark.parametrize("folders", [[], ["nowhere"], ["empty"]])
def test_nothing_to_report_on_is_the_users_mistake(
    tmp_path: Path, runs: list[Path], folders: Sequence[str]
) -> None:
    copy(runs[0], tmp_path / "empty")
    (tmp_path / "empty" / "outcomes.jsonl").unlink()
    with pytest.raises(UserError, match=r"no run|no outcome"):
        write_html([tmp_path / name for name in folders], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))
