"""Square beyond what is held to in test_white_box.py: its squares, its schedule, its budget."""

from __future__ import annotations

import pytest
import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import Misclassification, Oracle, perturb
from attacks.random import ImageRandom
from attacks.square import Square, _bump, _l2_windows, _linf_square


class Recorded(Linear):
    """Nothing fools it; it keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __call__(self, asked: Tensor, /) -> Tensor:
        self.seen.append(asked.clone())
        logits = super().__call__(asked)
        return torch.cat([logits, torch.full((len(asked), 1), 1e3)], dim=1)


def asked(norm: str, *, n: int = 4, queries: int = 40, epsilon: float = 0.05) -> list[Tensor]:
    """All batches that an attack on n images asks."""
    model, batch = Recorded(), images(n)
    criterion = Misclassification(torch.full((n,), 3))
    meter = Oracle(model, batch, criterion, norm="linf", access="score")
    attack = attacks.create("square", norm=norm, queries=queries)
    random = ImageRandom.of(0, [str(i) for i in range(n)])
    attack.run(meter, batch, criterion, epsilon=epsilon, random=random)
    return model.seen


def test_it_starts_from_vertical_stripes_at_the_corners_of_the_ball() -> None:
    start = asked("linf")[0] - images(4)
    assert torch.allclose(start.abs(), torch.full_like(start, 0.05), atol=1e-6)
    assert torch.allclose(start, start[:, :, :1].expand_as(start), atol=1e-6)
    assert not torch.allclose(start[0], start[1])  # each image has its own


def test_every_query_lies_on_the_sphere_or_at_the_corners() -> None:
    for tried in asked("linf"):
        assert torch.allclose((tried - images(4)).abs(), torch.tensor(0.05), atol=1e-6)
    for tried in asked("l2", epsilon=0.3):
        length = (tried - images(4)).flatten(1).norm(dim=1)
        assert torch.allclose(length, torch.tensor(0.3), atol=1e-4)


def test_a_square_of_each_image_is_of_its_side_and_in_its_own_place() -> None:
    clean = torch.full((200, 2, 7, 9), 0.5)
    numbers = torch.rand(200, 7, generator=torch.Generator().manual_seed(0))
    sides = torch.tensor([1, 3, 7, 2]).repeat(50)
    radius = torch.full((200, 1, 1, 1), 0.1)
    change = _linf_square(clean, clean.clone(), radius, sides, numbers) - clean
    touched = (change != 0).any(1)
    for axis, size in ((1, 7), (2, 9)):
        spans = touched.any(3 - axis)  # (n, size)
        assert torch.equal(spans.sum(1), sides)
        assert spans[sides == 2].any(0).sum() == size  # every border can be reached
    assert torch.equal(touched.sum((1, 2)), sides**2)
    for channel in range(2):  # one sign for a channel
        signs = change[:, channel].sign()
        assert torch.equal(signs.flatten(1).sum(1).abs(), (sides**2).float())


def test_a_bump_is_a_peak_and_its_negative_of_length_one() -> None:
    for side in (3, 4, 7):
        bump = _bump(side)
        assert float(bump.norm()) == pytest.approx(1.0)
        assert (bump[: side // 2] > 0).all()
        assert (bump[side // 2 :] < 0).all()


def test_moving_change_between_windows_spends_the_whole_radius_and_no_more() -> None:
    generator = torch.Generator().manual_seed(1)
    change = torch.randn(50, 3, 8, 8, generator=generator)
    change *= 0.7 / change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    numbers = torch.rand(50, 8, generator=generator)
    moved = _l2_windows(change, torch.ones(50, 1, 1, 1), 3, numbers)
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.ones(50), atol=1e-4)
    same = (moved == change).all(1)
    assert (same.sum((1, 2)) >= 64 - 2 * 9).all()


def test_the_sides_shrink_over_the_queries_that_an_image_has() -> None:
    attack = Square()
    long, short = torch.tensor([10000]), torch.tensor([100])
    sides = [int(attack._sides(step, long, 28, 28)) for step in (0, 11, 51, 501, 8001)]
    assert sides == [25, 18, 13, 6, 1]  # sqrt(0.8 * 784), and half the area, a quarter, ...
    assert int(attack._sides(80, short, 28, 28)) == int(attack._sides(8000, long, 28, 28))
    both = attack._sides(80, torch.tensor([100, 10000]), 28, 28)
    assert both[0] < both[1]
    odd = Square(norm="l2")._sides(9999, long, 28, 28)
    assert int(odd) == 3


def test_queries_are_shared_between_the_radii_and_end_with_the_budget() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    attack = attacks.create("square", queries=120)
    free = perturb(attack, model, batch, labels)
    held = perturb(attack, model, batch, labels, budget=50)
    assert (free.queries <= 120).all()
    assert (held.queries <= 50).all()
    assert free.success.all()
    assert free.distance.median() <= held.distance.median()


@pytest.mark.parametrize("shape", [(1, 2, 9), (3, 5, 4), (1, 1, 1)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_of_any_shape_are_taken(norm: str, shape: tuple[int, int, int]) -> None:
    class Sums:
        bounds = (0.0, 1.0)

        def __call__(self, asked: Tensor, /) -> Tensor:
            total = asked.flatten(1).mean(1)
            return torch.stack([total, 1 - total], dim=1)

    batch = torch.full((2, *shape), 0.52)
    attack = attacks.create("square", norm=norm, queries=200)
    epsilon = 0.2 if norm == "linf" else 0.2 * torch.Size(shape).numel() ** 0.5
    result = perturb(attack, Sums(), batch, torch.tensor([0, 0]), epsilon=epsilon)
    assert result.images.isfinite().all()
    assert result.success.any()
