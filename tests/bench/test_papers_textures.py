"""1807.02654 on a few samples: claims with figures, facts that are taken again, pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.papers.arxiv_1807_02654 import create
from bench.reports import reproduction


def test_a_reproduction_goes_on_from_its_facts(tmp_path: Path) -> None:
    said: list[str] = []
    paper = create(seeds=1, samples=2)
    done = paper.reproduce(tmp_path, scale="laptop", processes=1, report=said.append)
    assert said == ["seed0-new", "seed0-test", "seed0-photographs", "seed0-attacks"]
    again = paper.reproduce(tmp_path, scale="laptop", processes=1, report=said.append)

    assert len(said) == 4
    assert [claim.to_json() for claim in again.claims] == [c.to_json() for c in done.claims]
    assert {claim.id for claim in done.claims} >= {"learned-photographs", "attack-reference"}
    page = reproduction.render(done)
    assert "found then" in page
    assert "IoU" in page


def test_the_full_scale_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="photographs of textures are not named"):
        create().reproduce(tmp_path, scale="full", processes=1, report=print)
