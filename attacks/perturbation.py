"""The one entry to every attack: check, run, clip, judge again, measure again.

Nobody's success flag is trusted: what an attack returns counts only if it is finite, within the
bounds and the radius, and adversarial on a fresh forward pass of the values that can be sent. What
it asked counts as well: an image that fooled the model is a fact, whether or not the attack handed
it in, whether or not it ever came to an end. So a run that is cut short loses nothing, and the last
point of an image's trace is never better than its distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .criteria import Criterion, Misclassification
from .distances import distance, project
from .errors import BudgetExhausted, UsageError
from .ledger import Ledger
from .oracle import CHUNK, LEVELS, Oracle, frozen, quantise
from .random import ImageRandom
from .types import Access, Attack, Model, Norm, Pool, Status

LATTICE_TOLERANCE = 1e-3
"""How far (in 8-bit steps) a clean image may lie off the lattice on a quantised track."""

RADIUS_TOLERANCE = 1e-5
"""Relative slack of the radius, for float32 arithmetic."""


@dataclass(frozen=True)
class Adversarials:
    """What came of an attack on N images.

    Attributes:
        images: (N, C, H, W); the clean image where nothing adversarial was found.
        success: (N,) bool; verified by us.
        distance: (N,) in the norm that counts; 0 for a clean error, infinite for a failure.
        queries: (N,) int64, images asked; gradients: (N,) int64, how many of them backwards.
        predicted: (N,) int64, the model's labels of the clean images.
        verdicts: (N,) int64, the model's labels of `images`.
        status: one word an image; see `Status`.
        reasons: what the attack's author should know, or None.
        traces: for each image [(queries, distance), ...], the best adversarial asked so far.
    """

    images: Tensor
    success: Tensor
    distance: Tensor
    queries: Tensor
    gradients: Tensor
    predicted: Tensor
    verdicts: Tensor
    status: list[Status]
    reasons: list[str | None]
    traces: list[list[tuple[int, float]]]


def perturb(
    attack: Attack,
    model: Model,
    images: Tensor,
    labels: Tensor | Criterion,
    *,
    epsilon: float | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    budget: int | None = None,
    quantised: bool = False,
    access: Access | None = None,
    norm: Norm | None = None,
    pool: Pool | None = None,
    ledger: Ledger | None = None,
) -> Adversarials:
    """Attack a batch.

    Images that the model gets wrong are not attacked: their distance is 0 and they cost nothing.

    Args:
        attack: any object with the fields of `attacks.Attack`.
        model: any object with the fields of `attacks.Model`.
        images: (N, C, H, W) float32 within the model's bounds.
        labels: true labels (N,) int64, or a criterion such as `Targeted`.
        epsilon: the radius to stay in, or None to make the distance as small as possible.
        seed: with the ids, decides every random number; an image's result does not depend on
            the batch that it is in.
        ids: a name for each image, "0", "1", ... when not given.
        budget: queries that each image may cost.
        quantised: only 8-bit values count (images must lie on them).
        access: what the attack may see at most; what it needs, when not given.
        norm: the distance that counts (and that epsilon is in); the attack's own, when not given.
        pool: labelled images of other samples, for attacks that start from an image of another
            class. One that equals the clean image is never taken, because its label is the same.
        ledger: takes down every question that the attack asks; its rows are those of the batch.

    Raises:
        UsageError: input of the wrong shape, type or range; an attack that needs more access
            than was granted.
    """
    criterion = labels if isinstance(labels, Criterion) else Misclassification(labels)
    names = [str(i) for i in range(len(images))] if ids is None else list(ids)
    granted = attack.access if access is None else access
    counted = attack.norm if norm is None else norm
    _check_input(model, images, criterion, names, epsilon, budget, quantised)
    _check_pool(pool, images)

    with frozen(model):
        predicted = _labels(model, images)
        rows = torch.arange(len(images))
        active = rows[~criterion.holds(predicted, rows)]
        origins = images[active].clone()
        oracle = Oracle(
            model,
            origins,
            criterion.take(active),
            norm=counted,
            access=granted,
            budget=budget,
            quantised=quantised,
            pool=pool,
            ledger=None if ledger is None else ledger.at(active),
        )
        oracle.require(attack.access)
        random = ImageRandom.of(seed, [names[i] for i in active.tolist()], images.device)
        found, cut_short = _run(attack, oracle, origins, epsilon, random)
        finite = torch.isfinite(found).flatten(1).all(1)
        found = torch.where(finite.view(-1, 1, 1, 1), found, origins)
        found = _admissible(found, origins, epsilon, oracle)
        verdicts = _labels(model, found)
        success = oracle.criterion.holds(verdicts, torch.arange(len(found)))
        measured = distance(oracle.norm, origins, found)
        answered, answers = success.clone(), verdicts.clone()
        _prefer_asked(model, oracle, origins, epsilon, found, verdicts, success, measured)

    status: list[Status] = ["clean_error"] * len(images)
    reasons: list[str | None] = [None] * len(images)
    traces: list[list[tuple[int, float]]] = [[] for _ in range(len(images))]
    spent = oracle.remaining() <= 0
    for i, row in enumerate(active.tolist()):
        traces[row] = oracle.traces[i]
        reasons[row] = oracle.notes[i]
        if success[i]:
            status[row] = "success"
            if not answered[i] and not cut_short:
                reasons[row] = reasons[row] or (
                    f"the returned image is not adversarial (the model says {int(answers[i])}); "
                    "the best one that was asked counts"
                )
        elif not finite[i]:
            status[row] = "invalid"
            reasons[row] = reasons[row] or "the attack returned NaN or infinite values"
        else:
            status[row] = "exhausted" if cut_short or spent[i] else "failed"
            reasons[row] = reasons[row] or _why(
                status[row], float(measured[i]), int(verdicts[i]), int(oracle.queries[i])
            )

    result = images.clone()
    result[active] = torch.where(success.view(-1, 1, 1, 1), found, origins)
    final = predicted.clone()
    final[active] = torch.where(success, verdicts, predicted[active])
    distances = torch.zeros(len(images))
    distances[active] = torch.where(success, measured, torch.inf)
    return Adversarials(
        images=result,
        success=_scatter(success, active, len(images)),
        distance=distances,
        queries=_scatter(oracle.queries, active, len(images)),
        gradients=_scatter(oracle.gradients, active, len(images)),
        predicted=predicted,
        verdicts=final,
        status=status,
        reasons=reasons,
        traces=traces,
    )


def _run(
    attack: Attack, oracle: Oracle, origins: Tensor, epsilon: float | None, random: ImageRandom
) -> tuple[Tensor, bool]:
    """Candidates (n, C, H, W), and whether the budget ended the run from outside."""
    if len(origins) == 0:
        return origins.clone(), False
    try:
        found = attack.run(
            oracle, origins.clone(), oracle.criterion, epsilon=epsilon, random=random
        )
    except BudgetExhausted:
        return oracle.best.clone(), True
    if found.shape != origins.shape:
        raise UsageError(
            f"{type(attack).__name__} returned {tuple(found.shape)}; wanted one image for each: "
            f"{tuple(origins.shape)}"
        )
    return found.detach().to(origins), False


def _admissible(found: Tensor, origins: Tensor, epsilon: float | None, oracle: Oracle) -> Tensor:
    """Clip, project and round: the nearest image that the threat model allows."""
    lower, upper = oracle.bounds
    inside = found.clamp(lower, upper)
    if epsilon is not None:
        outside = distance(oracle.norm, origins, inside) > epsilon * (1 + RADIUS_TOLERANCE)
        projected = project(oracle.norm, inside, origins, epsilon).clamp(lower, upper)
        inside = torch.where(outside.view(-1, 1, 1, 1), projected, inside)
    if not oracle.quantised:
        return inside
    rounded = quantise(inside, oracle.bounds)
    if epsilon is None:
        return rounded
    # Rounding may step out of the ball; towards the clean image it cannot.
    step = (upper - lower) / LEVELS
    truncated = origins + ((inside - origins) / step).trunc() * step
    outside = distance(oracle.norm, origins, rounded) > epsilon * (1 + RADIUS_TOLERANCE)
    return torch.where(outside.view(-1, 1, 1, 1), quantise(truncated, oracle.bounds), rounded)


def _labels(model: Model, images: Tensor) -> Tensor:
    """The model's labels (n,) int64 on a fresh forward pass that nobody counts."""
    if len(images) == 0:
        return torch.zeros(0, dtype=torch.int64)
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in images.split(CHUNK)])


