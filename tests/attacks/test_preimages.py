"""The paper's two kinds of adversarial image, on models whose answers are known."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.preimages import (
    in_argmax_preimage,
    in_logit_preimage,
    is_invariance_adversarial,
    is_perturbation_adversarial,
)


def first(images: Tensor) -> Tensor:
    """Decides by the first pixel: class 1 above a half."""
    value = images[:, 0, 0, 0]
    return torch.stack([0.5 - value, value - 0.5], 1)


def second(images: Tensor) -> Tensor:
    """Decides by the second pixel."""
    return first(images.flip(3))


def pixels(*values: tuple[float, float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 2)


BEFORE = pixels((0.2, 0.2), (0.2, 0.2), (0.2, 0.2), (0.2, 0.2))
AFTER = pixels((0.2, 0.9), (0.9, 0.2), (0.9, 0.9), (0.3, 0.9))


def test_preimages_are_of_logits_or_of_decisions() -> None:
    assert in_logit_preimage(first, BEFORE, AFTER).tolist() == [True, False, False, False]
    assert in_argmax_preimage(first, BEFORE, AFTER).tolist() == [True, False, False, True]
    assert in_logit_preimage(first, BEFORE, AFTER, tolerance=0.2).tolist()[3]


def test_invariance_adversarials_change_for_the_oracle_only() -> None:
    found = is_invariance_adversarial(first, second, BEFORE, AFTER)
    assert found.tolist() == [True, False, False, False]
    found = is_invariance_adversarial(first, second, BEFORE, AFTER, preimage="argmax")
    assert found.tolist() == [True, False, False, True]


def test_perturbation_adversarials_change_for_the_model_only_and_stay_near() -> None:
    found = is_perturbation_adversarial(first, second, BEFORE, AFTER)
    assert found.tolist() == [False, True, False, False]
    near = is_perturbation_adversarial(first, second, BEFORE, AFTER, epsilon=0.6)
    assert near.tolist() == [False, False, False, False]
    assert is_perturbation_adversarial(first, second, BEFORE, AFTER, epsilon=0.8).tolist()[1]


def test_no_image_is_both() -> None:
    kinds = [
        is_perturbation_adversarial(first, second, BEFORE, AFTER),
        is_invariance_adversarial(first, second, BEFORE, AFTER, preimage="argmax"),
    ]
    assert not (kinds[0] & kinds[1]).any()
