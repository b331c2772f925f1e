"""Can an evaluation be trusted? Checks of a model and of what an attack found on it.

After the checklist of Carlini et al. (arXiv 1902.06705, section 5) and the flags of AutoAttack
(arXiv 2003.01690). Each check is a function and returns one `Finding`; `examine` runs those that
need nothing but a model and a few images. A check that fails does not say that a score is wrong.
It says why nobody should quote it yet, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import probes
from .errors import UsageError
from .losses import margin
from .oracle import LEVELS, frozen, quantise
from .types import Access, Model, Norm

VARIATION = 1e-4
"""How far answers may vary, as a share of the largest one; far above float32's own noise."""

ASKED_AGAIN = 5
"""Times that points between two labels are asked: chance is even there, so that few are enough."""

ROW_SUM = 1e-4
"""How near to 1 the outputs of an image add up to where they are probabilities."""

FLAT = 0.05
"""Share of the images whose gradient may vanish."""

COSINE = 0.5
"""Least agreement of a gradient with finite differences; smooth networks have more than 0.9."""

DIFFERENCES = (3e-3, 3e-4)
"""Steps of the finite differences, as shares of the bounds' range: the first is wide enough for a
model that rounds to 8 bits and passes gradients straight through, the second for one that bends."""

FEW = 8
"""Images that checks with many queries for each image run on, the first ones."""

UNSTABLE = 0.05
"""Share of the images whose label may change by rounding to 8 bits."""

CHANGE = 0.005
"""Robust accuracy that more steps or restarts may cost (arXiv 1902.06705: half a point)."""

MISSED = 0.002
"""Share of the images that a weaker attack may fool and a stronger one not (AutoAttack's flag)."""

FALLING = 0.05
"""Share of the median distance that the second half of the queries may still take off."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        name: the check's function.
        ok: nothing to object to.
        measured: the figure.
        limit: what it was held against.
        text: one sentence: what was measured, what was expected, and what to do.
    """

    name: str
    ok: bool
    measured: float
    limit: float
    text: str

    def to_json(self) -> dict[str, Any]:
        """As in checks.json and in `tiltyard play --json`; the inverse is `Finding(**json)`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What `examine` found.

    Attributes:
        findings: one for each check that applies.
        fooled: for each access, which of the images (N,) bool a plain attack with no more than that
            access fooled within the radius; clean errors are not among them.
    """

    findings: tuple[Finding, ...]
    fooled: Mapping[Access, Tensor]


def examine(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: Norm,
    access: Access = "decision",
    seed: int = 0,
    steps: int = 20,
    queries: int = 100,
) -> Examination:
    """Run every check that needs only the model and some images.

    A model that shows labels alone gets the checks of labels, one without a gradient those of
    scores too.

    Args:
        model: any object with the fields of `attacks.Model`.
        images: (N, C, H, W) float32 within the bounds; a few dozen are enough.
        labels: (N,) int64.
        epsilon: the radius of the plain attacks: that of the evaluation, or one of interest.
        norm: l2 or linf.
        access: what the evaluation needs; a model that offers less of it fails.
        seed: of noise and random searches.
        steps: of the gradient descent; two runs of it.
        queries: of the random search, and a tenth of them of noise.

    Raises:
        UsageError: no images, a radius that is not above 0, or another norm.
    """
    if norm not in ("l2", "linf"):
        raise UsageError(f"checks are made in l2 or linf, got {norm}; a radius in l2 will do")
    if len(images) == 0 or len(images) != len(labels) or not epsilon > 0:
        raise UsageError(
            f"got {len(images)} images, {len(labels)} labels and the radius {epsilon}; wanted some "
            "images, a label for each, and a radius above 0"
        )
    with frozen(model):
        offered = offers(model, images)
        findings = [randomised(model, images), rounding(model, images, seed=seed)]
        if {offered, access} != {"decision"}:
            findings.append(probabilities(probes.answers(model, images)))
        if "gradient" in (offered, access):
            findings += _gradient_checks(model, images, labels, seed)
        right = (probes.answers(model, images).argmax(1) == labels).nonzero().flatten()
        some = (images[right], labels[right], norm, epsilon)
        plain = probes.play(
            model, *some, offered=offered, access=access, seed=seed, steps=steps, queries=queries
        )
        findings += _attack_checks(model, *some, plain, steps)
    fooled = plain.by_access(right, len(images))
    return Examination(findings=tuple(findings), fooled=fooled)


