"""Foolbox 3 both ways: any of its attacks by name, and ours (and our models) for its users.

EagerPy is spoken at this border only. Whatever a Foolbox attack returns is judged and measured
again by `perturb`; while it runs it sees the model through the meter, with no more access than
granted.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import eagerpy as ep
import foolbox as fb
import torch
from foolbox.attacks import base as fb_base
from torch import Tensor

from .criteria import Criterion, Misclassification, Targeted
from .errors import BudgetExhausted, UsageError
from .oracle import Oracle, frozen
from .perturbation import perturb
from .random import ImageRandom
from .types import Access, Attack, Bounds, Model, Norm

DECISION_MODULES = frozenset(
    {
        "additive_noise",
        "binarization",
        "blended_noise",
        "blur",
        "boundary_attack",
        "contrast",
        "contrast_min",
        "dataset_attack",
        "hop_skip_jump",
        "inversion",
        "pointwise",
        "saltandpepper",
        "spatial_attack",
    }
)
"""Foolbox's modules whose attacks look at labels only."""

COUPLED = frozenset({"HopSkipJumpAttack", "GenAttack"})
"""Attacks whose result for an image depends on the batch it is in: run one image at a time.

HopSkipJump divides its gradient estimate by the norm over the whole batch, so that its steps shrink
as the batch grows (foolbox/attacks/hop_skip_jump.py, approximate_gradients).
"""

REFUSED = {
    "NewtonFoolAttack": "it returns NaN images, which count as adversarial because the argmax of "
    "NaN is 0; use foolbox:L2DeepFoolAttack",
    "GenAttack": "its fitness mixes a logit with an exponential, log(sum(exp(z)) - z_target); "
    "use foolbox:LinfPGD, or boundary where only labels are seen",
    "L1AdamProjectedGradientDescentAttack": "a step of Adam for each pixel, rescaled in L1, "
    "spreads the budget over all pixels and is weaker than one fast-gradient step; "
    "use foolbox:L1PGD",
    "L2AdamProjectedGradientDescentAttack": "it is weaker than plain projected gradient descent "
    "at the same cost; use foolbox:L2PGD",
    "DatasetAttack": "it draws from the first images of its pool only (as many as the batch has) "
    "and has no pool here; use boundary, which finds starting points of its own",
    "BinarizationRefinementAttack": "it needs starting points that another attack has found; "
    "use it from Foolbox itself",
}
"""What is broken in Foolbox 3.3.4, or cannot stand alone, and what to use instead."""

_NORMS: dict[object, Norm] = {
    fb.distances.l0: "l0",
    fb.distances.l1: "l1",
    fb.distances.l2: "l2",
    fb.distances.linf: "linf",
}
_DISTANCES = {norm: measure for measure, norm in _NORMS.items()}


class _Metered(fb.models.Model):  # type: ignore[misc]
    """What a Foolbox attack is given as its model."""

    data_format = "channels_first"

    def __init__(self, oracle: Oracle, rows: Tensor) -> None:
        self._oracle = oracle
        self._rows = rows
        lower, upper = oracle.bounds
        self._bounds = fb.types.Bounds(lower, upper)

    @property
    def bounds(self) -> Any:
        return self._bounds

    def __call__(self, inputs: Any) -> Any:
        wrapped, restore = ep.astensor_(inputs)
        images: Tensor = wrapped.raw
        repeats, rest = divmod(len(images), len(self._rows))
        if rest:
            raise UsageError(
                f"the Foolbox attack asked {len(images)} images for a batch of {len(self._rows)}: "
                "they can't be counted to one image each"
            )
        rows = self._rows.repeat(repeats)
        return restore(ep.astensor(self._answer(images, rows)))

    def _answer(self, images: Tensor, rows: Tensor) -> Tensor:
        if self._oracle.access == "decision":
            labels = self._oracle.labels(images, rows)
            # Foolbox takes the argmax itself. It never needs to know how many classes there are.
            return torch.nn.functional.one_hot(labels, max(2, int(labels.max()) + 1)).float()
        if images.requires_grad:
            return self._oracle.logits(images, rows)
        return self._oracle.scores(images, rows)


