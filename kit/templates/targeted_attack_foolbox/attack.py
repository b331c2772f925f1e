"""A targeted attack for mnist5k by Foolbox: HopSkipJump, asked through the kit."""

from __future__ import annotations

from typing import Any

import foolbox
import numpy as np
import torch

import kit


class TargetedHopSkipJump:
    """Foolbox's HopSkipJump (arXiv 1904.02144), from the nearest image of the wanted class."""

    attack = foolbox.attacks.HopSkipJumpAttack(
        steps=10, initial_gradient_eval_steps=40, max_gradient_eval_steps=60
    )

    def attack_image(self, predict: Any, image: Any, label: int, rng: np.random.Generator) -> Any:
        """Give what Foolbox finds; where the budget ends first, the best one asked counts."""
        taken = predict.starts[predict.fools(predict.starts)]
        if not len(taken):
            return None
        seed = int(rng.integers(2**31))
        torch.manual_seed(seed)
        np.random.seed(seed)  # Foolbox draws from both
        found, _, _ = self.attack(
            kit.foolbox_model(predict),
            kit.to_foolbox(image[None]),
            foolbox.criteria.TargetedMisclassification(torch.tensor([predict.target])),
            starting_points=kit.to_foolbox(taken[:1]),
            epsilons=None,
        )
        return kit.from_foolbox(found)[0]


def create() -> TargetedHopSkipJump:
    """Make the attack, ready to play."""
    return TargetedHopSkipJump()


if __name__ == "__main__":
    kit.attack(create())
