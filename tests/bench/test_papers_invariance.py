"""The reproduction of 1811.00401: claims follow from what was measured; a small run works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.papers import _invariance_shift as shift
from bench.papers import _invariance_spheres as spheres
from bench.papers import arxiv_1811_00401
from bench.papers._invariance_shift import Grid, Row
from bench.papers._invariance_spheres import Spheres
from bench.papers._seeds import Cells
from bench.papers.types import Claim, Reproduction
from bench.reports import reproduction
from bench.spheres import RADII, sample, true_class
from models.irevnet.architectures import dense


def cells(value: float) -> Cells:
    return Cells((value - 0.01, value, value + 0.01))


def row(d: float, random: float, probe: float) -> Row:
    names = ("mlp", "linear", "nearest neighbour", "mlp, no noise")
    return Row(
        {"test": cells(d), "test-random": cells(random), "test-removed": cells(random)},
        dict.fromkeys(names, cells(probe)),
    )


def grid(**changed: Row) -> Grid:
    rows = {
        "resnet": row(0.01, 0.9, 1.0),
        "ce": row(0.01, 0.9, 1.0),
        "ce-mle": row(0.01, 0.8, 0.99),
        "ice": row(0.02, 0.5, 0.8),
        "ice-mle": row(0.02, 0.4, 0.6),
    }
    rows |= {name.replace("_", "-"): new for name, new in changed.items()}
    return {(variant, loss): made for variant in shift.VARIANTS for loss, made in rows.items()}


def holding(claims: list[Claim]) -> dict[str, bool]:
    return {claim.id: claim.holds for claim in claims}


def test_networks_as_in_the_paper_fulfil_every_claim() -> None:
    found = holding(shift.claims(grid()))
    assert set(found.values()) == {True}
    assert len(found) == 8


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({"ce": row(0.01, 0.15, 1.0)}, {"shift-ce-binary", "shift-ce-textured", "ice-binary"}),
        ({"ice_mle": row(0.05, 0.4, 0.6)}, {"ice-binary", "ice-probe"}),
        ({"ice_mle": row(0.02, 0.65, 0.6)}, {"ice-binary"}),
        ({"ice_mle": row(0.02, 0.82, 0.6)}, {"ice-binary", "ice-credit", "ice-textured"}),
        ({"ice_mle": row(0.02, 0.4, 0.75), "ice": row(0.02, 0.4, 0.75)}, {"ice-probe"}),
        ({"resnet": row(0.01, 0.1, 1.0)}, {"shift-resnet-binary", "shift-resnet-textured"}),
    ],
)
def test_claims_fail_where_the_grid_says_otherwise(
    changed: dict[str, Row], failing: set[str]
) -> None:
    found = holding(shift.claims(grid(**changed)))
    assert failing <= {name for name, holds in found.items() if not holds}
    assert found["ice-probe"] == ("ice-probe" not in failing)


def test_a_network_that_lost_the_class_does_not_count_as_hiding_it() -> None:
    lost = grid(ice=row(0.9, 0.9, 0.1), ice_mle=row(0.02, 0.4, 0.9))
    claim = next(claim for claim in shift.claims(lost) if claim.id == "ice-probe")
    assert not claim.holds
    assert "iCE + MLE" in str(claim.measured)


def test_a_gain_must_be_the_independence_terms_own() -> None:
    same = grid(ce_mle=row(0.01, 0.4, 0.99))
    assert not holding(shift.claims(same))["ice-credit"]


def test_points_on_spheres_have_their_length_and_turn_everywhere() -> None:
    points, labels = sample(1000, torch.Generator().manual_seed(0))
    wanted = torch.tensor(RADII)[labels]
    assert torch.allclose(points.norm(dim=1), wanted, atol=1e-5)
    assert labels.sum() == 500
    assert float(points.mean(0).abs().max()) < 0.01
    assert torch.equal(true_class(points), labels)


def test_a_way_keeps_the_logits_and_ends_with_the_others_nuisance() -> None:
    network = dense(10, steps=2, width=16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    network.eval().requires_grad_(False)
    points, _ = sample(40, generator, dimensions=10)
    ways = spheres.walk(network, points[::2], points[1::2])
    assert torch.allclose(ways[0], points[::2], atol=1e-5)
    for place in ways:
        assert torch.allclose(network(place), network(points[::2]), atol=1e-4)
    end, donor = network.encode(ways[-1]), network.encode(points[1::2])
    assert torch.allclose(end.nuisance, donor.nuisance, atol=1e-4)


def test_the_claim_on_spheres_needs_a_good_network_and_the_same_logits() -> None:
    good = Spheres(
        error=0.001,
        reached=np.array([True] * 9 + [False]),
        lengths=np.linspace(1, 1.5, spheres.ALONG),
        logit_error=1e-6,
        planes=(),
    )
    assert spheres.claims(good)[0].holds
    for bad in (
        replace(good, error=0.1),
        replace(good, logit_error=0.1),
        replace(good, reached=np.array([False] * 9 + [True])),
    ):
        assert not spheres.claims(bad)[0].holds


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """One pass over shiftMNIST, few pairs, an untrained network on spheres."""
    folder = tmp_path_factory.mktemp("reproduction")
    small = arxiv_1811_00401.create(seeds=1, epochs=1, images=200, pairs=40, steps=20)
    found = small.reproduce(folder, scale="laptop", processes=1, report=print)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("shift/*.json")}
    assert len(kept) == 10
    again = shift.train_all(folder, "laptop", [0], 1, print, epochs=1, images=200)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # it went on, not again
    assert set(shift.claims(again)) <= set(found.claims)
    return found


def test_a_small_run_has_all_claims_and_a_page(done: Reproduction, tmp_path: Path) -> None:
    ids = [claim.id for claim in done.claims]
    assert ids[:4] == ["metamers", "ice-metamers", "clean-accuracy", "spheres"]
    assert len(ids) == len(set(ids)) == 12
    by_id = {claim.id: claim for claim in done.claims}
    assert by_id["metamers"].holds  # the shipped network
    assert not by_id["spheres"].holds  # after 20 steps
    html = reproduction.write_html(done, tmp_path / "report.html").read_text()
    for text in ("Error on binary shiftMNIST", "nearest neighbour", "Adversarial spheres", "donor"):
        assert text in html
    assert html.count("<img") > 80
