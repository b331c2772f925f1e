"""The soundness checks of a run: of its model, and of what its attack found; see `attacks.checks`.

They cost little, run with every `tiltyard play` and are kept beside the facts in checks.json.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attacks import checks, probes
from attacks.checks import Examination, Finding
from attacks.foolbox import FoolboxAttack
from attacks.oracle import LEVELS, quantise
from attacks.types import ACCESS_ORDER, Norm

from . import cache
from .errors import UserError
from .match import criterion_of, play_batch
from .score import RADIUS_SLACK, THRESHOLDS, distance_after

if TYPE_CHECKING:
    from attacks import Access, Attack

    from .cache import Keys, Store
    from .datasets.types import Batch, Dataset
    from .match import Match, Outcome, ThreatModel
    from .runs import Run

IMAGES = 24
"""Of the run, the first ones: what the model is examined on."""

STEPS, SEARCHED = 20, 100
"""Of the examination's gradient descent, and queries of its random search."""

LONGER_QUERIES = 20_000
"""What playing again with twice the steps may cost, over all of its images."""

LONGER_IMAGES = (8, 32)
"""How many images it runs on at least (where so many withstood) and at most."""

AT_ONCE = 256
"""Adversarials that are read and rounded together."""


class Soundness:
    """Checks runs; a model is examined once for each radius and access.

    Args:
        store: where examinations are kept, or None.
        seed: of the examinations' random numbers.
    """

    def __init__(self, store: Store | None, *, seed: int = 0) -> None:
        self._store = store
        self._seed = seed
        self._known: dict[tuple[int, str, float, str], Examination] = {}

    def randomised(self, match: Match, keys: Keys) -> Finding:
        """Whether the model's answers vary: what must not be kept must not be read either."""
        batch = _some(match.dataset)
        found = cache.remembered(
            self._store,
            {"check": "randomised", **_of_model(keys), "images": _digest(batch)},
            lambda: checks.randomised(match.model, batch.images).to_json(),
        )
        return Finding(**found)

    def of_run(
        self, match: Match, run: Run, keys: Keys | None, others: Iterable[Run] = ()
    ) -> tuple[Finding, ...]:
        """Every check that applies to a run.

        Args:
            match: what was played.
            run: its facts, with the adversarials in the folder.
            keys: of the match, None where nothing may be kept.
            others: runs of other attacks on the same model.
        """
        outcomes = run.outcomes
        if not outcomes:
            return ()
        examination = self._examine(match, keys)
        found = list(examination.findings)
        found += _missed(match, outcomes, examination)
        found += self._longer(match, outcomes, keys)
        found += _still_falling(match, outcomes)
        found += _beaten(run, others)
        found += _rounded(match, run)
        return tuple(found)

    def _examine(self, match: Match, keys: Keys | None) -> Examination:
        norm, radius = plain_radius(match.threat)
        access = match.threat.access
        place = (id(match.model), norm, radius, access)
        if place not in self._known:
            batch = _some(match.dataset)
            facts: dict[str, Any] = {"check": "examine", "images": _digest(batch)}
            if keys is not None:
                facts |= {**_of_model(keys), "norm": norm, "radius": radius, "access": access}
                facts |= {"seed": self._seed, "steps": STEPS, "queries": SEARCHED}
            found = cache.remembered(
                self._store if keys is not None else None,
                facts,
                lambda: _written(
                    checks.examine(
                        match.model,
                        batch.images,
                        batch.targets,
                        epsilon=radius,
                        norm=norm,
                        access=access,
                        seed=self._seed,
                        steps=STEPS,
                        queries=SEARCHED,
                    )
                ),
            )
            self._known[place] = _read(found)
        return self._known[place]

    def _longer(
        self, match: Match, outcomes: Sequence[Outcome], keys: Keys | None
    ) -> list[Finding]:
        """Play what withstood again, with twice the steps and another seed."""
        attack = with_twice_the_steps(match.attack)
        robust = [o for o in outcomes if not o.success and o.status != "clean_error"]
        if attack is None or match.threat.epsilon is None or match.threat.max_queries is not None:
            return []
        if not robust:
            return []
        cost = 2 * max(1.0, float(np.mean([o.queries for o in robust])))
        least, most = LONGER_IMAGES
        chosen = robust[: min(most, int(LONGER_QUERIES / cost))]
        if len(chosen) < min(least, len(robust)):
            return []
        again = replace(match, attack=attack, seed=match.seed + 1)
        batch = _taken(match.dataset, [o.image_id for o in chosen])
        facts: dict[str, Any] = {"check": "longer"}
        if keys is not None:
            facts |= {"images": keys.of_batch(batch), "ids": batch.ids}
        fooled = cache.remembered(
            self._store if keys is not None else None,
            facts,
            lambda: {"fooled": sum(o.success for o in play_batch(again, batch))},
        )["fooled"]
        share = len(robust) / len(outcomes)
        return [checks.too_few_steps(share, share * (1 - fooled / len(chosen)))]


def plain_radius(threat: ThreatModel) -> tuple[Norm, float]:
    """The norm and the radius that a threat model's runs are examined at.

    Its own in L2 and Linf, and where it has none the one that robust accuracy is quoted at; L0 and
    L1 are examined in L2.
    """
    if threat.norm in ("l2", "linf"):
        return threat.norm, threat.epsilon or THRESHOLDS[threat.norm][0]
    return "l2", THRESHOLDS["l2"][0]


