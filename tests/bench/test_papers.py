"""Reproductions: claims follow from distances, cells are what they say, the page shows it all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import bench
from bench import plugins
from bench.errors import UserError
from bench.papers import _abs_claims as claims
from bench.papers import _abs_distal, _abs_table, arxiv_1805_09190
from bench.papers._abs_distal import Sure, distal, recognised
from bench.papers._abs_suite import COLUMNS, NORMS, ROWS, Row, specification
from bench.papers._abs_table import Table
from bench.papers.types import Claim, Reproduction
from bench.reports import reproduction
from bench.reports.blocks import Heading, Paragraph, Pictures
from bench.reports.blocks import Table as TableBlock
from bench.reports.components import Picture

NAMES = [column.name for column in COLUMNS]


def table(**levels: float) -> Table:
    """Every model at the median of its level in each norm, 40 images."""
    spread = np.linspace(0.9, 1.1, 40)
    return Table(
        distances={
            (name, norm): {"some": spread * levels[key], "worse": spread * levels[key] * 2}
            for name, key in zip(NAMES, ("cnn", "bcnn", "nn", "madry", "babs", "abs"), strict=True)
            for norm in NORMS
        },
        runs={},
    )


PUBLISHED_ORDER = table(abs=3.0, nn=2.5, babs=2.0, madry=1.6, cnn=1.0, bcnn=0.9)
REVERSED = table(abs=0.5, nn=1.0, babs=1.2, madry=1.6, cnn=2.0, bcnn=2.5)


def test_a_paper_is_found_by_its_arxiv_id() -> None:
    assert [p.name for p in plugins.plugins("papers")] == [
        "1804.03142",
        "1805.09190",
        "1807.02654",
        "1808.08750",
        "1811.00401",
    ]
    paper = plugins.load_paper("arXiv:1805.09190")
    assert paper.title.startswith("Towards the first adversarially robust")


def test_an_unknown_paper_names_the_near_one() -> None:
    with pytest.raises(UserError, match=r"no paper is called '1805\.09199'; did you mean 1805"):
        plugins.load_paper("1805.09199")


def test_the_least_distance_is_taken_image_by_image_over_the_attacks() -> None:
    one = np.array([1.0, np.inf, 0.0])
    other = np.array([2.0, 3.0, 5.0])
    small = Table(distances={("ABS", "l2"): {"a": one, "b": other}}, runs={})
    assert small.least("ABS", "l2").tolist() == [1.0, 3.0, 0.0]


def test_an_ordering_holds_where_accuracy_falls_along_it_and_not_elsewhere() -> None:
    def l2_ordering(found: Table) -> Claim:
        return next(claim for claim in claims.l2_claims(found) if claim.id == "l2-ordering")

    assert l2_ordering(PUBLISHED_ORDER).holds
    assert not l2_ordering(REVERSED).holds
    assert "ABS 100 %" in str(l2_ordering(PUBLISHED_ORDER).measured)


def test_a_lead_holds_only_where_the_intervals_do_not_overlap() -> None:
    def lead(found: Table) -> bool:
        return next(c for c in claims.l2_claims(found) if c.id == "l2-abs-cnn").holds

    assert lead(PUBLISHED_ORDER)
    assert not lead(REVERSED)
    assert not lead(table(abs=1.001, nn=1, babs=1, madry=1, cnn=1.0, bcnn=1))


def test_the_certificate_does_not_hold_once_an_attack_came_nearer() -> None:
    under = np.full(40, 0.5)
    [claim] = claims.certificate_claims(PUBLISHED_ORDER, under)
    assert claim.holds
    assert claim.measured == pytest.approx(0.5)
    over = under.copy()
    over[3] = 2.9
    [claim] = claims.certificate_claims(PUBLISHED_ORDER, over)
    assert not claim.holds
    assert "on 1" in claim.how


def test_distal_images_have_to_be_recognised_for_abs_and_less_for_the_others() -> None:
    assert claims.distal_claim({"CNN": 0.2, "ABS": 0.9}).holds
    assert not claims.distal_claim({"CNN": 0.9, "ABS": 0.9}).holds
    assert not claims.distal_claim({"CNN": 0.0, "ABS": 0.3}).holds


def test_every_cell_can_be_loaded_as_it_is_written() -> None:
    for column in COLUMNS:
        plugins.parse(column.model)
        for row in ROWS:
            spec = specification(row, column)
            if spec is None:
                assert row.where == "generative"
                assert not column.generative
                continue
            assert plugins.parse(spec).name == (
                "binary_projection" if column.binary else plugins.parse(spec).name
            )
            if column.search is not None and row.where != "draft":
                assert "inference=fast" in spec


class Towards:
    """Class k is sure where pixel k is bright."""

    bounds = (0.0, 1.0)

    def __call__(self, images: Tensor, /) -> Tensor:
        return 20 * images.flatten(1)[:, :3]


def test_a_distal_image_reaches_its_class_and_the_confidence_asked() -> None:
    noise = torch.full((3, 1, 2, 2), 0.1)
    bright = torch.zeros(30, 1, 2, 2)
    bright.view(30, 4)[torch.arange(30), torch.arange(30) % 3] = 0.8
    sure = Sure.on(Towards(), bright)
    found = distal(sure, noise)
    assert (found.confidence >= _abs_distal.CONFIDENCE).all()
    assert (found.images.flatten(1)[range(3), range(3)] > 0.5).all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert (found.steps < _abs_distal.STEPS).all()
    assert torch.equal(noise, torch.full((3, 1, 2, 2), 0.1))


def test_an_image_is_recognised_by_more_than_half_of_the_judges() -> None:
    images = torch.zeros(2, 1, 1, 1)

    def says(labels: list[int]) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(labels), 2).float()

    votes = [lambda _: says([0, 1]), lambda _: says([0, 0]), lambda _: says([1, 0])]
    assert recognised(images, votes).tolist() == [True, False]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduction, Path]:
    """The whole reproduction with three cheap attacks on ten images, played for real."""
    few = (
        Row(name="DeepFool", norm="l2", attack="foolbox:L2DeepFoolAttack"),
        Row(name="FGSM", norm="linf", attack="foolbox:FGSM", where="line"),
        Row(name="Salt", norm="l0", attack="salt_and_pepper:growth_steps=6"),
    )
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_abs_table, "ROWS", few)
        patch.setattr("bench.papers._abs_page.ROWS", few)
        patch.setattr(_abs_distal, "STEPS", 3)
        patch.setattr(arxiv_1805_09190, "CLEAN_BATCH", 40)
        paper = arxiv_1805_09190.create(images=10, clean=20)
        made = paper.reproduce(folder, scale="laptop", processes=1, report=lambda line: None)
    return made, folder


@pytest.mark.slow
def test_the_whole_is_played_and_every_claim_has_its_evidence(
    done: tuple[Reproduction, Path],
) -> None:
    made, folder = done
    assert len({claim.id for claim in made.claims}) == len(made.claims) >= 10
    document = json.loads(json.dumps(made.to_json()))
    assert document["paper"] == "1805.09190"
    assert document["scale"] == "laptop"
    assert set(document["claims"][0]) == {
        "id",
        "claim",
        "published",
        "measured",
        "interval",
        "holds",
        "how",
    }
    runs = list((folder / "10-images").glob("*/outcomes.jsonl"))
    assert len(runs) == len(COLUMNS) * len(NORMS)
    page = reproduction.write_html(made, folder / "report.html").read_text(encoding="utf-8")
    assert made.title in page
    for claim in made.claims:
        assert f'id="{claim.id}"' in page
    assert page.count("<svg") >= len(NORMS)
    assert page.count("data:image/png") > 100


@pytest.mark.slow
def test_abs_withstands_deepfool_better_than_a_cnn_even_on_ten_images(
    done: tuple[Reproduction, Path],
) -> None:
    lead = next(claim for claim in done[0].claims if claim.id == "l2-abs-cnn")
    ours, theirs = (float(part.split()[0]) for part in str(lead.measured).split(" against "))
    assert ours > 1.2 * theirs


def small(holds: bool) -> Reproduction:
    claim = Claim(
        id="one", claim="It <holds>", published=None, measured=0.5, holds=holds, how="by hand"
    )
    dot = Picture("data:image/png;base64,AA==", "7, 1.2")
    return Reproduction(
        paper="1805.09190",
        title="A title",
        scale="laptop",
        claims=(claim, replace(claim, id="two", interval=(0.4, 0.6), holds=True)),
        blocks=(
            Heading("Evidence"),
            Paragraph("Words."),
            TableBlock("Numbers", "Attack", ("CNN",), (("All", ("1.10 / 8 %",)),), (0,)),
            Pictures("Images", ("zero",), (("CNN", (dot,)), ("ABS", (None,)))),
        ),
        seconds=60.0,
    )


def test_the_page_shows_claims_blocks_and_gaps_and_escapes_what_it_is_given() -> None:
    page = reproduction.render(small(holds=False))
    assert "1 of 2 claims hold" in page
    assert "It &lt;holds&gt;" in page
    assert "does not hold" in page
    assert "0.500 [0.400, 0.600]" in page
    assert 'class="score">1.10 / 8 %' in page
    assert 'alt="CNN, zero: 7, 1.2"' in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_command_writes_the_page_and_exits_with_1_where_a_claim_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from bench.cli import app

    class Small:
        title = "A title"
        holds = True

        def reproduce(self, folder: Path, **options: object) -> Reproduction:
            return small(self.holds)

    paper = Small()
    monkeypatch.setattr("bench.plugins.load_paper", lambda name: paper)
    command = ["reproduce", "1805.09190", "--out", str(tmp_path), "--json"]
    good = CliRunner().invoke(app, command)
    assert good.exit_code == 0
    assert json.loads(good.stdout)["claims"][1]["interval"] == [0.4, 0.6]
    assert (tmp_path / "report.html").is_file()
    paper.holds = False
    assert CliRunner().invoke(app, command).exit_code == 1


def test_the_shipped_abs_is_as_accurate_as_its_card_says() -> None:
    import models

    model = models.create("abs", inference="fast")
    data = bench.dataset("mnist5k", split="test").take(200)
    with torch.no_grad():
        right = (model(data.images).argmax(1) == data.targets).double().mean()
    assert float(right) >= 0.95