@dataclass(frozen=True, kw_only=True)
class FoolboxAttack:
    """A Foolbox attack as one of ours.

    Attributes:
        attack: the Foolbox object.
        name: its class name.
        norm: the distance that it makes small, or whose ball it stays in.
        access: decision, score or gradient, by Foolbox's own module.
        fixed_epsilon: it needs a radius and does not minimise.
        one_by_one: run each image by itself, so that its result does not depend on the batch.
    """

    attack: Any
    name: str
    norm: Norm
    access: Access
    fixed_epsilon: bool
    one_by_one: bool

    def run(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        *,
        epsilon: float | None,
        random: ImageRandom,
    ) -> Tensor:
        """See `attacks.Attack.run`.

        Foolbox draws from torch's global generator: it is seeded from the images' own streams for
        the time of the run and put back afterwards. Where Foolbox raises for the whole batch (one
        failed starting point does), the images are run again one at a time.

        Raises:
            UsageError: no epsilon for an attack that needs one.
        """
        if self.fixed_epsilon and epsilon is None:
            raise UsageError(
                f"foolbox:{self.name} stays within a radius and needs one; give --epsilon"
            )
        rows = torch.arange(len(images))
        found = images.clone()
        if self.one_by_one or len(rows) == 1:
            parts = list(rows.split(1))
        else:
            parts = [rows]
        while parts:
            part = parts.pop(0)
            try:
                found[part] = self._run_part(model, images[part], criterion, epsilon, random, part)
            except BudgetExhausted:
                found[part] = model.best[part]
            except (ValueError, AssertionError, RuntimeError) as error:
                if len(part) > 1:
                    parts = list(part.split(1)) + parts
                    continue
                model.note(int(part), f"Foolbox raised {type(error).__name__}: {error}"[:300])
        return found

    def _run_part(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        epsilon: float | None,
        random: ImageRandom,
        rows: Tensor,
    ) -> Tensor:
        asked = criterion.take(rows)
        goal = (
            fb.criteria.Misclassification(ep.astensor(asked.labels))
            if asked.targets is None
            else fb.criteria.TargetedMisclassification(ep.astensor(asked.targets))
        )
        options: dict[str, Any] = {"epsilon": epsilon} if self.fixed_epsilon else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random.seeds[int(rows[0])])
            result = self.attack.run(
                _Metered(model, rows), ep.astensor(images.clone()), goal, **options
            )
        raw: Tensor = result.raw if isinstance(result, ep.Tensor) else result
        return raw.detach()


def names() -> list[str]:
    """The Foolbox attacks that can be used here, by class name."""
    return sorted(
        name
        for name, value in vars(fb.attacks).items()
        if inspect.isclass(value)
        and issubclass(value, fb_base.Attack)
        and value is not fb_base.Attack
        and value.__name__ not in REFUSED
    )


def create(
    attack: str, /, *, norm: Norm | None = None, one_by_one: bool | None = None, **parameters: Any
) -> FoolboxAttack:
    """Any Foolbox attack by class name, such as L2DeepFoolAttack or LinfPGD.

    Args:
        attack: the class name in `foolbox.attacks`.
        norm: for attacks that leave the distance open (l2 when not given).
        one_by_one: run each image by itself; by default where Foolbox couples the batch.
        **parameters: of Foolbox's constructor.

    Raises:
        UsageError: unknown name (with the near ones), unknown parameter, or an attack that is
            broken in Foolbox (with the cause and what to use instead).
    """
    found = getattr(fb.attacks, attack, None)
    if not (inspect.isclass(found) and issubclass(found, fb_base.Attack)):
        near = get_close_matches(attack, names(), n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"Foolbox {fb.__version__} has no attack {attack!r}{hint}")
    if found.__name__ in REFUSED:
        raise UsageError(f"foolbox:{attack} is refused: {REFUSED[found.__name__]}")
    known = inspect.signature(found).parameters
    for name in parameters:
        if name not in known:
            raise UsageError(
                f"foolbox:{attack} has no parameter {name!r}; it has: {', '.join(known) or 'none'}"
            )
    if "distance" in known:
        parameters.setdefault("distance", _DISTANCES[norm or "l2"])
    elif norm is not None and norm != _norm_of(found, parameters):
        raise UsageError(
            f"foolbox:{attack} works in {_norm_of(found, parameters)}, got norm={norm}; "
            "leave it out"
        )
    try:
        made = found(**parameters)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"foolbox:{attack} needs the package {error.name}: pip install {error.name}"
        ) from None
    except TypeError as error:
        raise UsageError(f"foolbox:{attack}: {error}") from None
    return wrap(made, name=attack, norm=norm, one_by_one=one_by_one)


def is_attack(value: object) -> bool:
    """Whether this is an attack of Foolbox (or one of its users')."""
    return isinstance(value, fb_base.Attack)


