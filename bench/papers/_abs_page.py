"""What the page of 1805.09190 shows below the claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..reports.blocks import Block, Chart, Heading, Paragraph, Pictures
from ..reports.blocks import Table as TableBlock
from ..reports.charts import accuracy_chart, norm_name
from ..reports.components import Picture, accuracy_table, distance
from ..reports.curves import Curve
from ..reports.images import data_uri, to_pixels
from ..score import accuracy_curve
from ._abs_suite import COLUMNS, NORMS, ROWS, THRESHOLD
from ._abs_table import Table, accuracy, median

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..runs import Run
    from ._abs_distal import Distal


def table_blocks(
    table: Table, clean: dict[str, float], images: int, clean_images: int
) -> list[Block]:
    names = tuple(column.name for column in COLUMNS)

    def cell(values: NDArray[np.float64] | None, norm: str) -> str:
        if values is None:
            return "–"
        return f"{distance(float(np.median(values)))} / {100 * accuracy(values, norm):.0f} %"

    blocks: list[Block] = [
        Heading("The table"),
        Paragraph(
            f"Median distance and accuracy at the threshold, over the same {images} test images "
            "for every model. A misclassified image counts as distance 0, a failed attack as "
            "infinite. Every adversarial was judged again by the model itself on a fresh pass; for "
            "ABS that is full inference. The published rows are remembered, not verified."
        ),
    ]
    for norm in NORMS:
        rows = [
            (
                row.name,
                tuple(cell(table.distances[name, norm].get(row.name), norm) for name in names),
            )
            for row in ROWS
            if row.norm == norm
        ]
        every = ("All", tuple(cell(table.least(name, norm), norm) for name in names))
        low_high = (
            "95 % interval of the median",
            tuple(
                "{} to {}".format(*map(distance, median(table.least(name, norm))[1]))
                for name in names
            ),
        )
        published = (
            "Published, all",
            tuple(f"{c.published[norm][0]:g} / {c.published[norm][1]} %" for c in COLUMNS),
        )
        caption = f"{norm_name(norm)}: median / accuracy at {THRESHOLD[norm]:g}"
        blocks.append(
            TableBlock(caption, "Attack", names, (*rows, every, low_high, published), (len(rows),))
        )
    blocks.append(
        TableBlock(
            f"Clean accuracy on {clean_images} images",
            "",
            names,
            (
                ("Measured", tuple(f"{100 * clean[name]:.1f} %" for name in names)),
                ("Published", tuple(f"{c.published_clean:.1f} %" for c in COLUMNS)),
            ),
        )
    )
    return blocks


def curve_blocks(table: Table) -> list[Block]:
    blocks: list[Block] = [Heading("Accuracy against distance")]
    for norm in NORMS:
        curves = tuple(
            Curve(column.name, tuple(accuracy_curve(table.least(column.name, norm))))
            for column in COLUMNS
        )
        blocks.append(
            Chart(
                f"Accuracy against {norm_name(norm)} distance",
                accuracy_chart(curves, norm),
                f"Minimum over all attacks. The paper's threshold is {THRESHOLD[norm]:g}; where a "
                "threshold lies decides who leads, so that the whole curve is shown.",
                "epsilon",
                tuple(curve.name for curve in curves),
                accuracy_table(curves),
            )
        )
    return blocks


def certificate_blocks(bounds: NDArray[np.float64], table: Table) -> list[Block]:
    least = table.least("ABS", "l2")
    attacked = np.isfinite(least) & (least > 0)
    share = float(np.median(bounds[attacked] / least[attacked])) if attacked.any() else 0.0
    return [
        Heading("The certificate"),
        Paragraph(
            "An estimated lower bound on the L2 distance of the nearest adversarial, from what the "
            "classes' best reconstructions are away. It is a bound only where the search over the "
            f"latents has found the global minimum. Mean {bounds.mean():.3f}, median "
            f"{np.median(bounds):.3f}; in the median it is {100 * share:.0f} % of the distance "
            "that the best attack reached. No other model of the table has such a bound."
        ),
    ]


def distal_blocks(
    distals: dict[str, Distal], recognised: dict[str, float], names: Sequence[str]
) -> list[Block]:
    rows = tuple(
        (
            f"{name}, {100 * recognised[name]:.0f} %",
            tuple(
                _picture(image.permute(1, 2, 0).numpy(), f"{float(sure):.2f}")
                for image, sure in zip(found.images, found.confidence, strict=True)
            ),
        )
        for name, found in distals.items()
    )
    return [
        Heading("Distal adversarials"),
        Paragraph(
            "From the same noise, gradient ascent until the model gives the class of the column a "
            "confidence of 0.9 (below each picture: what was reached). The confidence is the "
            "modified softmax, set so that its median on test images is 0.9. The share says for "
            "how many most of the other models agree."
        ),
        Pictures("Images that a model is sure of", tuple(names), rows),
    ]


def perceptual_blocks(table: Table, data: Dataset) -> list[Block]:
    chosen = _one_of_each(data)
    columns = tuple(data.class_names[int(data.labels[k])] for k in chosen)
    clean = (
        "Original",
        tuple(_picture(data.pixels[k], columns[i]) for i, k in enumerate(chosen)),
    )
    blocks: list[Block] = [
        Heading("The smallest adversarials"),
        Paragraph(
            "The nearest adversarial over all attacks, for the first image of each class; below it "
            "the label that the model gives it and the distance."
        ),
    ]
    for norm in NORMS:
        rows = tuple(
            (
                column.name,
                tuple(_nearest(table.runs[column.name, norm].values(), k, data) for k in chosen),
            )
            for column in COLUMNS
        )
        blocks.append(Pictures(f"Smallest in {norm_name(norm)}", columns, (clean, *rows)))
    return blocks


def _one_of_each(data: Dataset) -> list[int]:
    first: dict[int, int] = {}
    for index, label in enumerate(data.labels.tolist()):
        first.setdefault(label, index)
    return [first[label] for label in sorted(first)]


def _nearest(runs: Iterable[Run], index: int, data: Dataset) -> Picture | None:
    """The picture of the nearest adversarial of an image, or None."""
    best = None
    for run in runs:
        outcome = next(o for o in run.outcomes if o.image_id == data.ids[index])
        if outcome.adversarial is not None and (
            best is None or outcome.distance < best[1].distance
        ):
            best = (run, outcome)
    if best is None:
        return None
    run, outcome = best
    label = "" if outcome.adversarial_label is None else data.class_names[outcome.adversarial_label]
    return _picture(run.adversarial(outcome), f"{label}, {distance(outcome.distance)}")


def _picture(image: NDArray[Any], label: str) -> Picture:
    return Picture(data_uri(to_pixels(image)), label)
