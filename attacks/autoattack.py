"""AutoAttack: a fixed ensemble without parameters to tune (Croce & Hein 2020, 2003.01690)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from .types import Attack
    from .worst_case import WorstCase


def create(
    *,
    version: Literal["standard", "decision"] = "standard",
    norm: Literal["linf", "l2", "l1"] = "linf",
    steps: int = 100,
    queries: int = 5000,
    targets: int = 9,
) -> WorstCase:
    """The ensemble, as a `worst_case.WorstCase`: each attack is given the images that still stand.

    - "standard" (section 5 of the paper; for L1 the settings of arXiv 2103.01208): APGD on
      cross-entropy, APGD on the targeted difference of logits ratio, targeted FAB, Square (linf
      and l2 only). It needs gradients.
    - "decision" needs labels only (linf and l2): salt and pepper, blended noise, the biased
      boundary walk (l2) or HopSkipJump with low-frequency probes, then HopSkipJump with white ones.

    Args:
        version: which ensemble.
        norm: the distance that counts.
        steps: gradient steps of each run of APGD and FAB.
        queries: of Square.
        targets: classes that the targeted attacks try.

    Raises:
        UsageError: no such ensemble in that norm, or a count below 1.
    """
    from . import create as attack
    from .worst_case import WorstCase

    if min(steps, queries, targets) < 1:
        raise UsageError(
            f"got steps={steps}, queries={queries}, targets={targets}; wanted at least 1 of each"
        )
    parts: list[Attack]
    if version == "standard" and norm in ("linf", "l2", "l1"):
        restarts = 5 if norm == "l1" else 1
        tried = min(targets, 5) if norm == "l1" else targets
        parts = [
            attack("apgd", norm=norm, loss="ce", steps=steps, restarts=restarts),
            attack("apgd", norm=norm, loss="dlr_targeted", steps=steps, targets=tried),
            attack("fab", norm=norm, steps=steps, targets=targets),
        ]
        if norm != "l1":
            parts.append(attack("square", norm=norm, queries=queries))
    elif version == "decision" and norm in ("linf", "l2"):
        low = (
            attack("biased_boundary")
            if norm == "l2"
            else attack("hop_skip_jump", norm=norm, cells=8)
        )
        parts = [
            attack("salt_and_pepper", norm=norm, orders=2),
            attack("blended_noise", norm=norm),
            low,
            attack("hop_skip_jump", norm=norm),
        ]
    else:
        raise UsageError(
            f"got version={version!r}, norm={norm!r}; wanted standard in linf, l2 or l1, or "
            "decision in linf or l2"
        )
    return WorstCase(attacks=tuple(parts), norm=norm)
