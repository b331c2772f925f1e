"""The nouns that attacks and models meet through. Shapes are part of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

Norm = Literal["l0", "l1", "l2", "linf"]
Access = Literal["gradient", "score", "decision"]
Bounds = tuple[float, float]
Status = Literal["clean_error", "success", "failed", "exhausted", "invalid", "not_run"]

NORMS: tuple[Norm, ...] = ("l0", "l1", "l2", "linf")
ACCESS_ORDER: tuple[Access, ...] = ("decision", "score", "gradient")
"""From the least access to the most: each one includes those before it."""


class Pool(NamedTuple):
    """Images that a search may start from: of other samples, with their true labels.

    Attributes:
        images: (M, C, H, W) float32 within the model's bounds.
        labels: (M,) int64.
    """

    images: Tensor
    labels: Tensor


@runtime_checkable
class Model(Protocol):
    """A classifier of images."""

    @property
    def bounds(self) -> Bounds:
        """The interval that pixel values live in."""
        ...

    def __call__(self, images: Tensor, /) -> Tensor:
        """Map images (N, C, H, W) float32 to logits (N, K) float32."""
        ...


@runtime_checkable
class PixelModel(Model, Protocol):
    """A classifier that takes 8-bit images as they are sent: no floats are made of them."""

    def pixel_labels(self, pixels: Tensor, /) -> Tensor:
        """Map images (N, H, W, C) uint8 to labels (N,) int64."""
        ...


@runtime_checkable
class GenerativeModel(Model, Protocol):
    """A classifier that can show what it takes an image for, class by class."""

    def reconstruct(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """The best explanation of images (N, C, H, W) by each class.

        Returns:
            scores (N, K), the higher the likelier, and images (N, K, C, H, W) within the bounds.
        """
        ...


@runtime_checkable
class Attack(Protocol):
    """A search for adversarial images. Implementations are frozen, keyword-only dataclasses."""

    @property
    def norm(self) -> Norm:
        """The distance that the attack makes small."""
        ...

    @property
    def access(self) -> Access:
        """The least access to the model that the attack needs."""
        ...

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """Return one candidate for each image.

        Args:
            model: the metered view of the model; the only way to ask it anything.
            images: (N, C, H, W) float32 within the bounds; not changed in place.
            criterion: what counts as adversarial, for the same N images.
            epsilon: the radius to stay in, or None to make the distance as small as possible.
            random: one stream of random numbers for each image.

        Returns:
            (N, C, H, W) float32. It is clipped, judged and measured again by `perturb`; an image
            for which nothing was found may be returned unchanged.
        """
        ...
