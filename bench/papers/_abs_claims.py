"""The claims of 1805.09190, held against the distances that were found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..score import wilson
from ._abs_suite import COLUMNS, THRESHOLD
from ._abs_table import Table, accuracy, median
from .types import Claim

REMEMBERED = "table 1, as remembered, not verified"

PUBLISHED_CERTIFICATE = 0.690

_NAMED = {column.name: column for column in COLUMNS}


def clean_claims(clean: dict[str, float], images: int) -> list[Claim]:
    count = round(clean["ABS"] * images)
    return [
        Claim(
            id="clean-accuracy",
            claim="ABS classifies clean images about as well as a CNN: at least 97 %",
            published=f"99.0 % (CNN 99.1 %), trained on 60,000 images; {REMEMBERED}",
            measured=100 * clean["ABS"],
            interval=_percent(wilson(count, images)),
            holds=clean["ABS"] >= 0.97,
            how=f"{images} test images, per cent; CNN {100 * clean['CNN']:.1f}",
        )
    ]


def _percent(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]


def _ordering(table: Table, norm: str, *, name: str, claim: str, order: Sequence[str]) -> Claim:
    """A claim that accuracy at the threshold falls along `order`."""
    found = [accuracy(table.least(name, norm), norm) for name in order]
    images = len(table.least(order[0], norm))
    return Claim(
        id=name,
        claim=claim,
        published=" > ".join(f"{name} {_NAMED[name].published[norm][1]} %" for name in order)
        + f"; {REMEMBERED}",
        measured=", ".join(
            f"{name} {100 * share:.0f} %" for name, share in zip(order, found, strict=True)
        ),
        holds=all(first >= second for first, second in pairwise(found)),
        how=f"accuracy at {THRESHOLD[norm]:g}, minimum over all attacks, {images} images; "
        "holds if no model beats the one before it",
    )


def _above(table: Table, norm: str, first: str, second: str, *, name: str, claim: str) -> Claim:
    """A claim that the median distance of `first` is larger, with intervals that don't overlap."""
    one, other = table.least(first, norm), table.least(second, norm)
    found, interval = median(one)
    second_median, second_interval = median(other)
    return Claim(
        id=name,
        claim=claim,
        published=f"{_NAMED[first].published[norm][0]:g} against "
        f"{_NAMED[second].published[norm][0]:g}; {REMEMBERED}",
        measured=f"{found:.3g} [{interval[0]:.3g}, {interval[1]:.3g}] against "
        f"{second_median:.3g} [{second_interval[0]:.3g}, {second_interval[1]:.3g}]",
        holds=interval[0] > second_interval[1],
        how=f"median {norm} over {len(one)} images of the minimum over all attacks; holds if the "
        "95 % intervals do not overlap",
    )


def l2_claims(table: Table) -> list[Claim]:
    return [
        _ordering(
            table,
            "l2",
            name="l2-ordering",
            claim="In L2 ABS is the most robust of all, then the others in this order",
            order=("ABS", "Nearest neighbour", "Binary ABS", "Madry et al.", "CNN", "Binary CNN"),
        ),
        _above(
            table,
            "l2",
            "ABS",
            "CNN",
            name="l2-abs-cnn",
            claim="In L2 ABS is more robust than a CNN",
        ),
        _above(
            table,
            "l2",
            "ABS",
            "Madry et al.",
            name="l2-abs-madry",
            claim="In L2 ABS is more robust than adversarial training in Linf",
        ),
        _above(
            table,
            "l2",
            "ABS",
            "Nearest neighbour",
            name="l2-abs-nearest-neighbour",
            claim="In L2 ABS is more robust than the nearest neighbour",
        ),
    ]


def linf_claims(table: Table) -> list[Claim]:
    binary, _ = median(table.least("Binary CNN", "linf"))
    madry, _ = median(table.least("Madry et al.", "linf"))
    return [
        _ordering(
            table,
            "linf",
            name="linf-ordering",
            claim="In Linf adversarial training and binarised models lead; ABS is not robust",
            order=("Madry et al.", "Binary ABS", "Binary CNN", "Nearest neighbour", "ABS", "CNN"),
        ),
        Claim(
            id="linf-binarisation",
            claim="Binarising the input alone reaches the median Linf distance of Madry et al.",
            published=f"0.34 and 0.34; {REMEMBERED}",
            measured=f"{binary:.3g} and {madry:.3g}",
            holds=binary >= 0.95 * madry,
            how="medians of the minimum over all attacks; holds from 95 % of it on",
        ),
    ]


def l0_claims(table: Table) -> list[Claim]:
    return [
        _ordering(
            table,
            "l0",
            name="l0-ordering",
            claim="In L0 Binary ABS and ABS lead by far, and adversarial training in Linf is worst",
            order=("Binary ABS", "ABS", "Binary CNN", "Nearest neighbour", "CNN", "Madry et al."),
        ),
        _above(
            table,
            "l0",
            "ABS",
            "CNN",
            name="l0-abs-cnn",
            claim="In L0 ABS is more robust than a CNN",
        ),
        _above(
            table,
            "l0",
            "CNN",
            "Madry et al.",
            name="l0-cnn-madry",
            claim="In L0 adversarial training in Linf makes a network less robust than a plain CNN",
        ),
    ]


def certificate_claims(table: Table, bounds: NDArray[np.float64]) -> list[Claim]:
    least = table.least("ABS", "l2")
    broken = int((bounds > least * (1 + 1e-4)).sum())
    spread = 1.96 * float(bounds.std(ddof=1)) / len(bounds) ** 0.5
    mean = float(bounds.mean())
    return [
        Claim(
            id="certificate",
            claim="ABS has a lower bound on the L2 distance of adversarials for each image",
            published=f"mean {PUBLISHED_CERTIFICATE:.3f}; section 5, as remembered, not verified",
            measured=mean,
            interval=(mean - spread, mean + spread),
            holds=mean > 0 and broken == 0,
            how=f"estimated (global minima are assumed); mean over {len(bounds)} images, above 0 "
            f"for {int((bounds > 0).sum())}; an attack came nearer than the bound on {broken}",
        )
    ]


def distal_claim(recognised: dict[str, float]) -> Claim:
    others = max(share for name, share in recognised.items() if name != "ABS")
    return Claim(
        id="distal",
        claim="Images made from noise until ABS is sure of a class are recognisable; those of the "
        "other models are not",
        published="a figure to look at; no number",
        measured=", ".join(f"{name} {100 * share:.0f} %" for name, share in recognised.items()),
        holds=recognised["ABS"] > others and recognised["ABS"] >= 0.5,
        how="share of 10 classes for which confidence 0.9 was reached and more than half of the "
        "other five models give that class; a stand-in for people, who should look at the pictures",
    )
