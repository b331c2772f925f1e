"""Which attacks the reproduction of 1805.09190 plays against which models.

Every search on ABS runs against its fast inference, which asks 5 to 50 times less of a processor;
what it finds gives a direction along which the real model, refining every class, is asked. So every
adversarial that counts was judged by full inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attacks.types import Norm

NORMS: tuple[Norm, ...] = ("l2", "linf", "l0")

THRESHOLD = {"l2": 1.5, "linf": 0.3, "l0": 12.0}
"""At which the paper quotes accuracy."""

DRAFT = "transfer_cnn"
"""The substitute of the transfer rows."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A model of the table.

    Attributes:
        name: as in the paper.
        model: its specification.
        search: what searches run against when that is another one.
        binary: it binarises its input.
        generative: it can show what it takes an image for.
        published: norm -> (median distance, accuracy at the threshold in %), the "All" rows of the
            paper's table 1 as remembered, not verified.
        published_clean: accuracy in %, likewise.
    """

    name: str
    model: str
    search: str | None = None
    binary: bool = False
    generative: bool = False
    published: dict[str, tuple[float, int]]
    published_clean: float


COLUMNS: tuple[Column, ...] = (
    Column(
        name="CNN",
        model="vanilla_cnn",
        published={"l2": (1.1, 8), "linf": (0.08, 0), "l0": (9, 19)},
        published_clean=99.1,
    ),
    Column(
        name="Binary CNN",
        model="binary_cnn",
        binary=True,
        published={"l2": (0.9, 3), "linf": (0.34, 64), "l0": (11, 38)},
        published_clean=98.5,
    ),
    Column(
        name="Nearest neighbour",
        model="nearest_neighbour",
        generative=True,
        published={"l2": (1.5, 53), "linf": (0.19, 22), "l0": (10, 34)},
        published_clean=96.9,
    ),
    Column(
        name="Madry et al.",
        model="madry_cnn",
        published={"l2": (1.4, 35), "linf": (0.34, 88), "l0": (4, 0)},
        published_clean=98.8,
    ),
    Column(
        name="Binary ABS",
        model="abs:binary=true",
        search="abs:binary=true,inference=fast",
        binary=True,
        generative=True,
        published={"l2": (1.3, 39), "linf": (0.44, 77), "l0": (36, 82)},
        published_clean=99.0,
    ),
    Column(
        name="ABS",
        model="abs",
        search="abs:inference=fast",
        generative=True,
        published={"l2": (2.3, 80), "linf": (0.23, 8), "l0": (22, 78)},
        published_clean=99.0,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """An attack of the table.

    Attributes:
        name: as printed.
        norm: that it makes small.
        attack: its specification.
        where: "draft" searches on the substitute; "line" searches on the model itself and then
            along the direction found; "model" plays directly where the model is fast enough;
            "generative" hands the model over as the attack's generator.
    """

    name: str
    norm: Norm
    attack: str
    where: Literal["draft", "line", "model", "generative"] = "model"


ROWS: tuple[Row, ...] = (
    Row(name="Transfer, DeepFool", norm="l2", attack="foolbox:L2DeepFoolAttack", where="draft"),
    Row(name="Transfer, BIM", norm="l2", attack="foolbox:L2BasicIterativeAttack", where="draft"),
    Row(name="Gaussian noise", norm="l2", attack="gaussian_noise"),
    Row(name="Boundary", norm="l2", attack="boundary:steps=500"),
    Row(name="Pointwise", norm="l2", attack="pointwise:norm=l2"),
    Row(name="HopSkipJump", norm="l2", attack="hop_skip_jump:steps=8"),
    Row(name="FGM", norm="l2", attack="foolbox:FGM", where="line"),
    Row(name="DeepFool", norm="l2", attack="foolbox:L2DeepFoolAttack"),
    Row(name="APGD", norm="l2", attack="apgd:norm=l2,steps=20"),
    Row(name="Latent descent", norm="l2", attack="latent_descent", where="generative"),
    Row(
        name="Transfer, BIM", norm="linf", attack="foolbox:LinfBasicIterativeAttack", where="draft"
    ),
    Row(name="FGSM", norm="linf", attack="foolbox:FGSM", where="line"),
    Row(name="DeepFool", norm="linf", attack="foolbox:LinfDeepFoolAttack"),
    Row(name="APGD", norm="linf", attack="apgd:norm=linf,steps=20"),
    Row(name="MIM", norm="linf", attack="foolbox:MIFGSM", where="line"),
    Row(name="HopSkipJump", norm="linf", attack="hop_skip_jump:norm=linf,steps=8"),
    Row(name="Salt and pepper", norm="l0", attack="salt_and_pepper"),
    Row(name="Pointwise x3", norm="l0", attack="pointwise:norm=l0,restarts=3"),
)


def specification(row: Row, column: Column) -> str | None:
    """What to play for a cell, as `bench.plugins` reads it; None where it can't be played."""
    own = f"({column.search or column.model})"
    if row.where == "generative":
        if not column.generative:
            return None
        spec = f"{row.attack}:generator={own}"
    elif row.where == "draft":
        spec = f"transfer:attack=({row.attack}),surrogates={DRAFT}"
    elif row.where == "line" or column.search is not None:
        spec = f"transfer:attack=({row.attack}),surrogates={own}"
    else:
        spec = row.attack
    # What crossed 0.5 is all that a binarising model sees: the rest of a change is taken back.
    return f"binary_projection:attack=({spec})" if column.binary else spec
