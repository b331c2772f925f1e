"""Carlini-Wagner beyond what every white-box attack is held to in test_white_box.py."""

from __future__ import annotations

import torch
from linear import Linear, images
from torch import Tensor

import attacks
from attacks import Adversarials, Misclassification, Oracle, perturb
from attacks.losses import margin
from attacks.random import ImageRandom


def played(
    model: Linear | None = None,
    *,
    epsilon: float | None = None,
    budget: int | None = None,
    **parameters: object,
) -> Adversarials:
    model, batch = model or Linear(), images()
    attack = attacks.create("carlini_wagner", **parameters)
    labels = model(batch).argmax(1)
    return perturb(attack, model, batch, labels, epsilon=epsilon, budget=budget)


class Wide(Linear):
    """The same model for values in [-1, 1]."""

    bounds = (-1.0, 1.0)

    def __call__(self, asked: Tensor, /) -> Tensor:
        return super().__call__((asked + 1) / 2)


def test_every_answer_wins_by_the_confidence_or_is_the_clean_image() -> None:
    model, batch = Linear(), images()
    criterion = Misclassification(model(batch).argmax(1))
    meter = Oracle(model, batch, criterion, norm="l2", access="gradient")
    attack = attacks.create("carlini_wagner", steps=40, search_steps=4, confidence=1.5)
    random = ImageRandom.of(0, [str(i) for i in range(len(batch))])
    found = attack.run(meter, batch, criterion, epsilon=None, random=random)
    changed = (found != batch).flatten(1).any(1)
    assert changed.sum() > 6
    lead = -margin(model(found), criterion.labels)
    assert (lead[changed] >= 1.5 - 1e-4).all()


def test_an_image_leaves_a_round_once_its_loss_stops_falling() -> None:
    whole = played(steps=200, search_steps=3, learning_rate=0.02, abort_early=False)
    early = played(steps=200, search_steps=3, learning_rate=0.02)
    assert (whole.queries == 600).all()
    assert (early.queries < 600).all()
    assert len(set(early.queries.tolist())) > 1  # each at its own time
    assert (early.distance < whole.distance * 1.05).all()


def test_a_first_weight_far_off_is_mended_by_the_search() -> None:
    exact = Linear().margins(images(), dual=2.0)
    for first in (1e-3, 1.0):
        found = played(steps=50, search_steps=7, learning_rate=0.02, initial_constant=first)
        assert found.success.all()
        assert (found.distance / exact).median() < 1.1


def test_an_image_is_done_once_it_is_within_the_radius() -> None:
    radius = float(Linear().margins(images(), dual=2.0).max()) * 2
    done = played(steps=60, search_steps=4, learning_rate=0.02, epsilon=radius)
    whole = played(steps=60, search_steps=4, learning_rate=0.02)
    assert done.success.all()
    assert done.queries.sum() < whole.queries.sum() / 2
    assert (done.distance <= radius).all()


def test_a_budget_ends_each_image_by_itself_and_keeps_what_it_found() -> None:
    result = played(steps=30, search_steps=4, learning_rate=0.03, budget=45)
    assert (result.queries <= 45).all()
    assert result.queries.max() == 45
    assert result.success.any()


def test_bounds_other_than_0_and_1_are_kept() -> None:
    exact = Linear().margins(images(), dual=2.0)
    batch, labels = images() * 2 - 1, Linear()(images()).argmax(1)
    attack = attacks.create("carlini_wagner", steps=60, search_steps=7, learning_rate=0.02)
    result = perturb(attack, Wide(), batch, labels)
    assert result.images.min() >= -1
    assert result.images.max() <= 1
    assert (result.distance / (2 * exact)).median() < 1.1


def test_an_image_at_the_edge_of_the_bounds_can_be_left() -> None:
    model = Linear()
    black = torch.zeros(1, 1, 6, 6)
    label = model(black).argmax(1)
    attack = attacks.create("carlini_wagner", steps=100, initial_constant=0.1, search_steps=5)
    result = perturb(attack, model, black, label)
    reference = perturb(attacks.create("fab", norm="l2"), model, black, label)
    assert result.success.all()
    assert float(result.distance) < float(reference.distance) * 1.1
