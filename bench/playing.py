"""What `tiltyard play` does: every model against every attack, each into a folder of facts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import plugins
from .datasets import dataset as load_dataset
from .errors import UserError
from .match import Match, Outcome, ThreatModel, play
from .runs import Run, RunConfig, versions
from .score import THRESHOLDS, Score, score

if TYPE_CHECKING:
    from attacks import Attack, Norm

Watch = Callable[[str, int, Iterable[Outcome]], Iterable[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to play; see `tiltyard play --help`."""

    models: tuple[str, ...]
    attacks: tuple[str, ...]
    model_parameters: Mapping[str, str]
    attack_parameters: Mapping[str, str]
    dataset: str
    split: str
    images: int
    norm: Norm | None
    epsilon: float | None
    max_queries: int | None
    targeted: bool
    quantised: bool
    seed: int
    batch_size: int


def play_matrix(
    plan: Plan, out: Path | None, *, resume: bool, watch: Watch
) -> Iterator[tuple[Run, Score]]:
    """Play every model against every attack; yields each finished run with its score.

    Everything is loaded before anything is played, so that a misspelt name costs no time.

    Args:
        plan: what to play.
        out: the folder; one below it for each pair where there are several. None: in runs/.
        resume: go on with the runs that are there.
        watch: wraps the outcomes of a run as they come, to show progress.

    Raises:
        UserError: anything in the plan that can't be played.
    """
    data = load_dataset(plan.dataset, split=plan.split)
    if plan.images > len(data):
        raise UserError(
            f"{plan.dataset} has {len(data)} images in its {plan.split} split, "
            f"{plan.images} were asked for; lower --images"
        )
    data = data.take(plan.images)
    model_specs = [plugins.parse(text, plan.model_parameters) for text in plan.models]
    attack_specs = [plugins.parse(text, plan.attack_parameters) for text in plan.attacks]
    wish = {} if plan.norm is None else {"norm": plan.norm}
    attacks = [(spec, plugins.load_attack(spec, **wish)) for spec in attack_specs]
    models = [(spec, plugins.load_model(spec, dataset=plan.dataset)) for spec in model_specs]
    pairs = len(models) * len(attacks)
    base = out or Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    for model_spec, model in models:
        for attack_spec, attack in attacks:
            threat = _threat(plan, attack)
            config = RunConfig(
                model=str(model_spec),
                attack=str(attack_spec),
                dataset=plan.dataset,
                split=plan.split,
                images=plan.images,
                norm=threat.norm,
                epsilon=threat.epsilon,
                max_queries=threat.max_queries,
                targeted=threat.targeted,
                quantised=threat.quantised,
                access=threat.access,
                seed=plan.seed,
                batch_size=plan.batch_size,
                versions=versions(),
            )
            folder = base if pairs == 1 and out else base / _folder_name(config)
            run = Run.resume(folder, config) if resume else Run.start(folder, config)
            match = Match(model=model, attack=attack, dataset=data, threat=threat, seed=plan.seed)
            outcomes = play(match, batch_size=plan.batch_size, skip=run.done)
            title = f"{config.model} x {config.attack}"
            run.append(watch(title, plan.images - len(run.done), outcomes))
            yield run, score_run(run, attack)


def score_run(run: Run, attack: Attack | None = None) -> Score:
    """The score of a run, with robust accuracy at its radius, or at the norm's usual one.

    Args:
        run: with at least one outcome.
        attack: when at hand, a distance that it does not minimise is warned of.
    """
    config = run.config
    thresholds = THRESHOLDS[config.norm] if config.epsilon is None else (config.epsilon,)
    result = score(run.outcomes, thresholds)
    warnings = list(result.warnings)
    if attack is not None and attack.norm != config.norm:
        warnings.append(f"the attack makes {attack.norm} small, {config.norm} is what counts")
    if len(run.outcomes) < config.images:
        warnings.append(f"{len(run.outcomes)} of {config.images} images are done; add --resume")
    return replace(result, warnings=tuple(warnings))


def _threat(plan: Plan, attack: Attack) -> ThreatModel:
    return ThreatModel(
        norm=plan.norm or attack.norm,
        epsilon=plan.epsilon,
        access=attack.access,
        targeted=plan.targeted,
        max_queries=plan.max_queries,
        quantised=plan.quantised,
    )


def _folder_name(config: RunConfig) -> str:
    """Readable, and different for different runs: the id tells two files of one name apart."""

    def plain(text: str) -> str:
        return re.sub(r"[^A-Za-z0-9_.=-]+", "-", text.removesuffix(".py")).strip("-.")

    return f"{plain(config.model)}--{plain(config.attack)}--{config.id}"
