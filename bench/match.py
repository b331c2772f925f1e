"""The unit of work: a model, an attack, a data set, a threat model and a seed.

The laptop's command line and the server play the same function. It yields facts, one `Outcome` an
image; every score, plot and board cell is computed from those.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from attacks import Misclassification, Targeted, all_distances, image_seed, perturb

from .errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from attacks import Access, Attack, Criterion, Model, Norm, Pool, Status
    from attacks.ledger import Ledger

    from .datasets.types import Batch, Dataset


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """What an attack may do, and what counts.

    Attributes:
        norm: the distance that counts, on values in [0, 1]; L0 counts pixels.
        epsilon: the radius to stay in, or None to make the distance small.
        access: the most that the attack may see of the model.
        targeted: a given wrong label is wanted instead of any.
        max_queries: images that may be asked for each sample, or None.
        quantised: only 8-bit images count.
    """

    norm: Norm
    epsilon: float | None = None
    access: Access = "gradient"
    targeted: bool = False
    max_queries: int | None = None
    quantised: bool = False


@dataclass(frozen=True, kw_only=True)
class Match:
    """A model against an attack on some images.

    Attributes:
        model, attack, dataset, threat: who plays, on what, under which rules.
        seed: decides every random number.
        pool: images that a search may start from (a targeted one has to); see `bench.pools`.
    """

    model: Model
    attack: Attack
    dataset: Dataset
    threat: ThreatModel
    seed: int = 0
    pool: Pool | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one image.

    Attributes:
        image_id: the data set's name for it.
        clean_label, predicted: the true label and the model's for the clean image.
        clean_correct: whether they agree.
        target: the wanted label of a targeted match.
        success: an adversarial was found and verified by us.
        distance: in the threat model's norm; 0 for a clean error, infinite for a failure.
        distances: every norm of a success, else None.
        queries: images asked for this one; gradients: how many of them backwards.
        seconds: its share of the batch's wall time.
        status: clean_error, success, failed, exhausted, invalid.
        reason: what the attack's author should know, or None.
        trace: (queries, distance) of the best adversarial asked so far.
        adversarial: where a run keeps the image: its path in the folder, and its sha256.
        adversarial_label: the model's label for the adversarial; None where there is none (and in
            facts that were written before it was kept).
        image: the adversarial (C, H, W) float32 in [0, 1], or None; not part of the JSON.
        cached: it was not played now but read from the cache; not part of the JSON.
    """

    image_id: str
    clean_label: int
    predicted: int
    clean_correct: bool
    target: int | None
    success: bool
    distance: float
    distances: Mapping[Norm, float] | None
    queries: int
    gradients: int
    seconds: float
    status: Status
    reason: str | None
    trace: tuple[tuple[int, float], ...]
    adversarial: Mapping[str, str] | None = None
    adversarial_label: int | None = None
    image: Tensor | None = field(default=None, compare=False, repr=False)
    cached: bool = field(default=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """As a line of `outcomes.jsonl`: an infinite distance is null."""
        return {
            "image_id": self.image_id,
            "clean_label": self.clean_label,
            "predicted": self.predicted,
            "clean_correct": self.clean_correct,
            "target": self.target,
            "success": self.success,
            "distance": None if self.distance == float("inf") else self.distance,
            "distances": dict(self.distances) if self.distances is not None else None,
            "queries": self.queries,
            "gradients": self.gradients,
            "seconds": round(self.seconds, 6),
            "status": self.status,
            "reason": self.reason,
            "adversarial": dict(self.adversarial) if self.adversarial else None,
            "adversarial_label": self.adversarial_label,
            "trace": [list(point) for point in self.trace],
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_json` (without the image)."""
        values = dict(line)
        if values["distance"] is None:
            values["distance"] = float("inf")
        values["trace"] = tuple((int(q), float(d)) for q, d in values["trace"])
        return cls(**values)


def play(
    match: Match,
    *,
    batch_size: int = 64,
    skip: Collection[str] = frozenset(),
    ledger: Ledger | None = None,
) -> Iterator[Outcome]:
    """Play a match, one batch at a time; yields one outcome an image, in the data set's order.

    An image's result does not depend on the batch size, but for the last bits of the model's own
    arithmetic (and for Foolbox attacks that couple their batch: see `attacks.foolbox`).

    Args:
        match: what to play.
        batch_size: images attacked together.
        skip: ids of images that are done already.
        ledger: takes down every question; its rows are places in the data set.

    Raises:
        UserError: a targeted match on a data set with fewer than two classes, or a batch size
            below 1.
        attacks.UsageError: the attack needs more access than the threat model grants, or images
            outside the model's bounds.
    """
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; wanted at least 1")
    places = {image_id: place for place, image_id in enumerate(match.dataset.ids)}
    for batch in match.dataset.batches(batch_size):
        remaining = without(batch, skip)
        if remaining.ids:
            part = None if ledger is None else ledger.at([places[i] for i in remaining.ids])
            yield from play_batch(match, remaining, part)


def play_batch(match: Match, batch: Batch, ledger: Ledger | None = None) -> list[Outcome]:
    """Play the images of one batch; one outcome for each, in their order.

    Args:
        ledger: takes down every question; its rows are places in the batch.

    Raises:
        UserError, attacks.UsageError: as `play`.
    """
    threat = match.threat
    images, labels = batch.images, batch.targets
    criterion = criterion_of(match, batch)
    started = time.perf_counter()
    result = perturb(
        match.attack,
        match.model,
        images,
        criterion,
        epsilon=threat.epsilon,
        seed=match.seed,
        ids=batch.ids,
        budget=threat.max_queries,
        quantised=threat.quantised,
        access=threat.access,
        norm=threat.norm,
        pool=match.pool,
        ledger=ledger,
    )
    seconds = (time.perf_counter() - started) / len(images)
    every_norm = all_distances(images, result.images)
    outcomes = []
    for i, image_id in enumerate(batch.ids):
        success = bool(result.success[i])
        label, predicted = int(labels[i]), int(result.predicted[i])
        outcomes.append(
            Outcome(
                image_id=image_id,
                clean_label=label,
                predicted=predicted,
                clean_correct=label == predicted,
                target=int(criterion.targets[i]) if criterion.targets is not None else None,
                success=success,
                distance=float(result.distance[i]),
                distances={n: float(d[i]) for n, d in every_norm.items()} if success else None,
                queries=int(result.queries[i]),
                gradients=int(result.gradients[i]),
                seconds=seconds,
                status=result.status[i],
                reason=result.reasons[i],
                trace=tuple(result.traces[i]),
                adversarial_label=int(result.verdicts[i]) if success else None,
                image=result.images[i] if success else None,
            )
        )
    return outcomes


def criterion_of(match: Match, batch: Batch) -> Criterion:
    """What counts as adversarial for the images of a batch."""
    if not match.threat.targeted:
        return Misclassification(batch.targets)
    classes = len(match.dataset.class_names)
    wanted = target_labels(batch.targets, batch.ids, classes, match.seed)
    return Targeted(batch.targets, wanted)


def target_labels(labels: Tensor, ids: list[str], classes: int, seed: int) -> Tensor:
    """A wrong label for each image (N,) int64, drawn evenly by (seed, image id)."""
    if classes < 2:
        raise UserError(f"a targeted match needs at least 2 classes, this data set has {classes}")
    steps = [1 + image_seed(seed, f"target:{image_id}") % (classes - 1) for image_id in ids]
    return (labels + torch.tensor(steps)) % classes


def without(batch: Batch, skip: Collection[str]) -> Batch:
    """The images of a batch whose ids are not among these."""
    keep = [i for i, image_id in enumerate(batch.ids) if image_id not in skip]
    if len(keep) == len(batch.ids):
        return batch
    return type(batch)([batch.ids[i] for i in keep], batch.images[keep], batch.targets[keep])
