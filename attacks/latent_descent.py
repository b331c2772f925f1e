"""The latent descent attack on generative classifiers (Schott et al. 2018, arXiv 1805.09190)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .types import Access, GenerativeModel

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom


@dataclass(frozen=True, kw_only=True)
class LatentDescent:
    """Walk from the image towards what the model itself imagines of another class.

    At each of `coarse_steps` shares t of the way, the model's best reconstruction of the likeliest
    other class (or of the wanted one) is taken at the current point, and the next point is
    (1 - t) x + t G. The first one that is adversarial ends the walk; a bisection between it and the
    clean image follows (the paper's appendix; its public code mixes up the indices of images and
    steps there, this one is written from the description).

    The reconstructions need the model's inside: `generator` is the same model (or a guess at it)
    and is asked without counting; the victim is asked for labels only.

    Attributes:
        generator: gives reconstructions.
        norm: the distance that is compared; the search itself is along straight lines.
        coarse_steps: points of the walk.
        bisection_steps: halvings after it.
    """

    generator: GenerativeModel
    norm: Literal["l2", "linf"] = "l2"
    coarse_steps: int = 50
    bisection_steps: int = 10

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
        """See `attacks.Attack.run`. The search is the same with an epsilon; nothing is drawn.

        Raises:
            UsageError: the generator has other bounds than the model, or gives something that is
                no reconstruction.
        """
        import torch

        from .starts import bisect

        if self.generator.bounds != model.bounds:
            raise UsageError(
                f"the generator works in {self.generator.bounds}, the model in {model.bounds}; "
                "wanted the same bounds"
            )
        lower, upper = model.bounds
        current = images.clone()
        ends = images.clone()
        found = torch.zeros(len(images), dtype=torch.bool)
        for step in range(1, self.coarse_steps + 1):
            rows = (~found & (model.remaining() > 0)).nonzero().flatten()
            if len(rows) == 0:
                break
            goal = self._imagined(current[rows], criterion, rows)
            tried = torch.lerp(images[rows], goal, step / self.coarse_steps).clamp(lower, upper)
            current[rows] = tried
            hit = model.is_adversarial(tried, rows)
            ends[rows[hit]] = tried[hit]
            found[rows[hit]] = True
        for row in (~found).nonzero().flatten().tolist():
            model.note(row, "even the reconstruction of another class is given the true label")
        rows = found.nonzero().flatten()
        ends[rows] = bisect(model, images[rows], ends[rows], rows, steps=self.bisection_steps)
        return ends

    def _imagined(self, current: Tensor, criterion: Criterion, rows: Tensor) -> Tensor:
        """Reconstructions (n, C, H, W) of the class that each image is led to."""
        import torch

        with torch.no_grad():
            scores, pictures = self.generator.reconstruct(current)
        if pictures.shape != (*scores.shape, *current.shape[1:]) or len(scores) != len(current):
            raise UsageError(
                f"reconstruct gave scores {tuple(scores.shape)} and images "
                f"{tuple(pictures.shape)}; wanted (n, K) and (n, K, C, H, W) for "
                f"{tuple(current.shape)}"
            )
        each = torch.arange(len(current))
        if criterion.targets is not None:
            return pictures[each, criterion.targets[rows]]
        scores = scores.clone()
        scores[each, criterion.labels[rows]] = -torch.inf
        return pictures[each, scores.argmax(1)]


def create(
    *,
    generator: GenerativeModel,
    norm: Literal["l2", "linf"] = "l2",
    coarse_steps: int = 50,
    bisection_steps: int = 10,
) -> LatentDescent:
    """Make the attack; see `LatentDescent` for the parameters."""
    if not isinstance(generator, GenerativeModel):
        raise UsageError(
            f"the generator is a {type(generator).__name__} without reconstruct(images); wanted a "
            "generative model, such as abs"
        )
    if norm not in ("l2", "linf"):
        raise UsageError(f"got norm={norm!r}; wanted l2 or linf")
    if coarse_steps < 1 or bisection_steps < 0:
        raise UsageError(
            f"got coarse_steps={coarse_steps}, bisection_steps={bisection_steps}; wanted at least "
            "1 and 0"
        )
    return LatentDescent(
        generator=generator,
        norm=norm,
        coarse_steps=coarse_steps,
        bisection_steps=bisection_steps,
    )
