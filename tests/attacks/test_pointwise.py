from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from linear import Linear, images

import attacks
from attacks import Misclassification, Oracle, UsageError, perturb
from attacks.pointwise import PROBE, Pointwise


@dataclass(frozen=True)
class Given:
    """A start that is known beforehand."""

    images: torch.Tensor
    norm: attacks.Norm = "l0"
    access: attacks.Access = "decision"

    def run(self, model: Oracle, *_: object, **__: object) -> torch.Tensor:
        return self.images


class FewPixels(Linear):
    """Adversarial when enough of certain pixels are bright: the smallest sets are known."""

    wanted = (3, 8, 17, 20, 33)

    def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
        self.asked += len(asked)
        flat = asked.flatten(1)
        bright = (flat[:, self.wanted] > 0.9).sum(1)
        fooled = (bright >= 3) | (flat[:, 0] > 0.9) & (flat[:, 1] > 0.9)
        return torch.stack([~fooled, fooled], dim=1).float()


WHITE = torch.ones(12, 1, 6, 6)
ZEROS = torch.zeros(12, dtype=torch.int64)


def test_what_is_left_is_minimal_no_single_pixel_can_be_reset() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    result = perturb(attacks.create("pointwise"), model, batch, labels)
    assert result.success.all()
    for clean, found, label in zip(batch, result.images, labels, strict=True):
        for pixel in (found != clean).flatten().nonzero().flatten().tolist():
            reset = found.clone()
            reset.view(-1)[pixel] = clean.view(-1)[pixel]
            assert model(reset.unsqueeze(0)).argmax(1) == label


def test_it_ends_at_one_of_the_known_minimal_sets() -> None:
    start = Given(WHITE)
    result = perturb(Pointwise(start=start), FewPixels(), images(), ZEROS)
    assert set(result.distance.tolist()) <= {2.0, 3.0}
    # Exchanges leave the larger kind of set; many of them find the smallest one.
    result = perturb(Pointwise(start=start, restarts=15), FewPixels(), images(), ZEROS)
    assert result.distance.tolist() == [2.0] * 12


def test_two_pixels_are_found_as_brute_force_finds_them() -> None:
    class Two(Linear):
        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            flat = asked.flatten(1)
            fooled = flat[:, 7] - flat[:, 22] > 0.8
            return torch.stack([~fooled, fooled], dim=1).float()

    batch = images()
    best = torch.full((12,), torch.inf)
    for first, second in itertools.combinations(range(36), 2):
        for low, high in itertools.product((0.0, 1.0), repeat=2):
            tried = batch.flatten(1).clone()
            tried[:, first], tried[:, second] = low, high
            best[Two()(tried).argmax(1) == 1] = 2
    salted = torch.where(torch.arange(36).view(6, 6) % 4 == 3, 1.0, batch)
    salted[:, :, 3, 4] = 0.0  # pixel 22
    result = perturb(Pointwise(start=Given(salted)), Two(), batch, ZEROS)
    assert torch.equal(result.distance, best)


def test_it_asks_far_less_than_once_a_pixel_and_round() -> None:
    model = FewPixels()
    result = perturb(Pointwise(start=Given(WHITE), exchanges=0), model, images(), ZEROS)
    # One pixel at a time it would be 36 and then once more for each that stays.
    assert (result.queries <= 34).all()
    assert result.queries.float().mean() < 24


def test_the_l2_phase_ends_at_the_edge_of_every_pixel() -> None:
    class Threshold(Linear):
        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            fooled = (asked.flatten(1)[:, [5, 30]] > 0.75).all(1)
            return torch.stack([~fooled, fooled], dim=1).float()

    batch = images()
    result = perturb(Pointwise(norm="l2", start=Given(WHITE)), Threshold(), batch, ZEROS)
    flat, clean = result.images.flatten(1), batch.flatten(1)
    assert (flat != clean).sum(1).tolist() == [2] * 12
    assert (flat[:, [5, 30]] > 0.75).all()
    assert (flat[:, [5, 30]] < 0.75 + PROBE).all()


def test_after_the_l2_phase_no_pixel_can_be_shrunk_by_a_probe() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    result = perturb(attacks.create("pointwise", norm="l2"), model, batch, labels)
    fewest = perturb(attacks.create("pointwise"), model, batch, labels)
    assert (result.images - batch).square().sum() < (fewest.images - batch).square().sum()
    for clean, found, label in zip(batch, result.images, labels, strict=True):
        change = (found - clean).flatten()
        for pixel in change.nonzero().flatten().tolist():
            less = change.clone()
            less[pixel] *= 1 - PROBE / max(PROBE, abs(float(change[pixel])))
            shrunk = clean + less.view(clean.shape)
            assert model(shrunk.unsqueeze(0)).argmax(1) == label


def test_a_pixel_that_is_stuck_is_probed_once_when_nothing_has_changed_since() -> None:
    class Full(Linear):
        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            self.asked += len(asked)
            fooled = (asked.flatten(1)[:, 4:12] == 1).all(1)
            return torch.stack([~fooled, fooled], dim=1).float()

    start = Given(WHITE)
    fewest = perturb(Pointwise(start=start), Full(), images(), ZEROS)
    result = perturb(Pointwise(norm="l2", start=start), Full(), images(), ZEROS)
    assert (result.queries - fewest.queries).tolist() == [8] * 12


def test_more_restarts_are_never_worse_and_a_radius_stops_early() -> None:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    one = perturb(attacks.create("pointwise"), model, batch, labels)
    many = perturb(attacks.create("pointwise", restarts=4), model, batch, labels)
    assert (many.distance <= one.distance).all()
    early = perturb(attacks.create("pointwise", restarts=4), model, batch, labels, epsilon=9)
    assert (early.distance <= 9).all()
    assert early.queries.sum() < many.queries.sum()


def test_all_channels_of_a_pixel_are_reset_together() -> None:
    class Colour:
        bounds = (0.0, 1.0)

        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            fooled = asked[:, :, 1, 1].sum(1) > 2.5
            return torch.stack([~fooled, fooled], dim=1).float()

    clean = torch.full((2, 3, 4, 4), 0.5)
    result = perturb(
        Pointwise(start=Given(torch.ones_like(clean))), Colour(), clean, torch.zeros(2).long()
    )
    assert result.distance.tolist() == [1.0, 1.0]
    assert (result.images != clean).any(1).flatten(1).sum(1).tolist() == [1, 1]


def test_a_short_budget_keeps_what_was_reached() -> None:
    meter = Oracle(FewPixels(), images(), Misclassification(ZEROS), norm="l0", budget=4)
    out = perturb(Pointwise(start=Given(WHITE)), FewPixels(), images(), ZEROS, budget=4)
    assert out.success.all()
    assert (out.queries <= 4).all()
    assert (out.distance < 36).all()
    assert meter.queries.sum() == 0


@pytest.mark.parametrize("wrong", [{"norm": "linf"}, {"restarts": 0}, {"exchanges": -1}])
def test_bad_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong)))):
        attacks.create("pointwise", **wrong)
