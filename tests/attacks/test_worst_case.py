from __future__ import annotations

import pytest
import torch
from linear import Linear, images

import attacks
from attacks import Oracle, UsageError, perturb
from attacks.views import View


class Recording:
    """An attack that remembers how many images it was given, and moves them by a fixed step."""

    access = "decision"

    def __init__(self, step: float, norm: str = "linf") -> None:
        self.step, self.norm = step, norm
        self.given: list[int] = []
        self.radius: float | None = -1.0

    def run(
        self,
        model: Oracle,
        asked: torch.Tensor,
        criterion: object,
        *,
        epsilon: float | None,
        random: object,
    ) -> torch.Tensor:
        self.given.append(len(asked))
        self.radius = epsilon
        return (asked - self.step).clamp(*model.bounds)


def ensemble(*parts: object, **more: object) -> attacks.Attack:
    return attacks.create("worst_case", attacks=tuple(parts), **more)


class Bright(Linear):
    """Two classes by mean brightness; the threshold is 0.5 - 0.1 k for image k."""

    def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
        self.asked += len(asked)
        dark = asked.flatten(1).mean(1) < 0.3
        return torch.stack([~dark, dark], dim=1).float()


FLAT = torch.full((4, 1, 6, 6), 0.5) + torch.arange(4).view(4, 1, 1, 1) * 0.1  # 0.5 0.6 0.7 0.8
ZEROS = torch.zeros(4, dtype=torch.int64)


def test_with_a_radius_each_attack_gets_only_what_still_stands() -> None:
    first, second, third = Recording(0.25), Recording(0.35), Recording(0.45)
    result = perturb(ensemble(first, second, third), Bright(), FLAT, ZEROS, epsilon=0.5)
    assert (first.given, second.given, third.given) == ([4], [3], [2])
    assert result.success.tolist() == [True, True, True, False]
    assert "Recording, attack 2" in str(result.reasons[1])


def test_without_a_radius_every_attack_gets_every_image_and_the_nearest_counts() -> None:
    first, second = Recording(0.55), Recording(0.25)
    result = perturb(ensemble(first, second), Bright(), FLAT, ZEROS)
    assert (first.given, second.given) == ([4], [4])
    assert torch.allclose(result.distance, torch.tensor([0.25, 0.55, 0.55, 0.55]))


def test_what_an_attack_returns_is_asked_and_verified() -> None:
    result = perturb(ensemble(Recording(0.1)), Bright(), FLAT, ZEROS)
    assert not result.success.any()
    assert result.queries.tolist() == [1] * 4


def test_an_attack_in_another_norm_minimises_and_is_measured_in_the_one_that_counts() -> None:
    other = Recording(0.25, norm="l2")
    result = perturb(ensemble(other, norm="linf"), Bright(), FLAT[:1], ZEROS[:1], epsilon=0.3)
    assert other.radius is None
    assert result.distance.item() == pytest.approx(0.25)


def test_a_budget_is_shared_out_and_what_is_saved_goes_to_the_later_ones() -> None:
    model, batch = Linear(), images()
    parts = [attacks.create("gaussian_noise"), attacks.create("boundary")]
    whole = perturb(ensemble(*parts), model, batch, model(batch).argmax(1), budget=100)
    half = perturb(parts[0], model, batch, model(batch).argmax(1), budget=50)
    assert (whole.queries <= 100).all()
    assert (whole.queries > 90).all()
    assert whole.distance.median() < half.distance.median()


def test_an_attack_that_runs_out_does_not_end_the_others() -> None:
    class Greedy(Recording):
        def run(self, model: Oracle, asked: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            while True:
                model.is_adversarial(asked, torch.arange(len(asked)))

    result = perturb(ensemble(Greedy(0), Recording(0.45)), Bright(), FLAT, ZEROS, budget=10)
    assert result.queries.tolist() == [6] * 4
    assert result.success.tolist() == [True, True, True, False]


def test_its_access_is_the_most_that_a_part_needs() -> None:
    assert ensemble(attacks.create("boundary")).access == "decision"
    mixed = ensemble(attacks.create("boundary"), attacks.create("foolbox:L2DeepFoolAttack"))
    assert mixed.access == "gradient"


def test_no_attacks_are_refused() -> None:
    with pytest.raises(UsageError, match="got no attacks"):
        ensemble()


def test_a_view_numbers_rows_from_zero_and_counts_for_the_whole() -> None:
    model, batch = Linear(), images(4)
    meter = Oracle(
        model, batch, attacks.Misclassification(model(batch).argmax(1)), norm="l2", budget=9
    )
    view = View(meter, torch.tensor([3, 1]), budget=torch.tensor([2, 5]))
    view.labels(batch[[3, 1]], torch.tensor([0, 1]))
    assert meter.queries.tolist() == [0, 1, 0, 1]
    assert view.queries.tolist() == [1, 1]
    assert view.remaining().tolist() == [1, 4]
    with pytest.raises(attacks.BudgetExhausted):
        view.labels(batch[[3, 3]], torch.tensor([0, 0]))
    assert meter.queries.tolist() == [0, 1, 0, 1]
    view.note(0, "a reason")
    assert meter.notes == [None, None, None, "a reason"]
    verdict = view.record(1, batch[1])
    assert verdict.predicted == int(model(batch).argmax(1)[1])
