"""FAB: steps to the nearest linearised boundary, near the image (Croce & Hein, 1907.02044).

What differs from the paper, and why: an image with an epsilon is done once it is within it; each
image has random restarts of its own; a targeted search walks to the boundary between its wanted
label and the most likely other one. Gradients of all classes come from one forward pass, which
costs one query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .types import Access

if TYPE_CHECKING:
    from torch import Tensor

    from .criteria import Criterion
    from .oracle import Oracle
    from .random import ImageRandom

RESTART_RADIUS = {"linf": 0.3, "l2": 1.0, "l1": 5.0}
"""Where nothing was found yet and no epsilon is given, restarts start within half of this share of
the bounds' range (the defaults of the authors' code)."""

OUTWARDS = 0.01
"""How far a point of the final search lies beyond the estimated root, as a share of the way."""


@dataclass(frozen=True, kw_only=True)
class FAB:
    """White-box, minimises the norm; untargeted or targeted.

    Attributes:
        norm: the distance to make small.
        steps: steps of a run; each costs a gradient and a query.
        restarts: runs; the first starts at the image, the others at random points around it.
        targets: 0 walks to the nearest of all classes at each step, which takes a backward pass for
            each class; otherwise FAB-T: a run towards each of this many most likely other classes.
        alpha_max: the largest bias towards the image.
        eta: how far a step overshoots the boundary.
        beta: how far an adversarial is taken back towards the image before the next step.
        final_steps: secant steps between the image and the best point at the end.
    """

    norm: Literal["linf", "l2", "l1"] = "linf"
    steps: int = 100
    restarts: int = 1
    targets: int = 0
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    final_steps: int = 3

    @property
    def access(self) -> Access:
        return "gradient"

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

        from .losses import likely_aims

        best = images.clone()
        best_distance = torch.full((len(images),), torch.inf)
        enough = -1.0 if epsilon is None else epsilon
        aims = likely_aims(model, images, criterion, self.targets)
        for k in range(1 if aims is None else aims.shape[1]):
            for restart in range(self.restarts):
                left = (best_distance > enough) & (model.remaining() > 0)
                rows = left.nonzero().flatten()
                if len(rows) == 0:
                    return best
                start = images[rows]
                if restart > 0:
                    start = self._near(model, start, rows, best_distance[rows], epsilon, random)
                aim = None if aims is None else aims[rows, k]
                self._walk(model, images, criterion, rows, aim, start, best, best_distance, enough)
        if epsilon is None:
            self._final_search(model, images, criterion, best, best_distance)
        return best

    def _near(
        self,
        model: Oracle,
        clean: Tensor,
        rows: Tensor,
        best_distance: Tensor,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """A random point (n, C, H, W) at half of the radius that is of interest."""
        import torch

        from .projections import on_sphere

        lower, upper = model.bounds
        most = RESTART_RADIUS[self.norm] * (upper - lower) if epsilon is None else epsilon
        radius = torch.where(best_distance.isfinite(), best_distance, most)
        if epsilon is not None:
            radius = radius.clamp_max(epsilon)
        noise = on_sphere(self.norm, rows, clean.shape[1:], radius / 2, random)
        return (clean + noise).clamp(lower, upper)

    def _walk(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        rows: Tensor,
        aim: Tensor | None,
        start: Tensor,
        best: Tensor,
        best_distance: Tensor,
        enough: float,
    ) -> None:
        """One run (algorithm 1) for rows (n,); improves best and best_distance in place."""
        import torch

        from .distances import distance
        from .projections import as_sent, onto_hyperplane

        point = start
        for _ in range(self.steps):
            stay = (model.remaining()[rows] > 0) & (best_distance[rows] > enough)
            if not bool(stay.all()):
                rows, point = rows[stay], point[stay]
                aim = None if aim is None else aim[stay]
            if len(rows) == 0:
                return
            value, normal = self._boundary(model, criterion, rows, aim, point)
            flat = normal.flatten(1)
            stuck = flat.abs().amax(1) == 0
            if bool(stuck.any()):
                for row in rows[stuck].tolist():
                    model.note(row, "the gradient is zero: no boundary is in sight")
                rows, point = rows[~stuck], point[~stuck]
                value, normal, flat = value[~stuck], normal[~stuck], flat[~stuck]
                aim = None if aim is None else aim[~stuck]
                if len(rows) == 0:
                    return
            n = len(rows)
            clean = images[rows]
            both = torch.cat([point, clean])
            # The linearised boundary as seen from the point, and from the image.
            values = torch.cat([value, value + (normal * (clean - point)).flatten(1).sum(1)])
            change = onto_hyperplane(
                self.norm, both.flatten(1), flat.repeat(2, 1), values, model.bounds
            ).view_as(both)
            size = distance(self.norm, torch.zeros_like(change), change).clamp_min(1e-8)
            bias = (size[:n] / (size[:n] + size[n:])).clamp_max(self.alpha_max)
            stepped = both + self.eta * change
            point = torch.lerp(stepped[:n], stepped[n:], bias.view(n, 1, 1, 1))
            point = point.clamp(*model.bounds)

            asked = (model.remaining()[rows] > 0).nonzero().flatten()
            sent = as_sent(model, point[asked])
            hit = model.is_adversarial(sent, rows[asked])
            asked, sent = asked[hit], sent[hit]
            measured = distance(self.norm, clean[asked], sent)
            nearer = measured < best_distance[rows[asked]]
            best[rows[asked[nearer]]] = sent[nearer]
            best_distance[rows[asked[nearer]]] = measured[nearer]
            point[asked] = torch.lerp(clean[asked], point[asked], self.beta)

    def _boundary(
        self, model: Oracle, criterion: Criterion, rows: Tensor, aim: Tensor | None, point: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The nearest linearised boundary: its function at the points (n,) and its gradient.

        Adversarial where the function is positive.
        """
        import torch

        from .losses import input_gradient, margin

        asked = point.detach().requires_grad_()
        logits = model.logits(asked, rows)
        labels = criterion.labels[rows]
        own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
        if aim is not None:
            if criterion.targets is not None:
                values = margin(logits, aim)
            else:
                values = logits.gather(1, aim.unsqueeze(1)).squeeze(1) - own
            return values.detach(), input_gradient(values, asked)
        if logits.shape[1] < 2:
            return torch.zeros(len(rows)), torch.zeros_like(point)
        dual = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}[self.norm]
        nearest = torch.full((len(rows),), torch.inf)
        value, normal = torch.zeros(len(rows)), torch.zeros_like(point)
        classes = logits.shape[1]
        for k in range(1, classes):
            other = (labels + k) % classes
            values = logits.gather(1, other.unsqueeze(1)).squeeze(1) - own
            gradient = input_gradient(values, asked, again=k + 1 < classes)
            length = torch.linalg.vector_norm(gradient.flatten(1), ord=dual, dim=1)
            away = values.detach().abs() / length
            nearer = away < nearest  # never where the gradient is zero
            nearest = torch.where(nearer, away, nearest)
            value = torch.where(nearer, values.detach(), value)
            normal = torch.where(nearer.view(-1, 1, 1, 1), gradient, normal)
        return value, normal

    def _final_search(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        best: Tensor,
        best_distance: Tensor,
    ) -> None:
        """Secant steps on the way from the image to its best point; improves both in place."""
        import torch

        from .distances import distance
        from .losses import margin
        from .projections import as_sent

        def outside(points: Tensor, rows: Tensor) -> Tensor:
            """Positive where adversarial (n,)."""
            scores = model.scores(points, rows)
            if criterion.targets is not None:
                return margin(scores, criterion.targets[rows])
            return -margin(scores, criterion.labels[rows])

        found = best_distance.isfinite() & (self.final_steps > 0)
        rows = (found & (model.remaining() >= self.final_steps + 2)).nonzero().flatten()
        if len(rows) == 0:
            return
        clean, far = images[rows], best[rows].clone()
        low, high = torch.zeros(len(rows)), torch.ones(len(rows))
        low_value, high_value = outside(clean, rows), outside(far, rows)
        for _ in range(self.final_steps):
            root = low + (high - low) * low_value / (low_value - high_value)
            share = torch.lerp(root, high, OUTWARDS).nan_to_num(nan=1.0).clamp(0.0, 1.0)
            tried = as_sent(model, torch.lerp(clean, far, share.view(-1, 1, 1, 1)))
            value = outside(tried, rows)
            hit = value > 0
            high, high_value = torch.where(hit, share, high), torch.where(hit, value, high_value)
            low, low_value = torch.where(hit, low, share), torch.where(hit, low_value, value)
            measured = distance(self.norm, clean, tried)
            nearer = hit & (measured < best_distance[rows])
            best[rows[nearer]] = tried[nearer]
            best_distance[rows[nearer]] = measured[nearer]


def create(
    *,
    norm: Literal["linf", "l2", "l1"] = "linf",
    steps: int = 100,
    restarts: int = 1,
    targets: int = 0,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    final_steps: int = 3,
) -> FAB:
    """Make the attack; see `FAB` for the parameters."""
    if norm not in ("linf", "l2", "l1"):
        raise UsageError(f"got norm={norm!r}; wanted linf, l2 or l1")
    if min(steps, restarts) < 1 or min(targets, final_steps) < 0:
        raise UsageError(
            f"got steps={steps}, restarts={restarts}, targets={targets}, "
            f"final_steps={final_steps}; wanted at least 1, 1, 0 and 0"
        )
    if not (0 <= alpha_max <= 1 and eta >= 1 and 0 < beta < 1):
        raise UsageError(
            f"got alpha_max={alpha_max}, eta={eta}, beta={beta}; wanted values in [0, 1], of at "
            "least 1 and in (0, 1)"
        )
    return FAB(
        norm=norm,
        steps=steps,
        restarts=restarts,
        targets=targets,
        alpha_max=alpha_max,
        eta=eta,
        beta=beta,
        final_steps=final_steps,
    )
