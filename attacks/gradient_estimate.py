"""Any gradient attack with scores alone: gradients estimated from probes (1805.09190, 1804.08598).

Coordinate-wise: a finite difference for each value, as the ABS paper attacked models without
gradients (1805.09190, appendix; a step of 0.1). NES: natural evolution strategies with antithetic
normal noise (Ilyas et al. 2018, 1804.08598, section 2.2), a few probes for any number of values.

What differs, and why: each image has probes and a loss of its own (Foolbox sums the losses of a
batch before it takes differences, so that images disturb each other); at the bounds a difference
is divided by the way between its probes, and noise is shifted inwards; an estimate gives the
gradient of every function of the scores, so that one for each class costs no more than one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .types import Access, Attack, Norm

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

STEPS = {"coordinate": 0.1, "nes": 0.01}
"""Sizes of a probe when none is given. The first is the ABS paper's."""


@dataclass(frozen=True, kw_only=True)
class GradientEstimate:
    """A score attack out of a gradient attack.

    A gradient costs two queries for each of `samples` directions (nes) or for each value of the
    image (coordinate), and one for the scores themselves. An image that can't pay for another one
    is done.

    A NES estimate is right up to a cosine of about sqrt(k / (k + d + 1)), for k samples and d
    values: 50 samples on 784 values give 0.24.

    Attributes:
        attack: with gradient access. It finds, targeted or not, and within a radius or to the
            smallest distance, what it would find with these gradients.
        method: "nes" or "coordinate".
        samples: directions of one NES estimate, each asked up and down.
        sigma: the size of a probe, as a share of the range of the bounds: the standard deviation
            of a value (nes) or the step of the one value (coordinate). None for 0.01 and 0.1.
    """

    attack: Attack
    method: Literal["coordinate", "nes"] = "nes"
    samples: int = 50
    sigma: float | None = None

    @property
    def norm(self) -> Norm:
        return self.attack.norm

    @property
    def access(self) -> Access:
        return "score"

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`, and what the inner attack's says.

        Raises:
            UsageError: on a quantised track, probes smaller than an 8-bit step.
        """
        from .estimates import EstimatedView
        from .oracle import LEVELS

        sigma = STEPS[self.method] if self.sigma is None else self.sigma
        if model.quantised and sigma * LEVELS < 1:
            raise UsageError(
                f"gradient_estimate: sigma={sigma:g} is less than the step 1/{LEVELS} of an 8-bit "
                "image, and probes would be rounded back; give at least 0.004"
            )
        lower, upper = model.bounds
        view = EstimatedView(
            model,
            random,
            method=self.method,
            samples=self.samples,
            step=sigma * (upper - lower),
        )
        return self.attack.run(view, images, view.criterion, epsilon=epsilon, random=random)


def create(
    *,
    attack: Attack,
    method: Literal["coordinate", "nes"] = "nes",
    samples: int = 50,
    sigma: float | None = None,
) -> GradientEstimate:
    """Make the attack; see `GradientEstimate` for the parameters."""
    if attack.access != "gradient":
        raise UsageError(
            f"got attack={type(attack).__name__}, which needs {attack.access} access only; wanted "
            "a gradient attack, such as apgd (play this one by itself)"
        )
    if method not in STEPS:
        raise UsageError(f"got method={method!r}; wanted nes or coordinate")
    if samples < 1:
        raise UsageError(f"got samples={samples}; wanted at least 1")
    if sigma is not None and not 0 < sigma <= 1:
        raise UsageError(f"got sigma={sigma:g}; wanted a share of the bounds' range in (0, 1]")
    return GradientEstimate(attack=attack, method=method, samples=samples, sigma=sigma)
