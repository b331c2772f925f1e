"""The search for a radius, on images whose smallest one is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from linear import Linear, images
from torch import Tensor

from attacks import Misclassification, Oracle, UsageError
from attacks.radii import check_radii, ladder, smallest_radius

SMALLEST = torch.tensor([0.03, 0.11, 0.19, 0.34, 0.52, 5.0])
N = len(SMALLEST)


def meter(budget: int | None = None) -> Oracle:
    criterion = Misclassification(torch.zeros(N, dtype=torch.int64))
    return Oracle(Linear(), images(N), criterion, norm="linf", budget=budget)


class Attempts:
    """Fools within every radius that is large enough, at that radius or nearer."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self.tried: list[list[float]] = [[] for _ in range(N)]

    def __call__(self, rows: Tensor, radius: Tensor) -> Tensor:
        for row, tried in zip(rows.tolist(), radius.tolist(), strict=True):
            self.tried[row].append(tried)
        smallest = SMALLEST[rows]
        found = smallest + self.share * (radius - smallest)
        return torch.where(radius >= smallest, found, torch.inf)


RADII = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def test_each_image_ends_at_the_first_of_the_radii_that_fools_it() -> None:
    attempts = Attempts()
    found = smallest_radius(meter(), RADII, 0, attempts, images=N)
    assert found.tolist() == pytest.approx([0.1, 0.2, 0.2, 0.4, 0.6, float("inf")])
    assert all(len(tried) < len(RADII) for tried in attempts.tried[:5])
    assert all(len(set(tried)) == len(tried) for tried in attempts.tried)


def test_bisections_close_in_from_above() -> None:
    found = smallest_radius(meter(), RADII, 6, Attempts(), images=N)
    assert (found[:5] >= SMALLEST[:5]).all()
    assert (found[:5] - SMALLEST[:5] < 0.1 / 2**6 + 1e-6).all()
    assert found[5].isinf()


def test_what_was_found_nearer_than_its_radius_saves_tries() -> None:
    far, near = Attempts(), Attempts(share=0.1)
    smallest_radius(meter(), RADII, 0, far, images=N)
    found = smallest_radius(meter(), RADII, 0, near, images=N)
    assert (found[:5] - SMALLEST[:5] < 0.1).all()
    assert sum(map(len, near.tried)) < sum(map(len, far.tried))


def test_an_image_without_a_budget_is_left_alone() -> None:
    oracle = meter(budget=1)
    oracle.labels(images(N)[:2], torch.tensor([0, 1]))
    attempts = Attempts()
    found = smallest_radius(oracle, RADII, 2, attempts, images=N)
    assert attempts.tried[:2] == [[], []]
    assert found[:2].isinf().all()
    assert found[2].isfinite()


def test_the_ladder_ends_at_the_largest_distance_of_the_norm_and_halves_downwards() -> None:
    bounds, shape = (-1.0, 3.0), (3, 4, 5)
    for norm, largest in (("linf", 4.0), ("l2", 4 * 60**0.5), ("l1", 240.0)):
        rungs = ladder(norm, shape, bounds)  # type: ignore[arg-type]
        assert rungs[-1] == pytest.approx(largest)
        assert all(b == pytest.approx(2 * a) for a, b in pairwise(rungs))


@pytest.mark.parametrize("wrong", [(), (0.0, 0.1), (-0.1,), (0.2, 0.1), (0.1, 0.1)])
def test_radii_that_do_not_ascend_from_above_zero_are_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="ascending order"):
        check_radii(wrong)