def with_twice_the_steps(attack: Attack) -> Attack | None:
    """The same attack with its field `steps` doubled; None where it has none."""
    if isinstance(attack, FoolboxAttack):
        steps = getattr(attack.attack, "steps", None)
        if not isinstance(steps, int):
            return None
        longer = copy.copy(attack.attack)
        longer.steps = 2 * steps
        return replace(attack, attack=longer)
    if not is_dataclass(attack) or "steps" not in {field.name for field in fields(attack)}:
        return None
    steps = getattr(attack, "steps", None)
    if not isinstance(steps, int):
        return None
    doubled: Attack = replace(attack, steps=2 * steps)
    return doubled


def _missed(match: Match, outcomes: Sequence[Outcome], examination: Examination) -> list[Finding]:
    """The attack against plain ones that see no more, on the examined images."""
    threat = match.threat
    norm, radius = plain_radius(threat)
    spent = max(2 * STEPS + 2, SEARCHED)
    cheaper = threat.max_queries is not None and threat.max_queries < spent
    if threat.norm != norm or threat.targeted or cheaper:
        return []
    if threat.quantised:  # rounding may carry an image out of the radius
        size = np.prod(match.dataset.pixels.shape[1:]) ** 0.5 if norm == "l2" else 1.0
        radius += 0.5 / LEVELS * float(size)
    granted = ACCESS_ORDER[: ACCESS_ORDER.index(match.attack.access) + 1]
    by_plain = torch.stack([examination.fooled[a] for a in granted if a in examination.fooled])
    by_id = {o.image_id: o for o in outcomes}
    rows = [i for i, image_id in enumerate(match.dataset.ids[:IMAGES]) if image_id in by_id]
    attacked = [by_id[match.dataset.ids[i]] for i in rows]
    return [checks.missed(_fooled(attacked, radius), by_plain.any(0)[rows])]


def _still_falling(match: Match, outcomes: Sequence[Outcome]) -> list[Finding]:
    threat = match.threat
    if threat.epsilon is not None or threat.max_queries is not None:
        return []
    if with_twice_the_steps(match.attack) is None:  # it ends by itself
        return []
    found = [o for o in outcomes if o.success]
    if not found:
        return []
    middle = float(np.median([distance_after(o, o.queries // 2) for o in found]))
    end = float(np.median([o.distance for o in found]))
    return [checks.still_falling(middle, end)] if np.isfinite(middle) else []


def _beaten(run: Run, others: Iterable[Run]) -> list[Finding]:
    """Against runs under the same threat model of attacks that see less of the model."""
    config = run.config
    same = ("norm", "epsilon", "targeted", "quantised", "max_queries", "split", "dataset")
    radius = THRESHOLDS[config.norm][0] if config.epsilon is None else config.epsilon
    seen = {o.image_id: o for o in run.outcomes}
    findings = []
    for other in others:
        order = [ACCESS_ORDER.index(_access(one)) for one in (other, run)]
        if order[0] >= order[1]:
            continue
        if any(getattr(config, key) != getattr(other.config, key) for key in same):
            continue
        pairs = [(seen[o.image_id], o) for o in other.outcomes if o.image_id in seen]
        if pairs:
            ours, theirs = zip(*pairs, strict=True)
            findings.append(
                checks.beaten_by_less(
                    _fooled(ours, radius), _fooled(theirs, radius), other.config.attack
                )
            )
    failing = [finding for finding in findings if not finding.ok]
    return failing or findings[:1]


def _rounded(match: Match, run: Run) -> list[Finding]:
    """Ask the model about the run's adversarials as 8-bit images."""
    found = [o for o in run.outcomes if o.success]
    if match.threat.quantised or not found:
        return []
    kept = []
    for start in range(0, len(found), AT_ONCE):
        part = found[start : start + AT_ONCE]
        try:
            pixels = np.stack([run.adversarial(outcome) for outcome in part])
        except ValueError as error:
            raise UserError(f"{error}; play in another --out, or with --no-checks") from None
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        criterion = criterion_of(match, _taken(match.dataset, [o.image_id for o in part]))
        predicted = probes.answers(match.model, quantise(images)).argmax(1)
        kept.append(criterion.holds(predicted, torch.arange(len(part))))
    return [checks.lost_by_rounding(torch.cat(kept))]


def _fooled(outcomes: Sequence[Outcome], radius: float) -> torch.Tensor:
    return torch.tensor([o.distance <= radius * (1 + RADIUS_SLACK) for o in outcomes])


def _access(run: Run) -> Access:
    access: Access = next(a for a in ACCESS_ORDER if a == run.config.access)
    return access


def _some(data: Dataset) -> Batch:
    return next(data.take(IMAGES).batches(IMAGES))


def _taken(data: Dataset, ids: Sequence[str]) -> Batch:
    """The images with these ids, in this order."""
    places = {image_id: row for row, image_id in enumerate(data.ids)}
    rows = [places[image_id] for image_id in ids]
    part = replace(data, ids=tuple(ids), pixels=data.pixels[rows], labels=data.labels[rows])
    return next(part.batches(len(ids)))


def _digest(batch: Batch) -> str:
    content = batch.images.numpy().tobytes() + batch.targets.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def _of_model(keys: Keys) -> Mapping[str, Any]:
    return {key: keys.context[key] for key in ("model", "sources", "versions")}


def _written(examination: Examination) -> dict[str, Any]:
    return {
        "findings": [finding.to_json() for finding in examination.findings],
        "fooled": {access: hit.tolist() for access, hit in examination.fooled.items()},
    }


def _read(written: Mapping[str, Any]) -> Examination:
    return Examination(
        findings=tuple(Finding(**finding) for finding in written["findings"]),
        fooled={access: torch.tensor(hit) for access, hit in written["fooled"].items()},
    )