def _prefer_asked(
    model: Model,
    oracle: Oracle,
    origins: Tensor,
    epsilon: float | None,
    found: Tensor,
    verdicts: Tensor,
    success: Tensor,
    measured: Tensor,
) -> None:
    """Put the best image asked in the answer's place where it is nearer and fools again.

    Changes found (n, C, H, W), its verdicts (n,), success (n,) and measured (n,) in place; only
    the images that change are asked.
    """
    nearer = oracle.best_distance < torch.where(success, measured, torch.inf)
    if epsilon is not None:
        nearer &= oracle.best_distance <= epsilon * (1 + RADIUS_TOLERANCE)
    rows = nearer.nonzero().flatten()
    asked = _labels(model, oracle.best[rows])
    fooled = oracle.criterion.holds(asked, rows)
    rows = rows[fooled]
    found[rows] = oracle.best[rows]
    verdicts[rows] = asked[fooled]
    measured[rows] = distance(oracle.norm, origins[rows], oracle.best[rows])
    success[rows] = True


def _why(status: Status, measured: float, verdict: int, queries: int) -> str:
    if measured > 0:
        return f"not adversarial: the model still says {verdict}"
    if status == "exhausted":
        return f"nothing adversarial was asked within the budget of {queries} queries"
    return "the image came back unchanged"


