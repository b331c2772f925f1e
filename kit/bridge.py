"""From the kit to Foolbox, for those who have Foolbox and torch installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def foolbox_model(
    predict: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], *, classes: int = 10
) -> Any:
    """Give a ``foolbox.PyTorchModel`` that asks ``predict``, for decision-based attacks.

    It takes float32 (N,C,H,W) in [0,1], rounds to uint8 (N,H,W,C), asks, and gives one-hot
    scores (N,classes); there is no gradient. Every image asked is a query. An attack of Foolbox
    starts from its batch of one original; what it finds goes back with ``from_foolbox``::

        def attack_image(self, predict, image, label, rng):
            model = kit.foolbox_model(predict)
            start = kit.to_foolbox(image[None])
            attack = foolbox.attacks.L2ContrastReductionAttack(target=0.5)
            found, _, _ = attack(model, start, torch.tensor([label]), epsilons=None)
            return kit.from_foolbox(found)[0]

    Raises ImportError, with the mend, when Foolbox or torch is missing.
    """
    foolbox, torch = _libraries()

    class Decisions(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, images: Any) -> Any:
            labels = torch.from_numpy(predict(from_foolbox(images)))
            return torch.nn.functional.one_hot(labels, classes).to(torch.float32)

    return foolbox.PyTorchModel(Decisions().eval(), bounds=(0, 1), device="cpu")


def to_foolbox(images: np.ndarray[Any, Any]) -> Any:
    """uint8 (N,H,W,C) -> torch float32 (N,C,H,W) in [0,1]."""
    _, torch = _libraries()
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def from_foolbox(images: Any) -> np.ndarray[Any, Any]:
    """Torch (N,C,H,W) in [0,1] -> uint8 (N,H,W,C), rounded to the nearest value."""
    values = images.detach().cpu().numpy().transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.clip(np.rint(values * 255.0), 0, 255).astype(np.uint8))


def _libraries() -> tuple[Any, Any]:
    try:
        import foolbox
        import torch
    except ImportError as error:
        raise ImportError(
            f"the Foolbox bridge wants foolbox and torch, and {error.name} is missing: "
            "pip install foolbox torch, in your Dockerfile too"
        ) from error
    return foolbox, torch