def offers(model: Model, images: Tensor) -> Access:
    """The most that a model lets an attack see: labels only, scores, or gradients too."""
    logits = model(images.detach().clone().requires_grad_())
    if logits.requires_grad:
        return "gradient"
    one_hot = ((logits == 0) | (logits == 1)).all() & (logits.sum(1) == 1).all()
    return "decision" if bool(one_hot) else "score"


def randomised(model: Model, images: Tensor) -> Finding:
    """Whether the answers vary: asked again, in another order, or in smaller batches.

    Points between two labels are asked again too: where only labels are seen, it shows there.
    """
    first = probes.answers(model, images)
    backwards = torch.arange(len(images)).flip(0)
    half = (len(images) + 1) // 2
    between = probes.near_boundary(model, images[:FEW])
    pairs = {
        "when asked again": (first, probes.answers(model, images)),
        "in another order": (first, probes.answers(model, images[backwards])[backwards]),
        "in smaller batches": (
            first,
            probes.joined([probes.answers(model, part) for part in images.split(half)]),
        ),
    }
    if len(between):
        asked = [probes.answers(model, between) for _ in range(ASKED_AGAIN)]
        pairs["between two labels when asked again"] = (
            probes.joined([asked[0]] * (ASKED_AGAIN - 1)),
            probes.joined(asked[1:]),
        )
    varied = {how: _variation(*pair) for how, pair in pairs.items()}
    how, measured = max(varied.items(), key=lambda item: item[1])
    return _finding(
        "randomised",
        measured <= VARIATION,
        measured,
        VARIATION,
        f"answers to the same images vary by {measured:.2g} of the largest one {how} "
        f"(at most {VARIATION:g} expected)",
        "switch off what draws random numbers, keeps a state or mixes a batch, or else attack "
        "the average over many draws and play several seeds",
    )


def rounding(model: Model, images: Tensor, *, seed: int = 0) -> Finding:
    """Whether labels change between values that 8 bits cannot tell apart."""
    random = torch.Generator().manual_seed(seed)
    lower, upper = model.bounds
    step = (upper - lower) / LEVELS
    levels = quantise(images, model.bounds)
    # Within 0.49 of a step, so that rounding leads back to the same level.
    between = levels + (torch.rand(images.shape, generator=random) * 0.98 - 0.49) * step
    moved = probes.answers(model, between.clamp(lower, upper)).argmax(1)
    measured = _share(moved != probes.answers(model, levels).argmax(1))
    return _finding(
        "rounding",
        measured <= UNSTABLE,
        measured,
        UNSTABLE,
        f"the label of {measured:.1%} of the images changes within half a step of 8 bits "
        f"(at most {UNSTABLE:.0%} expected)",
        "count 8-bit images only (--quantised), or round inside the model",
    )


def probabilities(outputs: Tensor) -> Finding:
    """Whether the outputs (N, K) are probabilities or one-hot labels instead of logits."""
    looks = (outputs >= 0).all(1) & ((outputs.sum(1) - 1).abs() <= ROW_SUM)
    measured = _share(looks)
    one_hot = bool(((outputs == 0) | (outputs == 1)).all())
    what = "one-hot labels" if one_hot else "probabilities"
    mend = (
        "play attacks that need decisions only"
        if one_hot
        else "return the logits: a softmax makes scores equal and gradients vanish where it is sure"
    )
    return _finding(
        "probabilities",
        measured <= 0.5,
        measured,
        0.5,
        f"the outputs of {measured:.1%} of the images are {what} (logits expected)",
        mend,
    )


def saturated(cross_entropy: Tensor, of_margin: Tensor) -> Finding:
    """Whether the cross-entropy's gradient vanishes where the margin's does not.

    Args:
        cross_entropy, of_margin: (N, C, H, W), the two gradients.
    """
    measured = _share(_vanishes(cross_entropy) & ~_vanishes(of_margin))
    return _finding(
        "saturated",
        measured <= FLAT,
        measured,
        FLAT,
        f"the gradient of the cross-entropy vanishes on {measured:.1%} of the images and that of "
        f"the margin does not (at most {FLAT:.0%} expected)",
        "play attacks on a margin (apgd with loss=dlr or loss=margin), or divide the logits by "
        "a constant",
    )


def masked_gradients(of_margin: Tensor) -> Finding:
    """Whether there is a gradient at all: the share that is zero or NaN, with the margin loss."""
    measured = _share(_vanishes(of_margin))
    return _finding(
        "masked_gradients",
        measured <= FLAT,
        measured,
        FLAT,
        f"the gradient is zero or not finite on {measured:.1%} of the images "
        f"(at most {FLAT:.0%} expected)",
        "gradient attacks are blind there: play decision-based ones (boundary), transfer from "
        "another model, or pass a gradient through the operation that has none",
    )


