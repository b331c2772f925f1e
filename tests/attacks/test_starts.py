from __future__ import annotations

import pytest
import torch
from linear import Linear, images

import attacks
from attacks import Misclassification, Oracle, Pool, Targeted, UsageError, perturb
from attacks.random import ImageRandom
from attacks.starts import bisect, find_starts

IDS = [str(i) for i in range(12)]


def pool() -> Pool:
    """Many images, labelled as the model itself would."""
    found = images(200, seed=9)
    return Pool(found, Linear()(found).argmax(1))


def targeted() -> tuple[Linear, torch.Tensor, Targeted]:
    model, batch = Linear(), images()
    labels = model(batch).argmax(1)
    return model, batch, Targeted(labels, (labels + 1) % 3)


def test_a_targeted_start_is_the_nearest_pool_image_of_the_wanted_class_brought_nearer() -> None:
    model, batch, criterion = targeted()
    meter = Oracle(model, batch, criterion, norm="l2", pool=pool())
    starts, found = find_starts(
        meter, batch, ImageRandom.of(0, IDS), start=None, tries=5, bisection_steps=0
    )
    assert found.all()
    assert meter.queries.tolist() == [1] * 12
    of_class = [pool().images[pool().labels == t] for t in criterion.targets.tolist()]
    for clean, start, others in zip(batch, starts, of_class, strict=True):
        lengths = (others - clean).flatten(1).norm(dim=1)
        assert torch.equal(start, others[lengths.argmin()])


def test_a_class_that_the_pool_lacks_fails_by_itself_and_says_so() -> None:
    model, batch, criterion = targeted()
    whole = pool()
    keep = whole.labels != criterion.targets[0]
    result = perturb(
        attacks.create("boundary", steps=50),
        model,
        batch,
        criterion,
        pool=Pool(whole.images[keep], whole.labels[keep]),
    )
    lacking = criterion.targets == criterion.targets[0]
    assert lacking.any()
    assert not lacking.all()
    assert torch.equal(result.success, ~lacking)
    assert "no starting point" in str(result.reasons[0])
    assert result.queries[0] == 0


def test_without_a_pool_a_targeted_search_has_no_start_and_says_what_it_needs() -> None:
    model, batch, criterion = targeted()
    result = perturb(attacks.create("hop_skip_jump"), model, batch, criterion)
    assert not result.success.any()
    assert all("pool" in str(reason) for reason in result.reasons)


def test_every_decision_attack_with_starts_works_targeted() -> None:
    model, batch, criterion = targeted()
    exact = model.margins(batch, dual=2)
    for name in ("boundary", "biased_boundary", "hop_skip_jump", "pointwise"):
        result = perturb(attacks.create(name), model, batch, criterion, pool=pool(), budget=400)
        assert result.success.all(), name
        assert torch.equal(model(result.images).argmax(1), criterion.targets)
        if attacks.create(name).norm == "l2":
            assert (result.distance >= exact * (1 - 1e-4)).all()


def test_a_start_by_another_attack_is_asked_again_before_it_counts() -> None:
    class Liar:
        norm, access = "l2", "decision"

        def run(self, model: Oracle, asked: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
            return asked + 0.001  # not adversarial

    model, batch, criterion = targeted()
    liar: attacks.Attack = Liar()  # type: ignore[assignment]
    streams = ImageRandom.of(0, IDS)
    meter = Oracle(model, batch, criterion, norm="l2")
    starts, found = find_starts(meter, batch, streams, start=liar, tries=5, bisection_steps=3)
    assert not found.any()
    assert torch.equal(starts, batch)
    assert meter.queries.tolist() == [1] * 12


def test_where_the_given_start_fails_another_kind_is_tried() -> None:
    class Some(attacks.create("gaussian_noise").__class__):  # type: ignore[misc]
        def run(
            self, model: Oracle, asked: torch.Tensor, *_: object, **more: object
        ) -> torch.Tensor:
            found: torch.Tensor = super().run(model, asked, *_, **more)
            found[::2] = asked[::2]  # it finds nothing for every other image
            return found

    model, batch = Linear(), images()
    criterion = Misclassification(model(batch).argmax(1))
    meter = Oracle(model, batch, criterion, norm="l2")
    streams = ImageRandom.of(0, IDS)
    starts, found = find_starts(meter, batch, streams, start=Some(), tries=20, bisection_steps=3)
    assert found.all()
    assert criterion.holds(model(starts).argmax(1), torch.arange(12)).all()


def test_a_start_by_a_gradient_attack_asks_for_gradient_access() -> None:
    attack = attacks.create("boundary", start=attacks.create("foolbox:L2DeepFoolAttack"))
    assert attack.access == "gradient"
    model, batch = Linear(), images()
    result = perturb(attack, model, batch, model(batch).argmax(1), budget=200)
    assert (result.distance / model.margins(batch, dual=2)).max() < 1.05


def test_bisection_halves_the_way_and_stays_adversarial() -> None:
    model, batch, criterion = targeted()
    far = find_starts(
        Oracle(model, batch, criterion, norm="l2", pool=pool()),
        batch,
        ImageRandom.of(0, IDS),
        start=None,
        tries=3,
        bisection_steps=0,
    )[0]
    meter = Oracle(model, batch, criterion, norm="l2")
    rows = torch.arange(12)
    near = bisect(meter, batch, far, rows, steps=12)
    assert meter.queries.tolist() == [12] * 12
    assert torch.equal(model(near).argmax(1), criterion.targets)
    just_inside = torch.lerp(batch, near, 0.995)
    assert not criterion.holds(model(just_inside).argmax(1), rows).any()


def test_a_pool_of_other_images_is_refused() -> None:
    model, batch, criterion = targeted()
    wrong = Pool(torch.zeros(4, 3, 6, 6), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"the pool holds images \(4, 3, 6, 6\)"):
        perturb(attacks.create("boundary"), model, batch, criterion, pool=wrong)
