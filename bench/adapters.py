"""What participants write, as what the bench plays: numpy models and attacks, torch modules.

A model of a submission is an object with `predict(images) -> labels`, an attack one with
`attack_image(predict, image, label, rng) -> image`; both see uint8 images (N, H, W, C), one label
an image and nothing else. The same objects run in a sandbox behind the kit's HTTP; here they run in
this interpreter, with the same random numbers and the same queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks import Attack, BudgetExhausted, Model, foolbox
from attacks.starts import nearest_of_pool

from .errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacks import Access, Bounds, Criterion, ImageRandom, Norm, Oracle

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@runtime_checkable
class NumpyModel(Protocol):
    """A classifier as participants write it."""

    def predict(self, images: Pixels, /) -> Any:
        """Labels (N,), whole numbers, for images (N, H, W, C) uint8."""
        ...


@runtime_checkable
class NumpyAttack(Protocol):
    """A decision-based attack as participants write it."""

    def attack_image(
        self,
        predict: Callable[[Pixels], Labels],
        image: Pixels,
        label: int,
        rng: np.random.Generator,
        /,
    ) -> Pixels | None:
        """One adversarial (H, W, C) uint8 for one image, or None where none was found.

        `predict` maps (n, H, W, C) uint8 to labels (n,) int64 and counts n queries.
        """
        ...


def to_pixels(images: Tensor) -> Pixels:
    """(N, C, H, W) float32 in [0, 1] -> (N, H, W, C) uint8, rounded to the nearest level."""
    levels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def to_images(pixels: Pixels) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1]."""
    # The conversion copies, so that a read-only array is fine; torch would warn about it.
    floats = torch.from_numpy(pixels.astype(np.float32))
    return floats.permute(0, 3, 1, 2).contiguous().div_(255)


def one_hot(labels: Labels) -> Tensor:
    """Labels (N,) as logits (N, K) whose argmax they are; K is one more than the largest label."""
    wanted = torch.from_numpy(labels)
    width = max(2, int(wanted.max()) + 1) if len(wanted) else 2
    return torch.nn.functional.one_hot(wanted, width).float()


def check_labels(answer: Any, n: int) -> Labels:
    """What a numpy model returned, as labels (n,) int64.

    Raises:
        ValueError: wrong shape, not whole numbers, or negative; says what was got and wanted.
    """
    labels = np.asarray(answer)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"predict returned {labels.dtype} of shape {labels.shape} for {n} images; "
            f"wanted whole numbers of shape ({n},)"
        )
    if n and labels.min() < 0:
        raise ValueError(f"predict returned the label {labels.min()}; wanted labels from 0")
    return labels.astype(np.int64)


@dataclass(frozen=True)
class LabelModel:
    """A numpy model as an `attacks.Model`: labels only, on 8-bit images."""

    model: NumpyModel

    @property
    def bounds(self) -> Bounds:
        return (0.0, 1.0)

    def __call__(self, images: Tensor, /) -> Tensor:
        return one_hot(check_labels(self.model.predict(to_pixels(images)), len(images)))


STARTS = 5
"""Images that an attack may start from, for each of its own."""


def starts_of(oracle: Oracle, image: Tensor, criterion: Criterion) -> Pixels:
    """The images of the pool that an attack on an image (1, C, H, W) may start from.

    (n, H, W, C) uint8, at most `STARTS`, the nearest first; none where there is no pool. They cost
    nothing.
    """
    pool = oracle.pool
    if pool is None:
        return to_pixels(image[:0])
    rows, there = nearest_of_pool(pool, image, criterion, STARTS)
    return to_pixels(pool.images[rows[0, there[0]]])


