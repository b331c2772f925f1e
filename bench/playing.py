"""What `tiltyard play` does: every model against every attack, each into a folder of facts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import cache, plugins
from .datasets import dataset as load_dataset
from .errors import UserError
from .match import Match, Outcome, ThreatModel
from .pools import starting_pool
from .runs import Run, RunConfig, versions
from .score import THRESHOLDS, Failures, Score, score, worst_case_distance
from .soundness import Soundness

if TYPE_CHECKING:
    from attacks import Attack, Norm

    from .cache import Keys, Store
    from .plugins import Spec

Watch = Callable[[str, int, Iterable[Outcome]], Iterable[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to play; see `tiltyard play --help`.

    Attributes:
        cache: read outcomes that are known already, and keep new ones.
        checks: run the soundness checks.
        failures: what an image that was not fooled counts in a median.
    """

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
    cache: bool = True
    checks: bool = True
    failures: Failures = "infinite"


@dataclass(frozen=True)
class _Pair:
    """A match with its open run; `keys` where its results may be kept."""

    run: Run
    match: Match
    keys: Keys | None


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
    pool = starting_pool(data)
    data = data.take(plan.images)
    model_specs = [plugins.parse(text, plan.model_parameters) for text in plan.models]
    attack_specs = [plugins.parse(text, plan.attack_parameters) for text in plan.attacks]
    wish = {} if plan.norm is None else {"norm": plan.norm}
    attacks = [
        (spec, plugins.load_attack(spec, dataset=plan.dataset, **wish)) for spec in attack_specs
    ]
    models = [(spec, plugins.load_model(spec, dataset=plan.dataset)) for spec in model_specs]
    pairs = len(models) * len(attacks)
    base = out or Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    store = cache.Store(cache.results_folder()) if plan.cache else None
    soundness = Soundness(store)
    for model_spec, model in models:
        opened = []
        for attack_spec, attack in attacks:
            match = Match(
                model=model,
                attack=attack,
                dataset=data,
                threat=_threat(plan, attack),
                seed=plan.seed,
                pool=pool,
            )
            config = _config(plan, match, model_spec, attack_spec)
            folder = base if pairs == 1 and out else base / _folder_name(config)
            run = Run.resume(folder, config) if resume else Run.start(folder, config)
            # Before the model is asked anything, which may change it.
            opened.append(_Pair(run, match, None if store is None else _keys(run, match)))
        played = [_play(pair, plan, soundness, store, watch) for pair in opened]
        for pair in played:
            if plan.checks:
                others = [other.run for other in played if other is not pair]
                pair.run.keep_checks(soundness.of_run(pair.match, pair.run, pair.keys, others))
            yield pair.run, score_run(pair.run, pair.match.attack, failures=plan.failures)


def _keys(run: Run, match: Match) -> Keys | None:
    from .fingerprints import NoFingerprint

    try:
        return cache.Keys.of(match, versions())
    except NoFingerprint as error:
        run.remarks.append(f"not cached: {error}")
        return None


def _play(
    pair: _Pair, plan: Plan, soundness: Soundness, store: Store | None, watch: Watch
) -> _Pair:
    """Play what is not done; the pair without keys where its results must not be kept."""
    run, match, keys = pair.run, pair.match, pair.keys
    if keys is not None:
        found = soundness.randomised(match, keys)
        if not found.ok:
            run.remarks.append(f"not cached: {found.text}")
            keys = None
    left = plan.images - len(run.done)
    outcomes = cache.play(match, store, keys, batch_size=plan.batch_size, skip=run.done)
    run.append(watch(f"{run.config.model} x {run.config.attack}", left, outcomes))
    if run.cached:
        run.remarks.append(
            f"{run.cached} of {left} images from the cache, --no-cache to play again"
        )
    if store is not None and store.failure is not None:
        run.remarks.append(f"results are not kept ({store.failure}); set TILTYARD_CACHE")
    return _Pair(run, match, keys)


def score_run(
    run: Run,
    attack: Attack | None = None,
    *,
    failures: Failures = "infinite",
    after: Sequence[int] = (),
) -> Score:
    """The score of a run, with robust accuracy at its radius, or at the norm's usual one.

    Args:
        run: with at least one outcome.
        attack: when at hand, a distance that it does not minimise is warned of.
        failures: what an image that was not fooled counts in a median.
        after: numbers of queries to quote the median distance at.

    Raises:
        UserError: as `bench.score.score`; for the worst case, a data set that is not here.
    """
    config = run.config
    thresholds = THRESHOLDS[config.norm] if config.epsilon is None else (config.epsilon,)
    result = score(
        run.outcomes,
        thresholds,
        failures=failures,
        worst=worst_cases(run) if failures == "worst_case" else None,
        after=after,
        checks=run.checks,
    )
    warnings = list(result.warnings)
    if attack is not None and attack.norm != config.norm:
        warnings.append(f"the attack makes {attack.norm} small, {config.norm} is what counts")
    if len(run.outcomes) < config.images:
        warnings.append(f"{len(run.outcomes)} of {config.images} images are done; add --resume")
    return replace(result, warnings=tuple(warnings))


def worst_cases(run: Run) -> dict[str, float]:
    """{image id: distance to its farthest corner} in the run's norm.

    Raises:
        UserError: the data set is not here.
    """
    data = load_dataset(run.config.dataset, split=run.config.split).take(run.config.images)
    lengths = worst_case_distance(data.pixels, run.config.norm)
    return dict(zip(data.ids, map(float, lengths), strict=True))


def _config(plan: Plan, match: Match, model: Spec, attack: Spec) -> RunConfig:
    threat = match.threat
    return RunConfig(
        model=str(model),
        attack=str(attack),
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
