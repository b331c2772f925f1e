"""Excessive invariance: "Excessive Invariance Causes Adversarial Vulnerability".

Metamers of invertible networks on MNIST, ways through adversarial spheres with the same logits, and
shiftMNIST: five networks, what they lean on, and what fresh probes read from their nuisance.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from .types import Report, Reproduction, Scale

SEEDS: dict[Scale, tuple[int, ...]] = {"laptop": (0, 1, 2), "full": (0, 1, 2, 3, 4)}
PAIRS = 500
DATASET = "mnist5k"


@dataclass(frozen=True, kw_only=True)
class ExcessiveInvariancePaper:
    """See the module; `create` makes one.

    Attributes:
        seeds: how many of each network, or None for the scale's own number.
        epochs: of each network on shiftMNIST, or None for the recipe's.
        images: training images of networks that are trained here, or None for all.
        pairs: of images on MNIST.
        steps: of the network on spheres, or None for the usual number.
    """

    seeds: int | None = None
    epochs: int | None = None
    images: int | None = None
    pairs: int = PAIRS
    steps: int | None = None

    @property
    def arxiv(self) -> str:
        return "1811.00401"

    @property
    def title(self) -> str:
        return "Excessive Invariance Causes Adversarial Vulnerability"

    def reproduce(
        self, folder: Path, *, scale: Scale, processes: int, report: Report
    ) -> Reproduction:
        """See `bench.papers.types.Paper.reproduce`."""
        from ..training.classifier import one_thread
        from . import _invariance_metamers as metamers
        from . import _invariance_shift as shift
        from . import _invariance_spheres as spheres

        started = time.monotonic()
        seeds = SEEDS[scale] if self.seeds is None else tuple(range(self.seeds))
        grid = shift.train_all(
            folder, scale, seeds, processes, report, epochs=self.epochs, images=self.images
        )
        resnets = metamers.clean_resnets(folder, DATASET, seeds, report, images=self.images)
        with one_thread():
            found = metamers.run(folder, DATASET, self.pairs, report)
            walked = spheres.run(0, report, steps=self.steps or spheres.STEPS)
        return Reproduction(
            paper=self.arxiv,
            title=self.title,
            scale=scale,
            claims=(
                *metamers.claims(found, resnets),
                *spheres.claims(walked),
                *shift.claims(grid),
            ),
            blocks=(*metamers.blocks(found), *spheres.blocks(walked), *shift.blocks(grid)),
            seconds=time.monotonic() - started,
        )


def create(
    *,
    seeds: int | None = None,
    epochs: int | None = None,
    images: int | None = None,
    pairs: int = PAIRS,
    steps: int | None = None,
) -> ExcessiveInvariancePaper:
    """The reproduction.

    `seeds` of each network on shiftMNIST (3 at laptop scale), trained for `epochs` on
    `images`, `pairs` of images for metamers (500), `steps` of the network on spheres.
    """
    return ExcessiveInvariancePaper(
        seeds=seeds, epochs=epochs, images=images, pairs=pairs, steps=steps
    )