def estimated_gradient(
    model: Model, images: Tensor, labels: Tensor, *, directions: int = 12, seed: int = 0
) -> Finding:
    """Whether the gradient is that of the function: against central finite differences.

    Both are compared along random directions (of signs) only, so that a smooth function has a
    cosine near 1 however many pixels there are. The median over the first few images counts, with
    the step that agrees best.
    """
    measured = -1.0
    for difference in DIFFERENCES:
        agreement = _agreement(model, images[:FEW], labels[:FEW], difference, directions, seed)
        measured = max(measured, agreement)
        if measured >= COSINE:
            break
    return _finding(
        "estimated_gradient",
        measured >= COSINE,
        measured,
        COSINE,
        f"the gradient agrees with finite differences at a cosine of {measured:.2f} "
        f"(at least {COSINE:g} expected)",
        "do not trust gradient attacks here: play score- and decision-based ones as well",
    )


def single_step(once: Tensor, repeated: Tensor) -> Finding:
    """Whether one large step fools images (N,) bool that repeated small ones do not."""
    return _beaten(
        "single_step",
        once & ~repeated,
        0.0,
        "one gradient step",
        "gradient descent",
        "the gradient does not lead where it points: play decision-based attacks",
    )


def monotone(fooled: Sequence[tuple[float, Tensor]]) -> Finding:
    """Whether images that are fooled within a radius stay so within larger ones.

    Args:
        fooled: (radius, which images (N,) bool were fooled within it), radii ascending.
    """
    accuracies = [1 - _share(hit) for _, hit in fooled]
    rises = [later - earlier for earlier, later in pairwise(accuracies)]
    measured = max(0.0, *rises) if rises else 0.0
    curve = ", ".join(f"{1 - _share(hit):.0%} at {radius:.3g}" for radius, hit in fooled)
    return _finding(
        "monotone",
        measured <= 0,
        measured,
        0.0,
        f"under gradient descent robust accuracy rises by up to {measured:.1%} as the radius grows "
        f"({curve}; no rise expected)",
        "give gradient attacks more steps and restarts, and play decision-based ones",
    )


def unbounded(fooled: Tensor) -> Finding:
    """Whether gradient descent without a radius fools every image (N,) bool, as it must."""
    measured = 1 - _share(fooled)
    return _finding(
        "unbounded",
        measured <= 0,
        measured,
        0.0,
        f"{measured:.1%} of the images withstand gradient descent without any radius "
        "(0 % expected)",
        "gradients are masked, or the attack is broken: play decision-based attacks",
    )


def noise(by_noise: Tensor, by_gradient: Tensor) -> Finding:
    """Whether noise of the size of the radius fools images (N,) bool that gradients do not.

    Args:
        by_gradient: by descent from the images themselves; a random start would be noise.
    """
    return _beaten(
        "noise",
        by_noise & ~by_gradient,
        0.0,
        "noise of the size of the radius",
        "gradient descent",
        "gradients are masked: play decision-based attacks",
    )


def black_box(by_scores: Tensor, by_gradient: Tensor) -> Finding:
    """Whether a random search over scores fools images (N,) bool that gradients do not."""
    return _beaten(
        "black_box",
        by_scores & ~by_gradient,
        MISSED,
        "a short random search",
        "gradient descent",
        "gradients are masked: play score- and decision-based attacks too, and count the worst",
    )


def too_few_steps(robust: float, again: float) -> Finding:
    """Whether an attack with twice the steps and another seed lowers robust accuracy.

    Args:
        robust, again: robust accuracy of the attack as played, and then.
    """
    measured = robust - again
    return _finding(
        "too_few_steps",
        measured <= CHANGE,
        measured,
        CHANGE,
        f"twice the steps with another seed lower robust accuracy from {robust:.1%} to {again:.1%} "
        f"(by at most {CHANGE:.1%} expected)",
        "give the attack more steps and restarts",
    )


def still_falling(middle: float, end: float) -> Finding:
    """Whether the median distance was still falling when the attack ended.

    Args:
        middle, end: after half of each image's queries, and after all of them; both finite.
    """
    measured = 1 - end / middle if middle > 0 else 0.0
    return _finding(
        "still_falling",
        measured <= FALLING,
        measured,
        FALLING,
        f"in the second half of its queries the attack still made the median distance "
        f"{measured:.1%} smaller (at most {FALLING:.0%} expected)",
        "give it more steps, or set a budget that makes the stop a rule (--max-queries)",
    )


