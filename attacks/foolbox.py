"""Foolbox 3 both ways: any of its attacks by name, and ours (and our models) for its users.

EagerPy is spoken at this border only. Whatever a Foolbox attack returns is judged and measured
again by `perturb`; while it runs it sees the model through the meter, with no more access than
granted. What is broken in Foolbox 3.3.4 is mended here (`MENDED`) or refused (`REFUSED`).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import eagerpy as ep
import foolbox as fb
import numpy as np
import torch
from foolbox.attacks import base as fb_base
from torch import Tensor

from .criteria import Criterion, Misclassification, Targeted
from .distances import distance
from .errors import BudgetExhausted, UsageError
from .oracle import Oracle, frozen, rescale
from .perturbation import perturb
from .random import ImageRandom
from .starts import ask_nearest, find_starts
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

COUPLED = frozenset({"HopSkipJumpAttack"})
"""Attacks whose result for an image depends on the batch it is in: run one image at a time.

HopSkipJump divides its gradient estimate by the norm over the whole batch, so that its steps shrink
as the batch grows (foolbox/attacks/hop_skip_jump.py, approximate_gradients).
"""

UNIT = frozenset({"HopSkipJumpAttack"})
"""Attacks that clip to [0, 1] whatever the model's bounds: they are shown the model in [0, 1]."""

BLACK = frozenset({"L2CarliniWagnerAttack", "EADAttack"})
"""Attacks that return zeros for an image where they found nothing."""

STARTED = {
    "BinarizationRefinementAttack": 0,
    "BoundaryAttack": 10,
    "BrendelBethgeAttack": 0,
    "HopSkipJumpAttack": 0,
    "PointwiseAttack": 0,
}
"""Attacks that are given starting points, and the bisection steps that bring those to the boundary
where the attack does not do so itself."""

UNTARGETED = {
    "DeepFoolAttack": "it steps to the nearest class, whichever is wanted; "
    "use foolbox:L2FMNAttack or foolbox:LInfFMNAttack",
    "VirtualAdversarialAttack": "it knows no wanted class; use foolbox:L2PGD",
}
"""Attacks that cannot be targeted, and what to use instead."""

START_TRIES = 25
"""Queries for each image at most to find a starting point."""

BRENDEL_BETHGE_LR = 0.05
"""Its default `lr` here, for the region of one image: what Foolbox's 0.001 is in a batch of 50.

On 20 images of mnist5k 1,000 steps with 0.001 end at a median L0 of 148, 100 steps with this at 8.
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
    "L1AdamBasicIterativeAttack": "it never uses Adam, as its get_optimizer is missing, and "
    "ignores Adam's parameters; use foolbox:L1BasicIterativeAttack, which is what it comes to",
    "L2AdamBasicIterativeAttack": "it never uses Adam, as its get_optimizer is missing, and "
    "ignores Adam's parameters; use foolbox:L2BasicIterativeAttack, which is what it comes to",
}
"""What is broken in Foolbox 3.3.4 and not worth mending, and what to use instead."""

_ONE_START_MISSING = (
    "one image without a starting point raises for the whole batch, and a targeted search waits "
    "for noise of the wanted class; here each image is given a start of its own, from {kind} or, "
    "when targeted, from the pool, and one that has none is the only one to fail"
)
_BRENDEL_BETHGE = (
    "its trust region grows with the batch, whose whole size is in it, and its start is a linear "
    "search of 1,000 queries; here the region is that of one image, with lr=0.05 when not given "
    "(Foolbox's 0.001 in a batch of 50), and the start is noise (the pool, when targeted), brought "
    "to the boundary by the attack's own bisection"
)
_NOTHING_FOUND = (
    "where it found nothing it returns a black image, which is often adversarial by chance; here "
    "that is a failure"
)
_TOO_LOUD = (
    "it scales noise by its largest value instead of its largest magnitude, so that it may leave "
    "the radius; here what leaves it is projected back before it is judged"
)

MENDED = {
    "DatasetAttack": "it draws from the first images of its pool only, as many as the batch has; "
    "here it asks the images of other classes in the pool given to perturb, nearest first",
    "L0BrendelBethgeAttack": _BRENDEL_BETHGE,
    "L1BrendelBethgeAttack": _BRENDEL_BETHGE,
    "L2BrendelBethgeAttack": _BRENDEL_BETHGE,
    "LinfinityBrendelBethgeAttack": _BRENDEL_BETHGE,
    "L2CarliniWagnerAttack": f"{_NOTHING_FOUND} (carlini_wagner is ours, and finds more)",
    "EADAttack": "it asks about points outside the bounds; here those are clipped; "
    f"{_NOTHING_FOUND}",
    "HopSkipJumpAttack": "its steps shrink as the batch grows, and it clips to [0, 1] whatever the "
    "bounds; here it runs image by image and sees the model in [0, 1]; "
    + _ONE_START_MISSING.format(kind="noise"),
    "BoundaryAttack": _ONE_START_MISSING.format(kind="noise"),
    "PointwiseAttack": _ONE_START_MISSING.format(kind="salt_and_pepper"),
    "L0FMNAttack": "asked for a radius, Foolbox raises NotImplementedError; here the result is "
    "projected into it",
    "SparseL1DescentAttack": "targeted, it discards the steps that stay within the bounds and "
    "keeps those that don't, as its mask has the sign of the untargeted search; here the mask "
    "follows the search",
    "BinarizationRefinementAttack": "it needs starting points that another attack has found; here "
    "salt_and_pepper finds them",
    "LinfAdditiveUniformNoiseAttack": _TOO_LOUD,
    "LinfRepeatedAdditiveUniformNoiseAttack": _TOO_LOUD,
}
"""What is broken in Foolbox 3.3.4, why, and how it is mended here."""

_RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Foolbox raises for a whole batch when one image of it is in its way."""

