from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import all_distances, distance, project
from attacks.types import NORMS, Norm

ORDERS = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}


def pair(seed: int, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(4, channels, 5, 6, generator=generator)
    change = torch.rand(4, channels, 5, 6, generator=generator) - 0.5
    mask = torch.rand(4, channels, 5, 6, generator=generator) < 0.4
    return first, first + change * mask


@pytest.mark.parametrize("norm", NORMS)
def test_distances_of_grey_images_agree_with_numpy(norm: Norm) -> None:
    first, second = pair(0)
    flat = (second - first).flatten(1).double().numpy()
    expected = np.linalg.norm(flat, ord=ORDERS[norm], axis=1)
    assert distance(norm, first, second).numpy() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(all_distances(first, second)[norm], distance(norm, first, second))


def test_l0_counts_a_pixel_once_whatever_its_channels() -> None:
    clean = torch.zeros(1, 3, 2, 2)
    changed = clean.clone()
    changed[0, :, 0, 0] = 0.5
    changed[0, 1, 1, 1] = 0.5
    assert distance("l0", clean, changed).item() == 2


@given(seed=st.integers(0, 1000), radius=st.floats(0.01, 20), norm=st.sampled_from(NORMS))
@settings(deadline=None, max_examples=60)
def test_a_projection_is_inside_the_ball_and_twice_changes_nothing(
    seed: int, radius: float, norm: Norm
) -> None:
    origin, point = pair(seed, channels=3)
    once = project(norm, point, origin, radius)
    assert bool((distance(norm, origin, once) <= radius * (1 + 1e-5) + 1e-6).all())
    assert torch.allclose(project(norm, once, origin, radius), once, atol=1e-6)
    inside = distance(norm, origin, point) <= radius
    assert torch.allclose(once[inside], point[inside], atol=1e-6)


def test_the_l1_projection_is_the_nearest_point_that_a_fine_search_finds() -> None:
    origin = torch.zeros(1, 1, 1, 2)
    point = torch.tensor([[[[0.9, 0.4]]]])
    found = project("l1", point, origin, 0.6).flatten()
    share = torch.linspace(0, 0.6, 60001)
    candidates = torch.stack([share, 0.6 - share], dim=1)
    best = candidates[(candidates - point.flatten()).norm(dim=1).argmin()]
    assert torch.allclose(found, best, atol=3e-4)
