"""1807.02654: what the networks and the baselines find, and what is left under attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import task_set
from ..reports.blocks import Block, Heading, Paragraph, Pictures, Table
from ..reports.components import Picture
from ..reports.images import data_uri, to_pixels
from ..tasks.attacking import Ascent, attacked
from ..tasks.facts import FACTS_FILE, Found
from ..tasks.playing import Plan, load_task, play_task
from ..textures.statistics import segment
from ._seeds import Cells
from .types import Claim, Report

SHOWN = 6
ATTACKED = 20
"""Samples that are attacked, of families not trained on."""
EPSILON = 8 / 255
MARGIN = 0.1
"""Of IoU, by which an attack must beat noise of the same size."""
NAMES = {
    "new": "new textures of the training's families",
    "test": "families not trained on",
    "photographs": "brick, grass, gravel",
}


@dataclass(frozen=True)
class Grid:
    """IoU by what was asked, (condition, split); a value for each seed.

    `trivial` has those of local statistics and of the mask that is everywhere.
    """

    learned: Mapping[tuple[str, str], Cells]
    trivial: Mapping[tuple[str, str], float]
    samples: int


def checkpoint(seed: int) -> str:
    """The specification of the network of a seed."""
    return "texture_seg" if seed == 0 else f"texture_seg:training=plain-seed{seed}"


def run(
    folder: Path, seeds: Sequence[int], splits: Sequence[str], samples: int | None, report: Report
) -> Grid:
    """Ask every network about every split and attack it on one, or take what `folder` holds."""
    learned: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        plans = {
            split: Plan(
                model=checkpoint(seed),
                dataset="texture-collages",
                split=split,
                samples=samples,
                norms=(),
            )
            for split in splits
        }
        plans["attacks"] = Plan(
            model=checkpoint(seed),
            dataset="texture-collages",
            samples=min(ATTACKED, samples or ATTACKED),
            norms=("linf",),
            minimal=False,
            ascent=Ascent(restarts=1),
        )
        for name, plan in plans.items():
            for row in _found(folder / f"seed{seed}-{name}", plan, report).rows():
                condition = " ".join(filter(None, (row.kind, row.surface, row.level)))
                learned.setdefault((condition, name), []).append(row.figure)
    trivial: dict[tuple[str, str], float] = {}
    for split in splits:
        asked = task_set("texture-collages", split)
        part = asked.rows(0, samples or len(asked))
        assert part.contexts is not None
        wanted = part.targets["mask"]
        trivial["statistics", split] = _iou(segment(part.images, part.contexts), wanted)
        trivial["everywhere", split] = _iou(torch.ones_like(wanted), wanted)
    return Grid({key: Cells(tuple(values)) for key, values in learned.items()}, trivial, len(part))


def _found(place: Path, plan: Plan, report: Report) -> Found:
    if (place / FACTS_FILE).is_file():
        return Found.load(place)
    report(place.name)
    found = play_task(plan)
    found.write(place)
    return found


def claims(grid: Grid) -> tuple[Claim, ...]:
    """What the paper says, and what makes it more than words."""
    made = []
    for split, name in NAMES.items():
        clean = grid.learned["clean", split]
        ahead = Cells(tuple(v - grid.trivial["statistics", split] for v in clean.values))
        ends = ahead.interval
        made.append(
            Claim(
                id=f"learned-{split}",
                claim=f"{name}: above local statistics, and those above a mask that is everywhere",
                published="generalises to natural images without fine-tuning (abstract)"
                if split == "photographs"
                else None,
                measured=f"IoU {clean.text(3)}; statistics "
                f"{grid.trivial['statistics', split]:.3f}, everywhere "
                f"{grid.trivial['everywhere', split]:.3f}",
                holds=ahead.mean > 0
                and (ends is None or ends[0] > 0)
                and grid.trivial["statistics", split] > grid.trivial["everywhere", split],
                how=f"{grid.samples} collages, {len(clean.values)} networks; the interval of the "
                "difference over seeds lies above 0",
            )
        )
    chance = grid.learned["chance", "test"]
    made.append(
        Claim(
            id="reference",
            claim="the reference is used: with another sample's, IoU is below the mask everywhere",
            published=None,
            measured=f"IoU {chance.text(3)}",
            holds=chance.mean < grid.trivial["everywhere", "test"],
            how="families not trained on",
        )
    )
    for surface in ("scene", "reference", "both"):
        attack = grid.learned[f"attack {surface} 8/255", "attacks"]
        noise = grid.learned[f"noise {surface} 8/255", "attacks"]
        gap = noise.less(attack)
        ends = gap.interval
        made.append(
            Claim(
                id=f"attack-{surface}",
                claim=f"Linf 8/255 on {surface}: PGD costs {MARGIN} of IoU more than noise",
                published=None,
                measured=f"IoU {attack.text(3)}, under noise {noise.text(3)}",
                holds=gap.mean > MARGIN and (ends is None or ends[0] > 0),
                how=f"10 steps up the balanced loss; {ATTACKED} samples, families not trained on",
            )
        )
    return tuple(made)


def blocks(grid: Grid) -> list[Block]:
    """A table of splits, and one of attacks."""
    conditions = ("clean", "chance")
    rows = [
        (
            NAMES[split],
            (
                *(grid.learned[kind, split].text(3) for kind in conditions),
                f"{grid.trivial['statistics', split]:.3f}",
                f"{grid.trivial['everywhere', split]:.3f}",
            ),
        )
        for split in NAMES
    ]
    attacks = [
        (condition, (cells.text(3),))
        for (condition, name), cells in grid.learned.items()
        if name == "attacks"
    ]
    columns = ("network", "another reference", "local statistics", "everywhere")
    return [
        Heading("What is found"),
        Table("Mean IoU", "textures", columns, tuple(rows)),
        Heading("Under attack, and under noise of the same size"),
        Table(
            f"{ATTACKED} samples of {NAMES['test']}, Linf",
            "condition",
            ("mean IoU",),
            tuple(attacks),
        ),
        Paragraph(
            "In brackets: 95 % intervals over networks. "
            "Greys are equally frequent in every texture, so that neither brightness nor contrast "
            "gives one away."
        ),
    ]


def pictures() -> list[Block]:
    """Scenes, references, answers, attacked scenes and their answers, of the first network."""
    model, _ = load_task(checkpoint(0), {}, "texture-collages")
    made: list[Block] = [Heading("The first collages")]
    for split in ("test", "photographs"):
        part = task_set("texture-collages", split).rows(0, SHOWN)
        changed = attacked(
            model,
            part,
            norm="linf",
            epsilon=torch.full((SHOWN,), EPSILON),
            surface="both",
            ascent=Ascent(restarts=1),
            seed=0,
        )
        assert part.contexts is not None
        assert changed.contexts is not None
        rows = (
            ("scene", part.images),
            ("reference", part.contexts),
            ("wanted", part.targets["mask"]),
            ("found", model.answer(part.images, part.contexts)["mask"]),
            ("attacked scene", changed.images),
            ("attacked reference", changed.contexts),
            ("found then", model.answer(changed.images, changed.contexts)["mask"]),
        )
        made.append(
            Pictures(
                f"{NAMES[split]}; attacked by Linf 8/255 on scene and reference",
                tuple(part.ids),
                tuple((name, tuple(_picture(one) for one in images)) for name, images in rows),
            )
        )
    return made


def _picture(image: Tensor) -> Picture:
    return Picture(data_uri(to_pixels(image.float().permute(1, 2, 0).numpy())), "")


def _iou(found: Tensor, wanted: Tensor) -> float:
    shared, union = (found & wanted).sum((1, 2, 3)), (found | wanted).sum((1, 2, 3))
    return float((shared / union.clamp(min=1)).mean())
