from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import attacks
from bench.datasets.types import Dataset
from bench.errors import UserError
from bench.match import Match, Outcome, ThreatModel, play, target_labels


class Brightness:
    """Says 1 where the mean is above one half."""

    bounds = (0.0, 1.0)

    def __call__(self, images: Tensor, /) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def data(n: int = 9) -> Dataset:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 120, size=(n, 4, 4, 1), dtype=np.uint8)
    labels = np.zeros(n, dtype=np.int64)
    labels[2] = 1
    return Dataset("dark", "test", tuple(f"dark-{i}" for i in range(n)), pixels, labels, ("0", "1"))


def match(**threat: object) -> Match:
    options = {"norm": "l2", "quantised": True, "max_queries": 100, **threat}
    return Match(
        model=Brightness(),
        attack=attacks.create("gaussian_noise"),
        dataset=data(),
        threat=ThreatModel(**options),  # type: ignore[arg-type]
        seed=3,
    )


def test_a_match_yields_one_outcome_an_image_in_the_order_of_the_data() -> None:
    outcomes = list(play(match(), batch_size=4))
    assert [o.image_id for o in outcomes] == list(data().ids)
    assert outcomes[2].status == "clean_error"
    assert outcomes[2].distance == 0
    assert all(o.queries <= 100 for o in outcomes)


def test_every_counted_adversarial_lies_on_8_bit_values_and_is_where_it_says() -> None:
    for outcome, clean in zip(play(match()), data().images, strict=True):
        if not outcome.success:
            continue
        assert outcome.image is not None
        steps = outcome.image * 255
        assert torch.allclose(steps, steps.round(), atol=1e-4)
        assert outcome.distance == pytest.approx(float((outcome.image - clean).norm()), rel=1e-5)
        assert Brightness()(outcome.image[None]).argmax() == outcome.adversarial_label
        assert outcome.adversarial_label != outcome.clean_label
        assert outcome.trace[-1][1] == pytest.approx(outcome.distance, rel=1e-5)


def facts(outcomes: list[Outcome]) -> list[object]:
    return [(o.image_id, o.distance, o.queries, o.trace) for o in outcomes]


def test_the_batch_size_does_not_change_the_facts() -> None:
    assert facts(list(play(match(), batch_size=1))) == facts(list(play(match(), batch_size=9)))


def test_images_that_are_done_are_skipped_and_the_others_stay_as_they_were() -> None:
    whole = list(play(match()))
    rest = list(play(match(), skip={"dark-0", "dark-5"}))
    assert facts(rest) == facts([o for o in whole if o.image_id not in ("dark-0", "dark-5")])


def test_an_outcome_survives_json() -> None:
    for outcome in play(match(max_queries=2)):
        line = json.dumps(outcome.to_json(), allow_nan=False)
        assert Outcome.from_json(json.loads(line)).to_json() == outcome.to_json()


def test_a_failure_is_infinite_here_and_null_in_json() -> None:
    failed = next(o for o in play(match(max_queries=1)) if o.status == "exhausted")
    assert failed.distance == math.inf
    assert failed.to_json()["distance"] is None
    assert failed.reason
    assert failed.adversarial_label is None


def test_a_targeted_match_wants_a_wrong_label_for_each_image() -> None:
    labels = torch.arange(10).repeat(20)
    ids = [str(i) for i in range(200)]
    targets = target_labels(labels, ids, 10, seed=0)
    assert (targets != labels).all()
    assert len(set(targets.tolist())) == 10
    assert torch.equal(targets[50:60], target_labels(labels[50:60], ids[50:60], 10, seed=0))
    with pytest.raises(UserError, match="at least 2 classes"):
        target_labels(labels, ids, 1, seed=0)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="batch size is 0"):
        next(play(match(), batch_size=0))
