"""The reproduction of 1808.08750: claims follow from trials and grids; the page shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import observers, plugins
from bench.errors import UserError
from bench.papers import _distortions_networks as networks
from bench.papers import _distortions_observers as observed
from bench.papers._distortions_networks import Grid
from bench.papers._seeds import Cells
from bench.papers.types import Reproduction
from bench.reports import reproduction
from bench.training.distorted import CONDITIONS
from bench.training.recipes import recipes


def grid(own: float, other: float, noise: float) -> Grid:
    """Every training at `own` on its own distortions and `other` elsewhere; noise to noise."""
    made: Grid = {}
    for training in recipes("distortion_resnet"):
        cells = {}
        for condition in CONDITIONS:
            value = own if condition == training else other
            noises = ("uniform-noise", "salt-and-pepper")
            if condition in noises and training != condition and training != "plain":
                value = noise
            cells[condition] = Cells((value - 0.01, value, value + 0.01))
        made[training] = cells
    return made


def holding(found: Grid) -> dict[str, bool]:
    return {claim.id: claim.holds for claim in networks.grid_claims(found)}


def test_networks_as_in_the_paper_fulfil_every_claim() -> None:
    assert set(holding(grid(0.85, 0.15, 0.12)).values()) == {True}


def test_claims_fail_where_the_grid_says_otherwise() -> None:
    assert not holding(grid(0.7, 0.15, 0.12))["own-specialised"]
    good_elsewhere = holding(grid(0.85, 0.15, 0.7))
    assert not good_elsewhere["own-uniform-noise-to-salt-and-pepper"]
    assert not good_elsewhere["own-all-but-uniform-noise-to-uniform-noise"]
    assert not good_elsewhere["own-elsewhere"]


def test_intervals_are_students_over_seeds() -> None:
    low, high = Cells((0.1, 0.2, 0.3)).interval or (0.0, 0.0)
    assert low == pytest.approx(0.2 - 4.303 * 0.1 / 3**0.5)
    assert high == pytest.approx(0.2 + 4.303 * 0.1 / 3**0.5)
    assert Cells((0.5,)).interval is None


@pytest.fixture(scope="module")
def done(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """With the shipped networks only, and two photographs."""
    from bench.papers import arxiv_1808_08750

    paper = arxiv_1808_08750.create(trials=str(shared_data), seeds=1, images=2)
    return paper.reproduce(
        tmp_path_factory.mktemp("paper"), scale="laptop", processes=1, report=lambda line: None
    )


def test_everything_recomputed_from_trials_is_as_published(
    done: Reproduction,
) -> None:
    recomputed = {claim.id: claim for claim in done.claims if not claim.id.startswith("own-")}
    assert len(recomputed) == 10
    assert [claim.id for claim in recomputed.values() if not claim.holds] == []
    assert recomputed["trials"].measured == "82,880 trials, 1.8 % without an answer"
    assert recomputed["uniform-noise-to-salt-and-pepper"].measured == "6.2 %"


def test_the_shipped_networks_give_the_networks_claims(done: Reproduction) -> None:
    own = {claim.id: claim for claim in done.claims if claim.id.startswith("own-")}
    assert own["own-specialised"].holds
    assert len(own) == 6


def test_the_page_shows_curves_matrix_and_tables(done: Reproduction) -> None:
    page = reproduction.render(done)
    for text in ("Trained on one distortion", "Eidolon III", "chance 6.2 %", "humans, range"):
        assert text in page
    for text in ("ResNet-152", "model-vs-human", "efficientnet_lite0", "all-but-uniform-noise"):
        assert text in page


def test_trials_that_are_missing_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="put one of them there"):
        observed.analyse(tmp_path, lambda line: None)


def test_the_paper_is_listed() -> None:
    assert plugins.load_paper("1808.08750").title.startswith("Generalisation in humans")
    assert observers.SOURCES["humans"].trials == 82_880