def wrap(
    made: Any, *, name: str | None = None, norm: Norm | None = None, one_by_one: bool | None = None
) -> FoolboxAttack:
    """A Foolbox attack object as one of ours. See `create` for the arguments."""
    module = type(made).__module__.rpartition(".")[2]
    return FoolboxAttack(
        attack=made,
        name=name or type(made).__name__,
        norm=_NORMS.get(_distance_of(made), norm or "l2"),
        access="decision" if module in DECISION_MODULES else "gradient",
        fixed_epsilon="epsilon" in inspect.signature(made.run).parameters,
        one_by_one=type(made).__name__ in COUPLED if one_by_one is None else one_by_one,
    )


def _norm_of(found: Callable[..., Any], parameters: dict[str, Any]) -> Norm:
    try:
        return _NORMS.get(_distance_of(found(**parameters)), "l2")
    except (TypeError, ModuleNotFoundError):
        return "l2"


def _distance_of(made: Any) -> object:
    try:
        return getattr(made, "distance", None)
    except ValueError:  # Foolbox raises where the distance was left open
        return None


class _ExportedModel(fb.models.Model):  # type: ignore[misc]
    """One of our models for Foolbox's users."""

    data_format = "channels_first"

    def __init__(self, model: Model) -> None:
        self._model = model
        lower, upper = model.bounds
        self._bounds = fb.types.Bounds(lower, upper)

    @property
    def bounds(self) -> Any:
        return self._bounds

    def __call__(self, inputs: Any) -> Any:
        wrapped, restore = ep.astensor_(inputs)
        with frozen(self._model):
            return restore(ep.astensor(self._model(wrapped.raw)))


class _ImportedModel:
    """A Foolbox model as one of ours."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def bounds(self) -> Bounds:
        lower, upper = self._model.bounds
        return float(lower), float(upper)

    def __call__(self, images: Tensor, /) -> Tensor:
        answer = self._model(ep.astensor(images))
        raw: Tensor = answer.raw if isinstance(answer, ep.Tensor) else answer
        return raw


class _ExportedAttack(fb_base.MinimizationAttack):  # type: ignore[misc]
    """One of our attacks for Foolbox's users; Foolbox compares its distances with epsilons."""

    def __init__(self, attack: Attack, seed: int, budget: int | None) -> None:
        self._attack = attack
        self._seed = seed
        self._budget = budget

    @property
    def distance(self) -> Any:
        return _DISTANCES[self._attack.norm]

    def run(
        self,
        model: Any,
        inputs: Any,
        criterion: Any,
        *,
        early_stop: float | None = None,
        **unknown: Any,
    ) -> Any:
        if unknown:
            raise UsageError(f"unknown argument(s): {', '.join(unknown)}")
        wrapped, restore = ep.astensor_(inputs)
        result = perturb(
            self._attack,
            _ImportedModel(model),
            wrapped.raw.detach(),
            _imported_criterion(criterion),
            seed=self._seed,
            budget=self._budget,
        )
        return restore(ep.astensor(result.images))


def _imported_criterion(criterion: Any) -> Criterion:
    goal = fb_base.get_criterion(criterion)
    if isinstance(goal, fb.criteria.Misclassification):
        return Misclassification(goal.labels.raw)
    if isinstance(goal, fb.criteria.TargetedMisclassification):
        targets = goal.target_classes.raw
        return Targeted(labels=targets, targets=targets)
    raise UsageError(
        f"got the Foolbox criterion {type(goal).__name__}; wanted Misclassification or "
        "TargetedMisclassification"
    )


def export(attack: Attack, *, seed: int = 0, budget: int | None = None) -> Any:
    """One of our attacks as a `foolbox.attacks.base.MinimizationAttack`, for any Foolbox 3 script.

    Args:
        attack: ours.
        seed: decides its random numbers.
        budget: queries for each image.
    """
    return _ExportedAttack(attack, seed, budget)


def export_model(model: Model) -> Any:
    """One of our models as a `foolbox.models.Model` (torch tensors, channels first)."""
    return _ExportedModel(model)


def import_model(model: Any) -> Model:
    """A Foolbox model on PyTorch as one of ours."""
    return _ImportedModel(model)


__all__ = [
    "COUPLED",
    "REFUSED",
    "FoolboxAttack",
    "create",
    "export",
    "export_model",
    "import_model",
    "is_attack",
    "names",
    "wrap",
]