_NORMS: dict[object, Norm] = {
    fb.distances.l0: "l0",
    fb.distances.l1: "l1",
    fb.distances.l2: "l2",
    fb.distances.linf: "linf",
}
_DISTANCES = {norm: measure for measure, norm in _NORMS.items()}


class _Metered(fb.models.Model):  # type: ignore[misc]
    """What a Foolbox attack is given as its model.

    Args:
        oracle: the meter.
        rows: (n,) rows of its batch that the attack works on.
        unit: show it as a model of images in [0, 1], whatever its bounds.
    """

    data_format = "channels_first"

    def __init__(self, oracle: Oracle, rows: Tensor, *, unit: bool) -> None:
        self._oracle = oracle
        self._rows = rows
        self._unit = unit and oracle.bounds != (0.0, 1.0)
        self._bounds = fb.types.Bounds(*((0.0, 1.0) if self._unit else oracle.bounds))

    @property
    def bounds(self) -> Any:
        return self._bounds

    def shown(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W) as the attack sees them."""
        return rescale(images, self._oracle.bounds, tuple(self._bounds))

    def hidden(self, images: Tensor) -> Tensor:
        """What the attack sees (n, C, H, W), as images of the model."""
        if not self._unit:
            return images
        lower, upper = self._oracle.bounds
        return images * (upper - lower) + lower

    def _within(self, images: Tensor) -> Tensor:
        """Clipped to the model's bounds; gradients pass straight through."""
        if len(images) == 0:
            return images
        low, high = (float(value) for value in torch.aminmax(images.detach()))
        lower, upper = self._oracle.bounds
        if low >= lower and high <= upper:
            return images
        return images + (images.detach().clamp(lower, upper) - images.detach())

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
        return restore(ep.astensor(self._answer(self._within(self.hidden(images)), rows)))

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

        Foolbox draws from the global generators of torch and numpy: they are seeded from the
        images' own streams for the time of the run and put back afterwards. Where Foolbox raises
        for the whole batch, the images are run again one at a time, each with what is left of its
        budget.

        Raises:
            UsageError: no epsilon for an attack that needs one; a wanted class for an attack that
                has no targeted form; the dataset attack without a pool.
        """
        if self.fixed_epsilon and epsilon is None:
            raise UsageError(
                f"foolbox:{self.name} stays within a radius and needs one; give --epsilon"
            )
        kinds = _kinds(self.attack)
        if criterion.targets is not None:
            for kind in kinds & set(UNTARGETED):
                raise UsageError(f"foolbox:{self.name} can't be targeted: {UNTARGETED[kind]}")
        if "DatasetAttack" in kinds:
            return self._from_pool(model, images, criterion, epsilon)
        found = images.clone()
        rows = torch.arange(len(images))
        starts = self._starts(model, images, criterion, random)
        if starts is not None:
            rows = starts[1].nonzero().flatten()
        parts = list(rows.split(1 if self.one_by_one else max(1, len(rows))))
        while parts:
            part = parts.pop(0)
            if len(part) == 0:
                break
            try:
                found[part] = self._run_part(
                    model,
                    images[part],
                    criterion.take(part),
                    epsilon,
                    random,
                    part,
                    None if starts is None else starts[0][part],
                )
            except BudgetExhausted:
                found[part] = model.best[part]
            except _RAISED as error:
                if len(part) > 1:
                    parts = list(part.split(1)) + parts
                    continue
                model.note(int(part), f"Foolbox raised {type(error).__name__}: {error}"[:300])
        if kinds & BLACK:
            black = (found == 0).flatten(1).all(1) & (images != 0).flatten(1).any(1)
            found[black] = images[black]
            for row in black.nonzero().flatten().tolist():
                model.note(row, "Foolbox returned the black image: it found nothing")
        return found

    def _run_part(
        self,
        model: Oracle,
        images: Tensor,
        criterion: Criterion,
        epsilon: float | None,
        random: ImageRandom,
        rows: Tensor,
        starts: Tensor | None,
    ) -> Tensor:
        """Candidates for images, criterion and starts of rows (n,): (n, C, H, W)."""
        targets = criterion.targets
        goal = (
            fb.criteria.Misclassification(ep.astensor(criterion.labels))
            if targets is None
            else fb.criteria.TargetedMisclassification(ep.astensor(targets))
        )
        attack = _mended(self.attack, batch=len(rows), targeted=targets is not None)
        metered = _Metered(model, rows, unit=bool(_kinds(attack) & UNIT))
        options: dict[str, Any] = {"epsilon": epsilon} if self.fixed_epsilon else {}
        if starts is not None:
            options["starting_points"] = ep.astensor(metered.shown(starts))
        with _seeded(random.seeds[int(rows[0])]):
            result = attack.run(metered, ep.astensor(metered.shown(images)), goal, **options)
        raw: Tensor = result.raw if isinstance(result, ep.Tensor) else result
        return metered.hidden(raw.detach())

    def _starts(
        self, model: Oracle, images: Tensor, criterion: Criterion, random: ImageRandom
    ) -> tuple[Tensor, Tensor] | None:
        """Starting points (N, C, H, W) and which there are (N,), or None: Foolbox finds its own."""
        given = _kinds(self.attack) & set(STARTED)
        if not given or getattr(self.attack, "init_attack", None) is not None:
            return None
        (kind,) = given
        start: Attack | None = None
        few_pixels = kind == "PointwiseAttack" and criterion.targets is None
        if few_pixels or kind == "BinarizationRefinementAttack":
            from . import salt_and_pepper

            start = salt_and_pepper.create(norm="l0" if few_pixels else self.norm)
        return find_starts(
            model, images, random, start=start, tries=START_TRIES, bisection_steps=STARTED[kind]
        )

    def _from_pool(
        self, model: Oracle, images: Tensor, criterion: Criterion, epsilon: float | None
    ) -> Tensor:
        """The dataset attack, mended: the pool's images, nearest first, until one fools."""
        if model.pool is None:
            raise UsageError(
                f"foolbox:{self.name} draws from a pool of labelled images and was given none; "
                "give perturb(..., pool=attacks.Pool(images, labels))"
            )
        pool = model.pool
        distances = torch.stack(
            [distance(model.norm, image.expand_as(pool.images), pool.images) for image in images]
        )
        if criterion.targets is None:
            excluded = pool.labels.unsqueeze(0) == criterion.labels.unsqueeze(1)
        else:
            excluded = pool.labels.unsqueeze(0) != criterion.targets.unsqueeze(1)
        if epsilon is not None:
            excluded |= distances > epsilon
        distances = distances.masked_fill(excluded, torch.inf)
        found = images.clone()
        done = torch.zeros(len(images), dtype=torch.bool)
        asked = ask_nearest(model, found, done, pool.images, distances, tries=len(pool.labels))
        for row in (~done).nonzero().flatten().tolist():
            model.note(
                row, f"none of the {int(asked[row])} images of the pool that may be taken fools"
            )
        return found