class _Predict:
    """The question that an attack may ask about one image, with what the kit's has beside it."""

    def __init__(self, oracle: Oracle, images: Tensor, criterion: Criterion, row: int) -> None:
        self._oracle = oracle
        self._images = images
        self._criterion = criterion
        self._row = row

    def __call__(self, images: Pixels) -> Labels:
        rows = torch.full((len(images),), self._row)
        return self._oracle.labels(to_images(images), rows).numpy().copy()

    @property
    def target(self) -> int | None:
        """The wanted label of a targeted match."""
        targets = self._criterion.targets
        return None if targets is None else int(targets[self._row])

    @cached_property
    def starts(self) -> Pixels:
        """Images (n, H, W, C) of others that may be adversarial, the nearest first."""
        index = torch.tensor([self._row])
        return starts_of(self._oracle, self._images[index], self._criterion.take(index))

    def fools(self, images: Pixels) -> NDArray[np.bool_]:
        """Which images (n, H, W, C) are adversarial, (n,) bool; each is a query."""
        rows = torch.full((len(images),), self._row)
        return self._oracle.is_adversarial(to_images(images), rows).numpy().copy()

    @property
    def remaining(self) -> int:
        """Queries left."""
        return int(self._oracle.remaining()[self._row])

    @property
    def distance(self) -> float:
        """How near `best` is, on [0, 1]; infinite where there is none."""
        return float(self._oracle.best_distance[self._row])

    @property
    def best(self) -> Pixels | None:
        """The adversarial nearest to the original among all images asked so far, or None."""
        if not np.isfinite(self.distance):
            return None
        pixels: Pixels = to_pixels(self._oracle.best[self._row : self._row + 1])[0]
        return pixels


@dataclass(frozen=True)
class ImageByImage:
    """A numpy attack as an `attacks.Attack`: one image after another, as the kit plays it."""

    attack: NumpyAttack

    @property
    def norm(self) -> Norm:
        return "l2"

    @property
    def access(self) -> Access:
        return "decision"

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`. An exception for one image is noted and the next one goes on.

        Where the attack lets the budget's exception escape, the best that it asked counts.
        """
        found = images.clone()
        for row, pixels in enumerate(to_pixels(images)):
            predict = _Predict(model, images, criterion, row)
            rng = np.random.default_rng(random.seeds[row])
            try:
                answer = self.attack.attack_image(predict, pixels, int(criterion.labels[row]), rng)
            except BudgetExhausted:
                found[row] = model.best[row]
                continue
            except Exception as error:
                model.note(row, f"attack_image raised {type(error).__name__}: {error}"[:300])
                continue
            if answer is None:
                model.note(row, "attack_image returned None: it found nothing")
            elif not isinstance(answer, np.ndarray) or answer.dtype != np.uint8:
                kind = answer.dtype if isinstance(answer, np.ndarray) else type(answer).__name__
                model.note(
                    row,
                    f"got {kind}, wanted uint8: np.clip(np.rint(x), 0, 255).astype(np.uint8)",
                )
            elif answer.shape != pixels.shape:
                model.note(row, f"got shape {answer.shape}, wanted {pixels.shape}")
            else:
                found[row] = to_images(answer[None])[0]
        return found


def as_model(made: Any, name: str) -> Model:
    """Whatever a plug-in's `create` returned, as a model.

    Raises:
        UserError: it is none of the kinds that `bench.plugins.load_model` lists.
    """
    if isinstance(made, torch.nn.Module) and not hasattr(type(made), "bounds"):
        return _Module(made.eval().requires_grad_(False))
    if isinstance(made, Model):
        return made
    if isinstance(made, NumpyModel):
        return LabelModel(made)
    raise UserError(
        f"create() of {name} returned {type(made).__name__}; wanted a model: an object with "
        "bounds and __call__, a torch module, or an object with predict(images)"
    )


def as_attack(made: Any, name: str) -> Attack:
    """Whatever a plug-in's `create` returned, as an attack.

    Raises:
        UserError: it is none of the kinds that `bench.plugins.load_attack` lists.
    """
    if isinstance(made, Attack):
        return made
    if isinstance(made, NumpyAttack):
        return ImageByImage(made)
    if foolbox.is_attack(made):
        return foolbox.wrap(made)
    raise UserError(
        f"create() of {name} returned {type(made).__name__}; wanted an attack: an object with "
        "norm, access and run, one with attack_image(predict, image, label, rng), or a Foolbox "
        "attack"
    )


class _Module:
    """A bare torch module with images in [0, 1] as a model."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    @property
    def bounds(self) -> Bounds:
        return (0.0, 1.0)

    def __call__(self, images: Tensor, /) -> Tensor:
        logits: Tensor = self._module(images)
        return logits
