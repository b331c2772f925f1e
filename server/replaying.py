"""A match again from what is stored: its ledger, its adversarials, its images. Nothing is attacked.

Every verdict is found anew: how many queries each image cost and what was nearest after each (from
the ledger), how far each stored adversarial lies (from its pixels), and, where the model is one of
ours, what it says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from bench.errors import UserError

from . import frozen, hidden, rules
from .db.tables import Attempt, Job, Match, SampleResult
from .plays import samples_of, zoo_model

if TYPE_CHECKING:
    from attacks.ledger import Replayed
    from bench.datasets.types import Dataset
    from bench.tracks.types import Track

    from .storage import Store

Images = dict[int, NDArray[np.uint8]]
"""{sample: its adversarial (H, W, C)}."""

TOLERANCE = 1e-5
"""Of a distance measured again, relative: it was summed in float32."""


@dataclass(frozen=True)
class Replay:
    """What came of it.

    Attributes:
        images, questions: how many were looked at.
        asked_again: stored adversarials that a model of ours was shown again.
        wrong: what differs from the record, a line each; empty when all is as it was.
    """

    images: int
    questions: int
    asked_again: int
    wrong: tuple[str, ...]


def replay(session: Session, store: Store, match_id: str) -> Replay:
    """Find the verdicts of a finished match again.

    Raises:
        UserError: there is no such match, it was not played, or before there were ledgers.
    """
    from attacks import ledger

    match = session.get(Match, match_id)
    if match is None:
        raise UserError(f"there is no match {match_id!r}; /matches on a board's page lists them")
    found = select(SampleResult).where(SampleResult.match_id == match_id)
    results = list(session.scalars(found.order_by(SampleResult.sample)))
    sha256 = _ledger_of(session, match_id)
    if not results or sha256 is None:
        raise UserError(f"match {match_id} has no ledger: it was not played to its end yet")
    track = frozen.sharing(session, match.rules_version)[0]
    data = hidden.load(store, track) if rules.hidden(track) else samples_of(track)
    entries = ledger.loads(store.get(sha256))
    labels = [int(label) for label in data.labels]
    targets = _targets(track, data)
    try:
        again = ledger.replay(entries, labels, targets)
    except ValueError as error:
        return Replay(len(results), len(entries.rows), 0, (f"the ledger is damaged: {error}",))
    wrong = [line for row, one in zip(results, again, strict=True) for line in _differs(row, one)]
    adversarials = {
        row.sample: store.get_array(row.adversarial_sha256)
        for row in results
        if row.adversarial_sha256 is not None
    }
    wrong += _measured(track, data, results, adversarials)
    if match.model.source == "zoo" and adversarials:
        model = match.model.spec or ""
        wrong += _asked(model, track, adversarials, labels, targets)
        return Replay(len(results), len(entries.rows), len(adversarials), tuple(wrong))
    return Replay(len(results), len(entries.rows), 0, tuple(wrong))


def _ledger_of(session: Session, match_id: str) -> str | None:
    query = (
        select(Attempt.ledger_sha256)
        .join(Job, Job.id == Attempt.job_id)
        .where(Job.match_id == match_id, Attempt.outcome == "succeeded")
        .order_by(Attempt.started_at.desc())
    )
    return session.scalars(query).first()


def _targets(track: Track, data: Dataset) -> list[int] | None:
    from bench.match import target_labels

    if not track.threat.targeted:
        return None
    wanted = target_labels(data.targets, list(data.ids), len(data.class_names), track.seed)
    return [int(label) for label in wanted]


def _differs(row: SampleResult, again: Replayed) -> list[str]:
    trace = tuple((int(queries), float(far)) for queries, far in row.trace)
    found = []
    if again.queries != row.queries:
        found.append(f"{row.image_id}: {row.queries} queries on record, {again.queries} asked")
    if again.trace != trace:
        found.append(f"{row.image_id}: the curve on record is not that of what was asked")
    if row.success and (row.distance is None or row.distance > again.distance * (1 + TOLERANCE)):
        found.append(
            f"{row.image_id}: distance {row.distance} on record, {again.distance:g} was asked"
        )
    if not row.success and row.status != "clean_error" and again.trace:
        found.append(f"{row.image_id}: a failure on record, and an adversarial was asked")
    return found


def _measured(
    track: Track,
    data: Dataset,
    results: Sequence[SampleResult],
    stored: Images,
) -> list[str]:
    from attacks import distance
    from bench.adapters import to_images

    wrong = []
    for row in results:
        image = stored.get(row.sample)
        if image is None:
            if row.success:
                wrong.append(f"{row.image_id}: a success on record without its image")
            continue
        clean = to_images(data.pixels[row.sample : row.sample + 1])
        far = float(distance(track.threat.norm, clean, to_images(image[None]))[0])
        if row.distance is None or abs(far - row.distance) > TOLERANCE * max(1.0, far):
            wrong.append(f"{row.image_id}: distance {row.distance} on record, {far:g} measured")
    return wrong


def _asked(
    spec: str,
    track: Track,
    stored: Images,
    labels: Sequence[int],
    targets: Sequence[int] | None,
) -> list[str]:
    import torch

    from bench.adapters import to_images

    rows = sorted(stored)
    with torch.no_grad():
        images = to_images(np.stack([stored[row] for row in rows]))
        answers = zoo_model(spec, track.dataset)(images).argmax(1).tolist()
    wrong = []
    for row, said in zip(rows, answers, strict=True):
        fooled = said != labels[row] if targets is None else said == targets[row]
        if not fooled:
            wrong.append(f"image {row}: a success on record, and {spec} says {said}")
    return wrong
