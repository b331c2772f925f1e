"""`tiltyard distort`: from specifications to facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .distort import Distorted, distort
from .errors import UserError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to ask.

    Attributes:
        models: specifications.
        model_parameters: for each of them.
        dataset, split, images: the images; all of the split where `images` is None.
        distortions: specifications; "all" is every one of `bench.distortions.ALL`.
        levels: labels or numbers, or None for the paper's.
        seed: of the distortions.
        batch_size: images at a time.
    """

    models: tuple[str, ...]
    model_parameters: Mapping[str, str]
    dataset: str
    split: str = "test"
    images: int | None = None
    distortions: tuple[str, ...] = ("all",)
    levels: tuple[str, ...] | None = None
    seed: int = 0
    batch_size: int = 64


def distort_models(
    plan: Plan,
    out: Path | None = None,
    *,
    watch: Callable[[str, int, int], None] = lambda line, done, total: None,
) -> Iterator[Distorted]:
    """The facts of one model after another; each goes to its own folder in `out` once it is there.

    Raises:
        UserError: see `bench.plugins` and `bench.distort.distort`; `out` holds files already.
    """
    from . import plugins
    from .datasets import dataset
    from .distortions import ALL, load

    specs = dict.fromkeys(
        spec for asked in plan.distortions for spec in (ALL if asked == "all" else (asked,))
    )
    distortions = [load(spec) for spec in specs]
    parsed = [plugins.parse(text, plan.model_parameters) for text in plan.models]
    whole = dataset(plan.dataset, split=plan.split)
    data = whole if plan.images is None else whole.take(plan.images)
    if out is not None and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder by --out, or remove it")
    models = [plugins.load_model(spec, dataset=plan.dataset) for spec in parsed]
    for number, (spec, model) in enumerate(zip(parsed, models, strict=True)):
        found = distort(
            model,
            data,
            distortions,
            name=str(spec),
            levels=plan.levels,
            references=whole,
            batch_size=plan.batch_size,
            seed=plan.seed,
            watch=watch,
        )
        if out is not None:
            found.write(out if len(models) == 1 else out / str(number + 1))
        yield found
