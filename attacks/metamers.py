"""Metamers: images that look different and that a model can't tell apart (arXiv 1811.00401).

`metameric_sampling` makes them of an invertible model, exactly and without any search: one pass
forward and one back. `descended_metamers` searches for them by gradient descent where a model can't
be inverted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .errors import UsageError
from .types import Model


@runtime_checkable
class InvertibleModel(Model, Protocol):
    """A classifier that loses nothing: all of an image is in its code, and comes back from it."""

    def encode(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Semantic part (N,S), which decides the logits, and nuisance (N,D-S) of (N,C,H,W)."""
        ...

    def decode(self, semantic: Tensor, nuisance: Tensor, /) -> Tensor:
        """The images (N,C,H,W) with these parts; they may lie beyond the bounds."""
        ...


def metameric_sampling(
    model: InvertibleModel,
    images: Tensor,
    donors: Tensor | None,
    *,
    seed: int = 0,
    batch_size: int = 100,
) -> Tensor:
    """F^-1(z_s of each image, z_n of its donor): section 2.2.

    Args:
        model: one forward pass over the images, one inverse.
        images: (N,C,H,W) within the bounds.
        donors: (N,) int64, which of the images each one takes the nuisance from; None draws it
            from the standard normal prior, which makes sense of a model trained by likelihood.
        seed: of that draw.
        batch_size: images at a time.

    Returns:
        (N,C,H,W) as they come, not clipped: the logits are exactly those of `images` only there.

    Raises:
        UsageError: donors that are no rows of the images.
    """
    with torch.no_grad():
        codes = [model.encode(part) for part in images.split(batch_size)]
        semantic, nuisance = (torch.cat(parts) for parts in zip(*codes, strict=True))
        if donors is None:
            generator = torch.Generator().manual_seed(seed)
            lent = torch.randn(nuisance.shape, generator=generator)
        else:
            _check_donors(donors, len(images))
            lent = nuisance[donors]
        parts = zip(semantic.split(batch_size), lent.split(batch_size), strict=True)
        return torch.cat([model.decode(own, other) for own, other in parts])


def descended_metamers(
    model: Model,
    images: Tensor,
    starts: Tensor,
    *,
    steps: int = 500,
    learning_rate: float = 0.02,
    batch_size: int = 64,
) -> Tensor:
    """Images near `starts` with the logits of `images`, by gradient descent (Adam).

    Minimises the squared error of the logits from the start on, always within the bounds; of each
    image the step of the smallest largest error is returned, the start being one.

    Args:
        model: with gradients.
        images: (N,C,H,W), whose logits are wanted.
        starts: (N,C,H,W), where to begin.
        steps: of Adam, at most; images whose error is below 1e-4 of the logits' spread are done.
        learning_rate: of Adam, in pixel values; it falls to 0 along the way.
        batch_size: images at a time. An image's result does not depend on the others.

    Raises:
        UsageError: other shapes than each other's, or a model without gradients.
    """
    if images.shape != starts.shape:
        raise UsageError(
            f"got images of {tuple(images.shape)} and starts of {tuple(starts.shape)}; wanted a "
            "start for each image"
        )
    parts = zip(images.split(batch_size), starts.split(batch_size), strict=True)
    found = [_descend(model, image, start, steps, learning_rate) for image, start in parts]
    return torch.cat(found) if found else starts.clone()


def _descend(model: Model, images: Tensor, starts: Tensor, steps: int, rate: float) -> Tensor:
    low, high = model.bounds
    with torch.no_grad():
        wanted = model(images)
    enough = 1e-4 * (wanted.amax(1) - wanted.amin(1))
    current = starts.clone().requires_grad_()
    optimiser = torch.optim.Adam([current], lr=rate)
    best, least = starts.clone(), torch.full((len(images),), torch.inf)
    for step in range(steps + 1):
        off = model(current) - wanted
        if not off.requires_grad:
            raise UsageError(
                "got a model whose logits have no gradient by the images, such as one that gives "
                "decisions only; wanted one with gradients, or an invertible one"
            )
        error = off.detach().abs().amax(1)
        better = (error < least) & (least > enough)
        best[better], least[better] = current.detach()[better], error[better]
        if step == steps or bool((least <= enough).all()):
            break
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        # Summed, and in units of each image's own logits: Adam's steps are then its own as well.
        (current.grad,) = torch.autograd.grad(off.square().sum(), current)
        optimiser.step()
        with torch.no_grad():
            current.clamp_(low, high)
    return best


def _check_donors(donors: Tensor, n: int) -> None:
    if donors.shape != (n,) or donors.is_floating_point():
        raise UsageError(
            f"got donors of {donors.dtype}, shape {tuple(donors.shape)}; wanted {n} indices"
        )
    if n and (int(donors.min()) < 0 or int(donors.max()) >= n):
        raise UsageError(f"got a donor outside 0 to {n - 1}; wanted rows of the images")


@dataclass(frozen=True)
class Judged:
    """How good metamers are, (N,) each.

    Attributes:
        logit_error: largest difference of a logit from the source's, for the metamer as it is.
        clipped_error: the same after clipping to the bounds, encoded again.
        range_violation: how far its farthest pixel lies beyond the bounds; 0 within.
        same_decision, clipped_same_decision: whether the model decides as for the source.
    """

    logit_error: Tensor
    clipped_error: Tensor
    range_violation: Tensor
    same_decision: Tensor
    clipped_same_decision: Tensor


def judge(model: Model, images: Tensor, metamers: Tensor, *, batch_size: int = 100) -> Judged:
    """Ask the model again about metamers (N,C,H,W) of images (N,C,H,W), as they are and clipped."""
    low, high = model.bounds
    clipped = metamers.clamp(low, high)
    with torch.no_grad():
        source, raw, within = (
            torch.cat([model(part) for part in kind.split(batch_size)])
            for kind in (images, metamers, clipped)
        )
    decided = source.argmax(1)
    return Judged(
        logit_error=(raw - source).abs().amax(1),
        clipped_error=(within - source).abs().amax(1),
        range_violation=(metamers - clipped).abs().flatten(1).amax(1),
        same_decision=raw.argmax(1) == decided,
        clipped_same_decision=within.argmax(1) == decided,
    )
