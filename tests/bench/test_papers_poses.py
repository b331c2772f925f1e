"""1804.03142 with short trainings: figures that are kept, claims that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.errors import UserError
from bench.papers import _poses as poses
from bench.papers._seeds import Cells
from bench.papers.arxiv_1804_03142 import create
from bench.reports import reproduction


def test_a_reproduction_goes_on_from_its_figures(tmp_path: Path) -> None:
    said: list[str] = []
    paper = create(seeds=1, steps=2, samples=4)
    done = paper.reproduce(tmp_path, scale="laptop", processes=1, report=said.append)
    assert said == ["frames10-seed0", "frames50-seed0", "frames200-seed0"]
    again = paper.reproduce(tmp_path, scale="laptop", processes=1, report=said.append)

    assert len(said) == 3
    assert [claim.to_json() for claim in again.claims] == [c.to_json() for c in done.claims]
    page = reproduction.render(done)
    assert "found, attacked" in page
    assert "labelled frames" in page
    create(seeds=1, steps=1, samples=4).reproduce(
        tmp_path, scale="laptop", processes=1, report=said.append
    )
    assert len(said) == 6


def grid(**changed: tuple[float, ...]) -> poses.Grid:
    """Where every claim holds, but for what is changed at 200 frames."""
    good = {
        "train": (1.0, 1.1),
        "test": (2.0, 2.01),
        "confident": (1.8, 1.81),
        "without offsets": (3.0, 3.01),
        "attack 8": (20.0, 20.1),
        "noise 8": (2.1, 2.11),
        "attack 8, kept": (0.9, 0.9),
        "attack 8, confident": (19.0, 19.0),
    }
    values = good | {key.replace("_", " "): value for key, value in changed.items()}
    cells = {(200, what): Cells(value) for what, value in values.items()}
    cells |= {(50, "test"): Cells((4.0, 4.01)), (10, "test"): Cells((9.0, 9.01))}
    return poses.Grid(cells, 1.42, 300, 2000)


def holds(made: poses.Grid) -> dict[str, bool]:
    return {claim.id: claim.holds for claim in poses.claims(made)}


def test_claims_follow_from_the_figures() -> None:
    assert all(holds(grid()).values())
    assert not holds(grid(test=(4.5, 4.5)))["frames"]
    assert not holds(grid(test=(2.0, 2.9)))["people"]
    assert not holds(grid(confident=(2.0, 2.01)))["cutoff"]
    assert not holds(grid(without_offsets=(1.9, 2.2)))["offsets"]
    assert not holds(grid(attack_8=(6.0, 6.0)))["attack"]
    seen = {**grid().cells, (200, "attack 8, kept"): Cells((0.2, 0.2))}
    assert not holds(poses.Grid(seen, 1.42, 300, 2000))["confidence"]


def test_marks_are_where_the_joints_are_and_nowhere_else() -> None:
    joints = torch.tensor([[5.5, 3.5], [20.2, 9.9], [0.0, 0.0], [400.0, -3.0]])
    drawn = poses.marked(torch.zeros(3, 16, 24), joints)
    assert drawn[:, 3, 5].tolist() == [1, 0, 0]
    assert drawn[:, 9, 20].tolist() == [0, 1, 0]
    assert int((drawn.sum(0) > 0).sum()) == 5 + 5 + 3


def test_the_full_scale_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not published as one set"):
        create().reproduce(tmp_path, scale="full", processes=1, report=print)