def _kinds(made: object) -> set[str]:
    """The names of an attack's class and of all that it comes from."""
    return {kind.__name__ for kind in type(made).__mro__}


def _mended(attack: Any, *, batch: int, targeted: bool) -> Any:
    """The attack, or a copy without its defect; see `MENDED`."""
    kinds = _kinds(attack)
    if "BrendelBethgeAttack" in kinds:
        # Its region is lr * prod(x.shape) * range, and the batch is one of the dimensions of x.
        attack = copy.copy(attack)
        attack.lr = attack.lr / batch
    elif "SparseL1DescentAttack" in kinds and targeted:
        # It steps against the gradient, so that what leaves the bounds has the other sign.
        normalize = attack.normalize
        attack = copy.copy(attack)
        attack.normalize = lambda gradients, **where: -normalize(-gradients, **where)
    return attack


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators (on the CPU) of torch and numpy, and put them back afterwards."""
    theirs = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(theirs)


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
        UsageError: unknown name (with the near ones), unknown or bad parameter, an attack that is
            broken in Foolbox (with the cause and what to use instead), or one that needs a package
            which is not installed.
    """
    found = getattr(fb.attacks, attack, None)
    if not (inspect.isclass(found) and issubclass(found, fb_base.Attack)):
        near = get_close_matches(attack, names(), n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"Foolbox {fb.__version__} has no attack {attack!r}{hint}")
    _refuse(found, attack)
    known = inspect.signature(found).parameters
    for name in parameters:
        if name not in known:
            raise UsageError(
                f"foolbox:{attack} has no parameter {name!r}; it has: {', '.join(known) or 'none'}"
            )
    if "distance" in known:
        parameters.setdefault("distance", _DISTANCES[norm or "l2"])
    if issubclass(found, fb.attacks.brendel_bethge.BrendelBethgeAttack):
        parameters.setdefault("lr", BRENDEL_BETHGE_LR)
    try:
        made = found(**parameters)
    except ImportError as error:
        raise UsageError(
            f"foolbox:{attack} can't be used here: {error}; "
            "it needs numba: pip install 'tiltyard[bb]'"
        ) from None
    except (AssertionError, TypeError, ValueError) as error:
        raise UsageError(f"foolbox:{attack}: {error or 'it refuses its parameters'}") from None
    own = _NORMS.get(_distance_of(made))
    if norm is not None and own is not None and norm != own:
        raise UsageError(f"foolbox:{attack} works in {own}, got norm={norm}; leave it out")
    return wrap(made, name=attack, norm=norm, one_by_one=one_by_one)


