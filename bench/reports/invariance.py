"""The page of `tiltyard invariance`: rates of metamers by model, and what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import sheet
from .blocks import Block, Heading, Paragraph, Pictures, Table
from .components import Picture, distance, percent
from .images import data_uri, to_pixels

if TYPE_CHECKING:
    from ..invariance import Invariance, Share

SHOWN = 12
"""Pairs in a gallery."""

COLUMNS = (
    "metamers",
    "exact",
    "oracle: donor",
    "oracle: source",
    "metamers, clipped",
    "logit error",
    "beyond [0, 1]",
    "L2 to donor",
    "L2 to source",
    "accuracy",
)


def write_html(found: Sequence[Invariance], out: Path) -> Path:
    """Write the page, which opens offline, and return `out`."""
    return sheet.write(render(found), out)


def render(found: Sequence[Invariance]) -> str:
    """The page as HTML, for models asked about the same pairs."""
    first = found[0]
    return sheet.render(
        topic="invariance (arXiv 1811.00401)",
        heading="What decisions do not depend on",
        lede=f"{len(first.source_ids)} pairs of {first.dataset} ({first.split}), seed "
        f"{first.seed}; the oracle, which stands in for people, is {first.oracle}.",
        blocks=[*table(found), *gallery(found)],
        command="tiltyard invariance",
    )


def table(found: Sequence[Invariance]) -> list[Block]:
    """A row for each model, and what its columns mean."""
    rows = []
    for one in found:
        score = one.score()
        shares = (
            score.metamers,
            score.exact,
            score.donor_named,
            score.source_named,
            score.clipped_metamers,
        )
        cells = (
            *map(share, shares),
            distance(score.logit_error),
            distance(score.range_violation),
            distance(score.distance_donor),
            distance(score.distance_source),
            percent(score.accuracy),
        )
        rows.append((f"{one.model} ({one.method})", cells))
    apart = distance(found[0].score().apart)
    return [
        Table("Metamers, by model", "model", COLUMNS, tuple(rows)),
        Paragraph(
            "A metamer has its source's logits and its donor's nuisance. It counts (first column) "
            "where all logits are the source's to 0.001 and the oracle gives it the donor's class, "
            "which is another: an image that has changed its class and that the model can't tell "
            "from the old one. Clipped ones lie within [0, 1], and count where the model's "
            "decision is still the source's. Errors, violations and distances are medians over "
            f"the pairs; source and donor are {apart} apart. In brackets: 95 % intervals."
        ),
    ]


def gallery(found: Sequence[Invariance], shown: int = SHOWN) -> list[Block]:
    """Source, metamer of each model, and donor; the oracle's class below."""
    first = found[0]
    chosen = range(min(shown, len(first.source_ids)))
    names = first.class_names
    rows = [
        (
            "source of the logits",
            tuple(
                Picture(data_uri(first.sources[k]), names[first.source_labels[k]]) for k in chosen
            ),
        )
    ]
    for one in found:
        pictures = tuple(
            Picture(data_uri(to_pixels(one.metamers[k])), f"oracle: {names[one.oracle_clipped[k]]}")
            for k in chosen
        )
        rows.append((f"metamer of {one.model}", pictures))
    donors = tuple(Picture(data_uri(first.donors[k]), names[first.donor_labels[k]]) for k in chosen)
    rows.append(("donor of the nuisance", donors))
    columns = tuple(f"pair {k + 1}" for k in chosen)
    return [
        Heading("The first pairs"),
        Paragraph(
            "Metamers are shown clipped to [0, 1]. As they are, each is the same to its model as "
            "the source at the top, wherever the logit error is small."
        ),
        Pictures("Sources, metamers and donors", columns, tuple(rows)),
    ]


def share(value: Share) -> str:
    """A share with its interval, in per cent."""
    low, high = value.interval
    return f"{percent(value.value)} [{100 * low:.1f}, {100 * high:.1f}]"
