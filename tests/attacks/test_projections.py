"""Projections within the box, against a solver of each problem on a few values."""

from __future__ import annotations

import pytest
import torch
from linear import Linear, images
from scipy.optimize import (
    LinearConstraint,
    linprog,
    minimize,
)
from torch import Tensor

from attacks import Misclassification, Oracle, distance, project, quantise
from attacks.projections import as_sent, onto_hyperplane, onto_l1_ball, sendable
from attacks.types import Norm

BOUNDS = (-1.0, 2.0)
N, D = 12, 5


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


POINTS = random(0, N, D) * 3 - 1
NORMALS = random(1, N, D) * 2 - 1
NORMALS[::3, 1] = 0
VALUES = random(2, N) * 2 - 1


def smallest(norm: Norm, point: Tensor, normal: Tensor, value: float) -> float | None:
    """The least norm of a change within the box that brings value + normal . change to 0."""
    low, high = (BOUNDS[0] - point).numpy(), (BOUNDS[1] - point).numpy()
    w, eye = normal.numpy(), torch.eye(D).numpy()
    if norm == "l2":
        found = minimize(
            lambda z: float(z @ z),
            0 * w,
            jac=lambda z: 2 * z,
            bounds=list(zip(low, high, strict=True)),
            constraints=LinearConstraint(w[None], -value, -value),
            method="SLSQP",
        )
        return float(found.fun) ** 0.5 if found.success else None
    if norm == "linf":  # the change and its largest size
        bounds = [*zip(low, high, strict=True), (0, None)]
        ones = torch.ones(D, 1).numpy()
        above = torch.cat([torch.tensor(eye), -torch.tensor(ones)], 1)
        below = torch.cat([-torch.tensor(eye), -torch.tensor(ones)], 1)
        solved = linprog(
            [0] * D + [1],
            A_ub=torch.cat([above, below]).numpy(),
            b_ub=[0] * (2 * D),
            A_eq=[[*w, 0]],
            b_eq=[-value],
            bounds=bounds,
        )
    else:  # what goes up and what goes down
        bounds = [(0, h) for h in high] + [(0, -v) for v in low]
        solved = linprog([1] * (2 * D), A_eq=[[*w, *-w]], b_eq=[-value], bounds=bounds)
    return float(solved.fun) if solved.status == 0 else None


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_change_onto_a_hyperplane_is_the_smallest_within_the_box(norm: Norm) -> None:
    change = onto_hyperplane(norm, POINTS, NORMALS, VALUES, BOUNDS)
    moved = POINTS + change
    assert (moved >= BOUNDS[0] - 1e-6).all()
    assert (moved <= BOUNDS[1] + 1e-6).all()
    size = distance(norm, torch.zeros(N, 1, 1, D), change.view(N, 1, 1, D))
    left = VALUES + (NORMALS * change).sum(1)
    reached = 0
    for i in range(N):
        best = smallest(norm, POINTS[i], NORMALS[i], float(VALUES[i]))
        if best is not None:
            reached += 1
            assert abs(float(left[i])) < 1e-5
            assert float(size[i]) == pytest.approx(best, abs=1e-4)
    assert reached > N / 2


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_hyperplane_out_of_reach_is_approached_as_far_as_the_box_allows(norm: Norm) -> None:
    far = torch.full((N,), 100.0, dtype=torch.float64)
    change = onto_hyperplane(norm, POINTS, NORMALS, far, BOUNDS)
    corner = torch.where(NORMALS > 0, BOUNDS[0], BOUNDS[1])
    expected = torch.where(NORMALS == 0, 0.0, corner - POINTS)
    assert torch.allclose(change, expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_a_normal_nothing_changes_and_tiny_ones_do_not_vanish(norm: Norm) -> None:
    nothing = onto_hyperplane(norm, POINTS, torch.zeros_like(NORMALS), VALUES, BOUNDS)
    assert torch.equal(nothing, torch.zeros_like(POINTS))
    points, normals, values = POINTS.float(), NORMALS.float(), VALUES.float()
    usual = onto_hyperplane(norm, points, normals, values, BOUNDS)
    tiny = onto_hyperplane(norm, points, normals * 1e-30, values * 1e-30, BOUNDS)
    assert torch.allclose(tiny, usual, atol=1e-4)


def test_the_l1_projection_is_the_nearest_point_of_ball_and_box() -> None:
    origins, points = POINTS, POINTS + random(3, N, D) * 4 - 2
    radius = random(4, N) * 2 + 0.1
    found = onto_l1_ball(points, origins, radius, BOUNDS)
    assert ((found - origins).abs().sum(1) <= radius + 1e-6).all()
    assert (found >= BOUNDS[0] - 1e-6).all()
    assert (found <= BOUNDS[1] + 1e-6).all()
    for i in range(N):  # what goes up and what goes down, as above
        clean, point = origins[i].numpy(), points[i].numpy()
        solved = minimize(
            lambda z, c=clean, p=point: float(((c + z[:D] - z[D:] - p) ** 2).sum()),
            [1e-3] * (2 * D),
            bounds=[(0, BOUNDS[1] - v) for v in clean] + [(0, v - BOUNDS[0]) for v in clean],
            constraints=LinearConstraint([[1] * (2 * D)], 0, float(radius[i])),
            method="SLSQP",
        )
        assert float(((found[i] - points[i]) ** 2).sum()) <= solved.fun + 1e-5


def test_the_l1_projection_leaves_a_point_inside_alone_and_repeats_itself() -> None:
    points, radius = POINTS + 0.01, torch.full((N,), 0.5)
    points = points.clamp(*BOUNDS)
    assert torch.allclose(onto_l1_ball(points, POINTS, radius, BOUNDS), points)
    once = onto_l1_ball(points + 3, POINTS, radius, BOUNDS)
    assert torch.allclose(onto_l1_ball(once, POINTS, radius, BOUNDS), once, atol=1e-6)


def meter(*, quantised: bool) -> Oracle:
    batch = images()
    labels = torch.zeros(len(batch), dtype=torch.int64)
    return Oracle(Linear(), batch, Misclassification(labels), norm="l2", quantised=quantised)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_is_sent_on_a_quantised_track_lies_on_the_lattice_and_in_the_ball(norm: Norm) -> None:
    batch = images()
    radius = torch.full((len(batch),), {"linf": 0.022, "l2": 0.1, "l1": 2.0}[norm])
    noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    tried = project(norm, batch + noise, batch, radius)
    sent = sendable(meter(quantised=True), tried, batch, norm, radius)
    assert torch.equal(sent, quantise(sent))
    assert (distance(norm, batch, sent) <= radius * (1 + 1e-5)).all()
    assert (distance(norm, batch, sent) > 0).any()
    assert not torch.equal(sent, quantise(tried))  # plain rounding leaves the ball
    assert torch.equal(as_sent(meter(quantised=True), tried), quantise(tried))


def test_elsewhere_any_value_is_sent_as_it_is() -> None:
    batch = images() + 0.0001
    radius = torch.ones(len(batch))
    assert sendable(meter(quantised=False), batch, images(), "l2", radius) is batch
    assert as_sent(meter(quantised=False), batch) is batch