def _scatter(values: Tensor, active: Tensor, n: int) -> Tensor:
    out = torch.zeros(n, dtype=values.dtype)
    out[active] = values
    return out


def _check_input(
    model: Model,
    images: Tensor,
    criterion: Criterion,
    names: list[str],
    epsilon: float | None,
    budget: int | None,
    quantised: bool,
) -> None:
    n = len(images)
    if images.ndim != 4 or images.dtype != torch.float32:
        raise UsageError(
            f"images must be (N, C, H, W) float32, got {tuple(images.shape)} {images.dtype}; "
            "8-bit images are divided by 255 first"
        )
    if len(criterion.labels) != n or len(names) != n:
        raise UsageError(
            f"got {n} images, {len(criterion.labels)} labels and {len(names)} ids; "
            "wanted one of each for every image"
        )
    if len(set(names)) != n:
        raise UsageError("ids must differ: each image has random numbers of its own")
    lower, upper = model.bounds
    if n and (float(images.min()) < lower or float(images.max()) > upper):
        raise UsageError(
            f"images lie in [{float(images.min()):.4g}, {float(images.max()):.4g}], the model "
            f"takes [{lower:g}, {upper:g}]; scale them first"
        )
    if epsilon is not None and not epsilon > 0:
        raise UsageError(f"epsilon is {epsilon}; wanted a radius above 0, or none to minimise")
    if budget is not None and budget < 1:
        raise UsageError(f"the budget is {budget} queries; wanted at least 1, or none")
    if quantised and n:
        steps = (images - lower) * (LEVELS / (upper - lower))
        off = float((steps - steps.round()).abs().max())
        if off > LATTICE_TOLERANCE:
            raise UsageError(
                f"a clean image lies {off:.2g} of an 8-bit step off the lattice; on a quantised "
                "track images are uint8 divided by 255"
            )


def _check_pool(pool: Pool | None, images: Tensor) -> None:
    if pool is None:
        return
    if pool.images.shape[1:] != images.shape[1:] or pool.labels.shape != pool.images.shape[:1]:
        raise UsageError(
            f"the pool holds images {tuple(pool.images.shape)} and labels "
            f"{tuple(pool.labels.shape)}; wanted (M, {', '.join(map(str, images.shape[1:]))}) "
            "and (M,)"
        )
