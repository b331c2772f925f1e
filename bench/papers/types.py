"""What reproducing a paper gives: claims with what was published and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from ..reports.blocks import Block

Scale = Literal["laptop", "full"]
Report = Callable[[str], None]
"""Is told in a line what is being done."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of a paper, and whether it holds here.

    Attributes:
        id: short and stable, such as "l2-ordering".
        claim: what is claimed, in a sentence.
        published: the paper's figure and where it stands, or None where it gives none.
        measured: ours, as text or number.
        interval: 95 % of what was measured, where it is one figure.
        holds: whether what was measured says so.
        how: on what, how many, by which rule.
    """

    id: str
    claim: str
    published: str | None
    measured: str | float
    interval: tuple[float, float] | None = None
    holds: bool
    how: str

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard reproduce --json`."""
        return {
            "id": self.id,
            "claim": self.claim,
            "published": self.published,
            "measured": self.measured,
            "interval": list(self.interval) if self.interval is not None else None,
            "holds": self.holds,
            "how": self.how,
        }


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A finished one.

    Attributes:
        paper: arXiv id.
        title: of the paper.
        scale: at which it was run.
        claims: in the order in which they are shown.
        blocks: what the page shows below them.
        seconds: of wall time.
    """

    paper: str
    title: str
    scale: Scale
    claims: tuple[Claim, ...]
    blocks: tuple[Block, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard reproduce --json`."""
        return {
            "paper": self.paper,
            "scale": self.scale,
            "claims": [claim.to_json() for claim in self.claims],
            "seconds": round(self.seconds, 1),
        }


class Paper(Protocol):
    """A paper that can be reproduced; what the `create` of a file in `bench.papers` makes."""

    @property
    def arxiv(self) -> str:
        """Its id, such as 1805.09190."""
        ...

    @property
    def title(self) -> str:
        """As published."""
        ...

    def reproduce(
        self, folder: Path, *, scale: Scale, processes: int, report: Report
    ) -> Reproduction:
        """Run it, or go on with what `folder` holds of an earlier run.

        Args:
            folder: for the facts.
            scale: "laptop" (under half an hour on 2 cores), or the paper's own size.
            processes: how many to use.
            report: told what is being done.

        Raises:
            UserError: data or weights are missing; the message says how to get them.
        """
        ...