def missed(by_attack: Tensor, by_plain: Tensor) -> Finding:
    """Whether plain attacks with no more access fool images (N,) bool that the attack did not."""
    return _beaten(
        "missed",
        by_plain & ~by_attack,
        MISSED,
        "noise or a plain search with no more access",
        "the attack",
        "the attack is weak here: play a stronger one beside it and count the worst",
    )


def beaten_by_less(by_attack: Tensor, by_other: Tensor, name: str) -> Finding:
    """Whether an attack that sees less of the model fools images (N,) bool that this one did not.

    Args:
        name: of the other attack.
    """
    return _beaten(
        "beaten_by_less",
        by_other & ~by_attack,
        MISSED,
        f"{name}, which sees less of the model,",
        "this attack",
        "what this one sees misleads it, or it is too short: count the worst of both",
    )


def lost_by_rounding(kept: Tensor) -> Finding:
    """Whether adversarials stay so as 8-bit images: kept (n,) bool."""
    measured = 1 - _share(kept) if len(kept) else 0.0
    return _finding(
        "lost_by_rounding",
        measured <= UNSTABLE,
        measured,
        UNSTABLE,
        f"{int((~kept).sum())} of {len(kept)} adversarials fool no more when rounded to 8 bits "
        f"(at most {UNSTABLE:.0%} expected)",
        "add --quantised, so that the search runs on images that can be stored and sent",
    )


def _gradient_checks(model: Model, images: Tensor, labels: Tensor, seed: int) -> list[Finding]:
    _, plain = probes.slope(model, images, lambda z: F.cross_entropy(z, labels, reduction="none"))
    _, of_margin = probes.slope(model, images, lambda z: margin(z, labels))
    return [
        saturated(plain, of_margin),
        masked_gradients(of_margin),
        estimated_gradient(model, images, labels, seed=seed),
    ]


def _agreement(
    model: Model, images: Tensor, labels: Tensor, difference: float, directions: int, seed: int
) -> float:
    """The median over images of the cosine between measured and expected rises of the margin."""
    random = torch.Generator().manual_seed(seed)
    lower, upper = model.bounds
    step = difference * (upper - lower)
    inside = images.clamp(lower + step, upper - step)
    gradient = probes.slope(model, inside, lambda z: margin(z, labels))[1].nan_to_num(0.0, 0.0, 0.0)
    measured, expected = [], []
    for _ in range(directions):
        signs = torch.randint(0, 2, images.shape, generator=random) * 2.0 - 1
        above = margin(probes.answers(model, inside + step * signs), labels)
        below = margin(probes.answers(model, inside - step * signs), labels)
        measured.append((above - below) / (2 * step))
        expected.append((gradient * signs).flatten(1).sum(1))
    cosine = F.cosine_similarity(torch.stack(measured), torch.stack(expected), dim=0)
    return float(cosine.median())


def _attack_checks(
    model: Model,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    plain: probes.Plain,
    steps: int,
) -> list[Finding]:
    """Gradient descent against itself, noise and the random search, on images that are right."""
    if len(images) == 0 or plain.descent is None or plain.search is None:
        return []
    once = probes.descend(model, images, labels, norm=norm, epsilon=epsilon, steps=1)
    lower, upper = model.bounds
    everywhere = probes.descend(
        model, images, labels, norm="linf", epsilon=upper - lower, steps=2 * steps
    )
    return [
        single_step(once, plain.descent),
        monotone(plain.straight),
        unbounded(everywhere),
        noise(plain.noise, plain.straight[-1][1]),
        black_box(plain.search, plain.descent),
    ]


def _variation(first: Tensor, second: Tensor) -> float:
    """The largest difference of two answers to the same images, as a share of the largest one."""
    width = max(first.shape[1], second.shape[1])
    first, second = (F.pad(logits, (0, width - logits.shape[1])) for logits in (first, second))
    return float((first - second).abs().amax() / first.abs().amax().clamp_min(1e-30))


def _vanishes(gradient: Tensor) -> Tensor:
    size = gradient.abs().flatten(1).amax(1)
    return (size == 0) | ~size.isfinite()


def _share(hit: Tensor) -> float:
    return float(hit.double().mean()) if len(hit) else 0.0


def _beaten(name: str, hit: Tensor, limit: float, weaker: str, stronger: str, mend: str) -> Finding:
    measured = _share(hit)
    return _finding(
        name,
        measured <= limit,
        measured,
        limit,
        f"{weaker} fools {int(hit.sum())} of {len(hit)} images that {stronger} does not "
        "(none expected)",
        mend,
    )


def _finding(name: str, ok: bool, measured: float, limit: float, what: str, mend: str) -> Finding:
    text = what if ok else f"{what}; {mend}"
    return Finding(name=name, ok=ok, measured=measured, limit=limit, text=text)
