"""`tiltyard task`: a task's model attacked, under noise of the same size, and under distortions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..datasets import task_set
from ..errors import UserError
from .attacking import RADII, SURFACES, Ascent, Surface, TaskNorm, attacked, noisy, smallest
from .distorting import distorted, left_out
from .facing import Measured, measure
from .facts import Fact, Found, Kind

if TYPE_CHECKING:
    from models.tasks import TaskModel

    from ..datasets.task_sets import TaskSet

LARGEST: dict[TaskNorm, float] = {"linf": 32 / 255, "l2": 8.0}
"""Where the search for the smallest radius begins."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to play; see `tiltyard task --help`.

    Attributes:
        norms, surfaces: attacked, each with each, at `bench.tasks.attacking.RADII`.
        minimal: search for the smallest radius as well.
        distortions: specifications, "all", or none.
    """

    model: str
    model_parameters: Mapping[str, str] = field(default_factory=dict)
    dataset: str
    split: str = "test"
    samples: int | None = None
    norms: tuple[TaskNorm, ...] = ("linf", "l2")
    surfaces: tuple[Surface, ...] = SURFACES
    minimal: bool = True
    distortions: tuple[str, ...] = ()
    ascent: Ascent = field(default_factory=Ascent)
    seed: int = 0


def load_task(spec: str, parameters: Mapping[str, str], dataset: str) -> tuple[TaskModel, str]:
    """A task's model by specification, and the specification in full.

    Raises `UserError` for an unknown one, and for a classifier.
    """
    from .. import plugins

    parsed = plugins.parse(spec, parameters)
    return plugins.load_task(parsed, dataset=dataset), str(parsed)


def play_task(
    plan: Plan, *, watch: Callable[[str, int, int], None] = lambda line, done, total: None
) -> Found:
    """Ask, attack and distort; all facts.

    Raises:
        UserError: anything in the plan that can't be played.
    """
    from ..distortions import ALL, load
    from ..runs import versions

    model, name = load_task(plan.model, plan.model_parameters, plan.dataset)
    samples = task_set(plan.dataset, plan.split)
    if plan.samples is not None:
        if plan.samples > len(samples):
            raise UserError(
                f"{plan.dataset} has {len(samples)} samples in its {plan.split} split, "
                f"{plan.samples} were asked for; lower --images"
            )
        samples = samples.rows(0, plan.samples)
    asked = dict.fromkeys(
        spec for one in plan.distortions for spec in (ALL if one == "all" else (one,))
    )
    distortions = [load(spec) for spec in asked]
    skipped = {d.name: why for d in distortions if (why := left_out(d, samples)) is not None}
    surfaces = plan.surfaces if samples.contexts is not None else ("scene",)
    clean = measure(model, samples)
    facts = _clean(model, samples, clean)
    total = len(plan.norms) * len(surfaces)
    for number, (norm, surface) in enumerate((n, s) for n in plan.norms for s in surfaces):
        watch(f"{norm} on {surface}", number, total)
        facts += _curves(model, samples, norm, surface, plan)
    for surface in surfaces if distortions else ():
        watch(f"distortions of {surface}", total, total + 1)
        for distortion, level, changed in distorted(
            model, samples, distortions, surface=surface, seed=plan.seed
        ):
            facts += _facts(
                samples,
                "distortion",
                surface,
                distortion.name,
                level.label,
                changed.qualities,
                changed.broken,
            )
    watch("", total, total)
    return Found(
        model=name,
        task=model.task,
        measure=model.measure,
        higher_is_better=model.higher_is_better,
        dataset=samples.name,
        split=samples.split,
        seed=plan.seed,
        settings=asdict(plan.ascent),
        skipped=skipped,
        versions=versions(),
        facts=tuple(facts),
    )


def _clean(model: TaskModel, samples: TaskSet, clean: Measured) -> list[Fact]:
    blind = model.uninformed(samples.images, samples.contexts)
    return _facts(samples, "clean", "", "", "", clean.qualities, clean.broken) + _facts(
        samples,
        "chance",
        "",
        "",
        "",
        model.quality(blind, samples.targets),
        model.success(blind, samples.targets),
    )


def _curves(
    model: TaskModel, samples: TaskSet, norm: TaskNorm, surface: Surface, plan: Plan
) -> list[Fact]:
    """Attack and noise at every radius, and the smallest radius."""
    made: list[Fact] = []
    for epsilon in RADII[norm]:
        label = f"{round(255 * epsilon)}/255" if norm == "linf" else f"{epsilon:g}"
        found = attacked(
            model,
            samples,
            norm=norm,
            epsilon=torch.full((len(samples),), epsilon),
            surface=surface,
            ascent=plan.ascent,
            seed=plan.seed,
        )
        made += _facts(samples, "attack", surface, norm, label, found.qualities, found.broken)
        control = noisy(model, samples, norm=norm, epsilon=epsilon, surface=surface, seed=plan.seed)
        made += _facts(samples, "noise", surface, norm, label, control.qualities, control.broken)
    if plan.minimal:
        radii = smallest(
            model,
            samples,
            norm=norm,
            surface=surface,
            largest=LARGEST[norm],
            ascent=plan.ascent,
            seed=plan.seed,
        )
        made += _facts(samples, "smallest", surface, norm, "", radii, radii.isfinite())
    return made


def _facts(
    samples: TaskSet,
    kind: Kind,
    surface: str,
    name: str,
    level: str,
    qualities: Tensor,
    broken: Tensor,
) -> list[Fact]:
    return [
        Fact(
            sample=sample,
            kind=kind,
            surface=surface,
            name=name,
            level=level,
            quality=quality,
            broken=lost,
        )
        for sample, quality, lost in zip(
            samples.ids, qualities.tolist(), broken.tolist(), strict=True
        )
    ]
