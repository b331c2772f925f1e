"""DeepLabCut: "Markerless tracking of user-defined features with deep learning".

Networks from nothing on 10, 50 and 200 frames of generated mice: error against the distance of two
simulated labellers, with and without the confidence cutoff, and under attack beside noise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from .types import Report, Reproduction, Scale


@dataclass(frozen=True, kw_only=True)
class PosePaper:
    """See the module; `create` makes one.

    Attributes:
        seeds: networks for each number of frames.
        steps: of each training.
        samples: test frames, or None for all.
    """

    seeds: int = 3
    steps: int = 2000
    samples: int | None = None

    @property
    def arxiv(self) -> str:
        return "1804.03142"

    @property
    def title(self) -> str:
        return "Markerless tracking of user-defined features with deep learning"

    def reproduce(
        self, folder: Path, *, scale: Scale, processes: int, report: Report
    ) -> Reproduction:
        """See `bench.papers.types.Paper.reproduce`; there is no full scale, for want of its data.

        Raises:
            UserError: the full scale is asked for.
        """
        from ..errors import UserError
        from . import _poses as poses

        if scale == "full":
            raise UserError(
                "1804.03142 is not run at full scale: its 1,080 labelled frames are not published "
                "as one set; run it without --full"
            )
        started = time.monotonic()
        jobs = [
            poses.Job(folder, frames, seed, self.steps, self.samples)
            for frames in poses.FRAMES
            for seed in range(self.seeds)
        ]
        grid = poses.run(jobs, processes, report)
        return Reproduction(
            paper=self.arxiv,
            title=self.title,
            scale=scale,
            claims=poses.claims(grid),
            blocks=(*poses.blocks(grid), *poses.pictures()),
            seconds=time.monotonic() - started,
        )


def create(*, seeds: int = 3, steps: int = 2000, samples: int | None = None) -> PosePaper:
    """The reproduction, with so many networks of `steps` steps for each number of frames."""
    return PosePaper(seeds=seeds, steps=steps, samples=samples)
