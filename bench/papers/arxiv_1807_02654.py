"""One-shot texture segmentation: "One-Shot Texture Segmentation".

Three networks trained on collages of procedural textures only, on textures, families and
photographs that they have not seen; against local statistics, and under attack beside noise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from .types import Report, Reproduction, Scale

SEEDS = (0, 1, 2)
SPLITS = ("new", "test", "photographs")


@dataclass(frozen=True, kw_only=True)
class TexturePaper:
    """See the module; `create` makes one.

    Attributes:
        seeds: how many of the networks.
        samples: of each split, or None for all.
    """

    seeds: int = len(SEEDS)
    samples: int | None = None

    @property
    def arxiv(self) -> str:
        return "1807.02654"

    @property
    def title(self) -> str:
        return "One-Shot Texture Segmentation"

    def reproduce(
        self, folder: Path, *, scale: Scale, processes: int, report: Report
    ) -> Reproduction:
        """See `bench.papers.types.Paper.reproduce`; there is no full scale, for want of its data.

        Raises:
            UserError: the full scale is asked for.
        """
        from ..errors import UserError
        from ..training.classifier import one_thread
        from . import _textures as textures

        if scale == "full":
            raise UserError(
                "1807.02654 is not run at full scale: its photographs of textures are not named; "
                "run it without --full"
            )
        started = time.monotonic()
        with one_thread():
            grid = textures.run(folder, SEEDS[: self.seeds], SPLITS, self.samples, report)
            pictures = textures.pictures()
        return Reproduction(
            paper=self.arxiv,
            title=self.title,
            scale=scale,
            claims=textures.claims(grid),
            blocks=(*textures.blocks(grid), *pictures),
            seconds=time.monotonic() - started,
        )


def create(*, seeds: int = len(SEEDS), samples: int | None = None) -> TexturePaper:
    """The reproduction, with `seeds` networks (of 3) on `samples` of each split (60)."""
    return TexturePaper(seeds=seeds, samples=samples)
