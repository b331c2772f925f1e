"""Generated mice seen from above, whose joints are to be found (for arXiv 1804.03142)."""

from __future__ import annotations

from ..errors import UserError
from .task_sets import TaskSet

SAMPLES = {"train": 400, "test": 300}
TOLERANCE = 5.0
"""Pixels: about the size of the head."""


def create(*, split: str = "test") -> TaskSet:
    """400 (`train`) or 300 (`test`) frames of 96x96x3, the same every time.

    Targets: `joints`, (N, 4, 2) x and y as a labeller saw them, in pixels; `second`, another
    labeller's; `exact`, where they are; `tolerance`, (N,) pixels by which a joint may be missed.
    Raises `UserError` for another split.
    """
    import torch

    from ..poses import draw_mice

    if split not in SAMPLES:
        raise UserError(f"generated-mice has no split {split!r}; wanted {', '.join(SAMPLES)}")
    count = SAMPLES[split]
    generator = torch.Generator().manual_seed(2000 + [*SAMPLES].index(split))
    drawn = draw_mice(count, generator=generator)
    return TaskSet(
        name="generated-mice",
        split=split,
        ids=tuple(f"mouse-{split}-{number:03d}" for number in range(count)),
        images=drawn.frames,
        contexts=None,
        targets={
            "joints": drawn.labels,
            "second": drawn.second,
            "exact": drawn.joints,
            "tolerance": torch.full((count,), TOLERANCE),
        },
    )
