"""`tiltyard invariance`: from specifications to facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .invariance import Invariance, measure


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to ask.

    Attributes:
        models: specifications.
        model_parameters: for each of them.
        oracle: specification of an independent model.
        dataset, split, images: the images, from the first.
        steps: of gradient descent, for models that can't be inverted.
        seed: of the pairing.
        batch_size: images at a time.
    """

    models: tuple[str, ...]
    model_parameters: Mapping[str, str]
    oracle: str = "small_cnn"
    dataset: str
    split: str = "test"
    images: int = 500
    steps: int = 500
    seed: int = 0
    batch_size: int = 100


def measure_models(
    plan: Plan,
    out: Path | None = None,
    *,
    watch: Callable[[str, int, int], None] = lambda line, done, total: None,
) -> Iterator[Invariance]:
    """The facts of one model after another; each goes to its own folder in `out` once it is there.

    Raises:
        UserError: see `bench.plugins` and `bench.invariance.measure`; the oracle is one of the
            models; `out` holds files already.
    """
    from . import plugins
    from .datasets import dataset

    parsed = [plugins.parse(text, plan.model_parameters) for text in plan.models]
    judge = plugins.parse(plan.oracle)
    if any(str(spec) == str(judge) for spec in parsed):
        raise UserError(
            f"{judge} is both a model and the oracle, which can't judge itself; name another "
            "one by --oracle, such as --oracle vanilla_cnn"
        )
    data = dataset(plan.dataset, split=plan.split).take(plan.images)
    if out is not None and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder by --out, or remove it")
    models = [plugins.load_model(spec, dataset=plan.dataset) for spec in parsed]
    oracle = plugins.load_model(judge, dataset=plan.dataset)
    for number, (spec, model) in enumerate(zip(parsed, models, strict=True)):
        found = measure(
            model,
            oracle,
            data,
            name=str(spec),
            oracle_name=str(judge),
            seed=plan.seed,
            steps=plan.steps,
            batch_size=plan.batch_size,
            watch=watch,
        )
        if out is not None:
            found.write(out if len(models) == 1 else out / str(number + 1))
        yield found
