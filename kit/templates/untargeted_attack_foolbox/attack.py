"""An attack for mnist5k by Foolbox: HopSkipJump, asked through the kit."""

from __future__ import annotations

from typing import Any

import foolbox
import numpy as np
import torch

import kit


class HopSkipJump:
    """Foolbox's HopSkipJump (arXiv 1904.02144), after its own start from blended noise."""

    attack = foolbox.attacks.HopSkipJumpAttack(
        steps=10, initial_gradient_eval_steps=40, max_gradient_eval_steps=60
    )

    def attack_image(self, predict: Any, image: Any, label: int, rng: np.random.Generator) -> Any:
        """Give what Foolbox finds; where the budget ends first, the best one asked counts."""
        seed = int(rng.integers(2**31))
        torch.manual_seed(seed)
        np.random.seed(seed)  # Foolbox draws from both
        start, model = kit.to_foolbox(image[None]), kit.foolbox_model(predict)
        found, _, _ = self.attack(model, start, torch.tensor([label]), epsilons=None)
        return kit.from_foolbox(found)[0]


def create() -> HopSkipJump:
    """Make the attack, ready to play."""
    return HopSkipJump()


if __name__ == "__main__":
    kit.attack(create())
