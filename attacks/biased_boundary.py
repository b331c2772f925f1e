"""The biased boundary attack: the boundary walk with low-frequency noise, a mask and a surrogate.

Brunner et al. 2019, Guessing Smart (arXiv 1812.09803).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .types import Access, Attack, Model, Norm

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

MASK_FLOOR = 0.1
"""Share of the noise that the mask lets through where the images do not differ."""


@dataclass(frozen=True, kw_only=True)
class BiasedBoundary:
    """Decision-based (on the victim), untargeted or targeted; minimises L2.

    Three biases on the directions of `attacks.boundary`, each of which can be switched off:

    - frequency: noise of `cells` x `cells` values for each channel, enlarged bilinearly (the
      paper's section 3.1 draws Perlin noise; both hold low frequencies only);
    - mask: directions are strong where the adversarial differs from the clean image (section 3.2);
    - surrogate: in every second step the gradient of a surrogate's loss at the current image is
      mixed in (section 3.3). The surrogate is ours: its forward passes cost no queries.

    Attributes:
        cells: values along each side of the coarse noise; 0 for white noise.
        mask: whether the mask is used.
        surrogate: a model whose gradients hint at the victim's, or None.
        surrogate_weight: share of the gradient in the mixed direction, in (0, 1].
        steps, start_tries, bisection_steps, spherical_step, source_step, start: as `boundary`.
    """

    cells: int = 8
    mask: bool = True
    surrogate: Model | None = None
    surrogate_weight: float = 0.5
    steps: int = 5000
    start_tries: int = 25
    bisection_steps: int = 10
    spherical_step: float = 0.3
    source_step: float = 0.1
    start: Attack | None = None

    @property
    def norm(self) -> Norm:
        return "l2"

    @property
    def access(self) -> Access:
        return "decision" if self.start is None else self.start.access

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`. With an epsilon an image is done once it is within it."""
        import torch

        from .boundary import walk
        from .low_frequency import smooth_noise
        from .starts import find_starts

        best, found = find_starts(
            model,
            images,
            random,
            start=self.start,
            tries=self.start_tries,
            bisection_steps=self.bisection_steps,
        )
        asked = torch.zeros(len(images), dtype=torch.int64)

        def draw(rows: Tensor, here: Tensor) -> Tensor:
            direction = smooth_noise(rows, images.shape[1:], self.cells, random)
            if self.mask:
                direction = direction * _mask(here - images[rows])
            if self.surrogate is not None:
                asked[rows] += 1
                guided = (asked[rows] % 2 == 0).nonzero().flatten()
                if len(guided) == 0:
                    return direction
                hint = _gradient(
                    self.surrogate, here[guided], criterion, rows[guided], model.bounds
                )
                weight = self.surrogate_weight
                direction[guided] = (1 - weight) * _unit(direction[guided]) + weight * hint
            return direction

        walk(
            model,
            images,
            best,
            found,
            draw,
            steps=self.steps,
            spherical_step=self.spherical_step,
            source_step=self.source_step,
            epsilon=epsilon,
        )
        return best


def _mask(difference: Tensor) -> Tensor:
    """Weights (n, 1, H, W) in [MASK_FLOOR, 1] from the difference (n, C, H, W) of two images."""
    size = difference.abs().amax(1, keepdim=True)
    top = size.flatten(1).amax(1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return MASK_FLOOR + (1 - MASK_FLOOR) * size / top


def _unit(directions: Tensor) -> Tensor:
    import torch

    length = torch.linalg.vector_norm(directions.flatten(1), dim=1).clamp_min(1e-12)
    unit: Tensor = directions / length.view(-1, 1, 1, 1)
    return unit


def _gradient(
    surrogate: Model,
    images: Tensor,
    criterion: Criterion,
    rows: Tensor,
    bounds: tuple[float, float],
) -> Tensor:
    """Unit directions (n, C, H, W) in which the surrogate's adversarial loss falls.

    The loss is the cross-entropy of the wanted label, or the negative one of the true label. Images
    within the victim's bounds are rescaled to the surrogate's.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from .oracle import frozen, rescale

    with frozen(surrogate), torch.enable_grad():
        scaled = rescale(images, bounds, surrogate.bounds).requires_grad_(True)
        logits = surrogate(scaled)
        if criterion.targets is None:
            loss = -cross_entropy(logits, criterion.labels[rows], reduction="sum")
        else:
            loss = cross_entropy(logits, criterion.targets[rows], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, scaled)
    return -_unit(gradient)


def create(
    *,
    cells: int = 8,
    mask: bool = True,
    surrogate: Model | None = None,
    surrogate_weight: float = 0.5,
    steps: int = 5000,
    start_tries: int = 25,
    bisection_steps: int = 10,
    spherical_step: float = 0.3,
    source_step: float = 0.1,
    start: Attack | None = None,
) -> BiasedBoundary:
    """Make the attack; see `BiasedBoundary` for the parameters."""
    from .boundary import check_walk

    if cells < 0 or cells == 1:
        raise UsageError(f"got cells={cells}; wanted at least 2, or 0 for white noise")
    if not 0 < surrogate_weight <= 1:
        raise UsageError(f"got surrogate_weight={surrogate_weight}; wanted a share in (0, 1]")
    check_walk(steps, start_tries, bisection_steps, spherical_step, source_step)
    return BiasedBoundary(
        cells=cells,
        mask=mask,
        surrogate=surrogate,
        surrogate_weight=surrogate_weight,
        steps=steps,
        start_tries=start_tries,
        bisection_steps=bisection_steps,
        spherical_step=spherical_step,
        source_step=source_step,
        start=start,
    )
