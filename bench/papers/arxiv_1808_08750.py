"""Distortions and observers: "Generalisation in humans and deep neural networks".

Human accuracy tables and the train-by-test matrix from the authors' raw trials; the same
experiment on our small networks; a pretrained network on photographs under all distortions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from .types import Report, Reproduction, Scale

SEEDS: dict[Scale, tuple[int, ...]] = {"laptop": (0, 1, 2), "full": (0, 1, 2, 3, 4)}
IMAGES: dict[Scale, int] = {"laptop": 100, "full": 500}


@dataclass(frozen=True, kw_only=True)
class GeneralisationPaper:
    """See the module; `create` makes one.

    Attributes:
        trials: folder with the observers' trials, or None for the usual places.
        seeds: how many of each of our networks, or None for the scale's own number.
        images: photographs, or None for the scale's own number.
    """

    trials: str | None = None
    seeds: int | None = None
    images: int | None = None

    @property
    def arxiv(self) -> str:
        return "1808.08750"

    @property
    def title(self) -> str:
        return "Generalisation in humans and deep neural networks"

    def reproduce(
        self, folder: Path, *, scale: Scale, processes: int, report: Report
    ) -> Reproduction:
        """See `bench.papers.types.Paper.reproduce`."""
        from . import _distortions_networks as networks
        from . import _distortions_observers as observers

        started = time.monotonic()
        seeds = SEEDS[scale] if self.seeds is None else tuple(range(self.seeds))
        claims, blocks = observers.analyse(Path(self.trials) if self.trials else None, report)
        grid = networks.train_all(folder, seeds, processes, report)
        found = networks.photographs(folder, self.images or IMAGES[scale], report)
        return Reproduction(
            paper=self.arxiv,
            title=self.title,
            scale=scale,
            claims=(*claims, *networks.grid_claims(grid)),
            blocks=(*blocks, *networks.grid_blocks(grid), *networks.photograph_blocks(found)),
            seconds=time.monotonic() - started,
        )


def create(
    *, trials: str | None = None, seeds: int | None = None, images: int | None = None
) -> GeneralisationPaper:
    """The reproduction.

    `trials` is a folder with the observers' trials (csv.gz files, or the authors' repositories);
    without it `$TILTYARD_DATA/geirhos2018` and the cache are looked at, else they are downloaded.
    `seeds` networks of each training (3 at laptop scale), `images` photographs (100).
    """
    return GeneralisationPaper(trials=trials, seeds=seeds, images=images)
