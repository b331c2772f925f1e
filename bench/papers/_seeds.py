"""A figure measured with several seeds: mean and interval."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}
"""Quantile 0.975 of Student's t for the mean of so many seeds."""


@dataclass(frozen=True)
class Cells:
    """One figure, such as an accuracy, for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, by Student's t over the seeds; None for a single one."""
        n = len(self.values)
        if n < 2:
            return None
        half = T_95.get(n, 1.96) * stdev(self.values) / n**0.5
        return self.mean - half, self.mean + half

    def less(self, other: Cells) -> Cells:
        """The difference, seed by seed."""
        return Cells(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    def text(self, digits: int) -> str:
        """The mean with so many digits after the point, with the interval behind it."""
        ends = self.interval
        text = f"{self.mean:.{digits}f}"
        return text if ends is None else f"{text} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"

    def percent(self) -> str:
        """The mean in per cent, with the interval behind it."""
        ends = self.interval
        text = f"{100 * self.mean:.1f} %"
        return text if ends is None else f"{text} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