def _refuse(kind: type, name: str) -> None:
    if kind.__name__ in REFUSED:
        raise UsageError(f"foolbox:{name} is refused: {REFUSED[kind.__name__]}")


def is_attack(value: object) -> bool:
    """Whether this is an attack of Foolbox (or one of its users')."""
    return isinstance(value, fb_base.Attack)


def wrap(
    made: Any, *, name: str | None = None, norm: Norm | None = None, one_by_one: bool | None = None
) -> FoolboxAttack:
    """A Foolbox attack object as one of ours. See `create` for the arguments.

    Raises:
        UsageError: an attack that is broken in Foolbox, or an object that can't be run by itself.
    """
    _refuse(type(made), type(made).__name__)
    if not callable(getattr(made, "run", None)):
        raise UsageError(
            f"got a Foolbox {type(made).__name__}, which has no run(); "
            "give the attack itself, not what its repeat() returns"
        )
    module = type(made).__module__.rpartition(".")[2]
    return FoolboxAttack(
        attack=made,
        name=name or type(made).__name__,
        norm=_NORMS.get(_distance_of(made), norm or "l2"),
        access="decision" if module in DECISION_MODULES else "gradient",
        fixed_epsilon="epsilon" in inspect.signature(made.run).parameters,
        one_by_one=type(made).__name__ in COUPLED if one_by_one is None else one_by_one,
    )


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
    "BLACK",
    "COUPLED",
    "MENDED",
    "REFUSED",
    "UNIT",
    "UNTARGETED",
    "FoolboxAttack",
    "create",
    "export",
    "export_model",
    "import_model",
    "is_attack",
    "names",
    "wrap",
]
