"""What a model's decision does not depend on: facts about metamers, then rates and distances.

A metamer has the logits of its source and the nuisance of its donor, an image of another class
(arXiv 1811.00401, section 2.2). The facts are what model and oracle say of each pair; every figure
is computed from them. The oracle is another model, and stands in for people.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import UserError
from .score import Interval, wilson

if TYPE_CHECKING:
    from torch import Tensor

    from attacks import Model

    from .datasets import Dataset

FACTS_FILE = "invariance.json"
PICTURES_FILE = "metamers.npz"
VERSION = 1

TOLERANCE = 1e-3
"""Logits that differ by no more than this are the same."""

Method = Literal["metameric sampling", "gradient descent"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Of the pairs, with its 95 % interval (Wilson)."""

    value: float
    interval: Interval

    @staticmethod
    def of(holds: NDArray[np.bool_]) -> Share:
        """How many hold."""
        right, n = int(holds.sum()), len(holds)
        return Share(value=right / n, interval=wilson(right, n))


@dataclass(frozen=True, kw_only=True)
class InvarianceScore:
    """Of one model.

    Attributes:
        pairs: how many.
        exact: share of metamers whose logits are the source's, to the tolerance.
        metamers: of those that are exact and that the oracle gives the donor's class: the rate of
            invariance-based adversarials.
        source_named, donor_named: of those that the oracle gives the source's, the donor's class.
        clipped_metamers: of those that, clipped to [0,1] and encoded again, get the source's
            decision from the model and the donor's class from the oracle.
        logit_error, clipped_error: medians of the largest difference of a logit.
        worst_logit_error: the largest of all.
        range_violation: median of how far the farthest pixel is beyond [0,1].
        distance_source, distance_donor: median L2 from the metamer, as it is.
        apart: median L2 between source and donor.
        oracle_accuracy: of the oracle on the sources.
        accuracy: of the model on the sources.
    """

    pairs: int
    exact: Share
    metamers: Share
    source_named: Share
    donor_named: Share
    clipped_metamers: Share
    logit_error: float
    worst_logit_error: float
    clipped_error: float
    range_violation: float
    distance_source: float
    distance_donor: float
    apart: float
    oracle_accuracy: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard invariance --json`."""
        return {
            name: {"value": value.value, "interval": list(value.interval)}
            if isinstance(value, Share)
            else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Invariance:
    """The facts of a model's metamers, N pairs.

    Attributes:
        model, oracle: their specifications.
        method: how the metamers were made.
        dataset, split, seed: where the pairs come from.
        class_names: K.
        source_ids, donor_ids: of the images.
        source_labels, donor_labels: true classes.
        predicted: the model's class of the source.
        same_decision, clipped_same_decision: whether it is the metamer's, as it is and clipped.
        oracle_source, oracle_metamer, oracle_clipped: the oracle's class.
        logit_error, clipped_error: largest difference of a logit from the source's.
        range_violation: how far the farthest pixel is beyond [0,1].
        distance_source, distance_donor, apart: L2.
        sources, donors: pixels uint8 (N,H,W,C).
        metamers: float32 (N,H,W,C), not clipped.
        versions: of what was at work.
    """

    model: str
    oracle: str
    method: Method
    dataset: str
    split: str
    seed: int
    class_names: tuple[str, ...]
    source_ids: tuple[str, ...]
    donor_ids: tuple[str, ...]
    source_labels: Labels
    donor_labels: Labels
    predicted: Labels
    same_decision: NDArray[np.bool_]
    clipped_same_decision: NDArray[np.bool_]
    oracle_source: Labels
    oracle_metamer: Labels
    oracle_clipped: Labels
    logit_error: Floats
    clipped_error: Floats
    range_violation: Floats
    distance_source: Floats
    distance_donor: Floats
    apart: Floats
    sources: NDArray[np.uint8]
    donors: NDArray[np.uint8]
    metamers: Floats
    versions: dict[str, str]

    def score(self) -> InvarianceScore:
        """Rates and medians."""
        exact = self.logit_error <= TOLERANCE
        donor_named = self.oracle_metamer == self.donor_labels
        clipped = self.clipped_same_decision & (self.oracle_clipped == self.donor_labels)
        return InvarianceScore(
            pairs=len(self.source_ids),
            exact=Share.of(exact),
            metamers=Share.of(exact & donor_named),
            source_named=Share.of(self.oracle_metamer == self.source_labels),
            donor_named=Share.of(donor_named),
            clipped_metamers=Share.of(clipped),
            logit_error=_median(self.logit_error),
            worst_logit_error=float(self.logit_error.max()),
            clipped_error=_median(self.clipped_error),
            range_violation=_median(self.range_violation),
            distance_source=_median(self.distance_source),
            distance_donor=_median(self.distance_donor),
            apart=_median(self.apart),
            oracle_accuracy=float((self.oracle_source == self.source_labels).mean()),
            accuracy=float((self.predicted == self.source_labels).mean()),
        )

    def to_json(self) -> dict[str, Any]:
        """As in `tiltyard invariance --json`."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            "seed": self.seed,
            "method": self.method,
            "oracle": self.oracle,
            "tolerance": TOLERANCE,
            "score": self.score().to_json(),
            "versions": self.versions,
        }

    def write(self, folder: Path) -> Path:
        """As invariance.json and metamers.npz in the folder, each whole or not at all."""
        from models.weights import write_whole

        folder.mkdir(parents=True, exist_ok=True)
        pictures = {name: getattr(self, name) for name in PICTURES}
        packed = io.BytesIO()
        np.savez_compressed(packed, **pictures)
        write_whole(folder / PICTURES_FILE, packed.getvalue())
        document = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
            if name not in pictures
        }
        path = folder / FACTS_FILE
        text = json.dumps({"version": VERSION, **document}, ensure_ascii=False) + "\n"
        write_whole(path, text.encode())
        return path

    @staticmethod
    def load(folder: Path) -> Invariance:
        """From a folder that `write` wrote.

        Raises:
            UserError: there is none, or it can't be read.
        """
        path = folder / FACTS_FILE
        if not path.is_file():
            raise UserError(f"there is no {path}; `tiltyard invariance --out {folder}` writes one")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("version") != VERSION:
                raise ValueError("another version")
            with np.load(folder / PICTURES_FILE, allow_pickle=False) as kept:
                pictures = {name: kept[name] for name in PICTURES}
            n = len(document["source_ids"])
            for name, kind in ARRAYS.items():
                document[name] = np.array(document[name], dtype=kind)
                if document[name].shape != (n,):
                    raise ValueError(f"{name} has not one entry for each pair")
            for name in ("class_names", "source_ids", "donor_ids"):
                document[name] = tuple(document[name])
            if any(len(picture) != n for picture in pictures.values()):
                raise ValueError("pictures are missing")
            return Invariance(**document, **pictures)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"can't read {folder} ({error}); wanted what `tiltyard invariance --out` wrote"
            ) from error


PICTURES = ("sources", "donors", "metamers")

ARRAYS: dict[str, type] = {
    **dict.fromkeys(
        ("source_labels", "donor_labels", "predicted", "oracle_source", "oracle_metamer"), np.int64
    ),
    "oracle_clipped": np.int64,
    **dict.fromkeys(("same_decision", "clipped_same_decision"), np.bool_),
    **dict.fromkeys(("logit_error", "clipped_error", "range_violation"), np.float32),
    **dict.fromkeys(("distance_source", "distance_donor", "apart"), np.float32),
}


def measure(
    model: Model,
    oracle: Model,
    data: Dataset,
    *,
    name: str,
    oracle_name: str,
    seed: int = 0,
    steps: int = 500,
    batch_size: int = 100,
    watch: Callable[[str, int, int], None] = lambda line, done, total: None,
) -> Invariance:
    """Make a metamer of each image with the nuisance of another, and ask model and oracle.

    By metameric sampling where the model can be inverted; else by gradient descent from the donor,
    whose error of the logits says how far that came.

    Args:
        model: whose metamers; images float32 (N,C,H,W) in [0,1] -> logits (N,K).
        oracle: independent of it, for the same images.
        data: the images; each is source once and donor once, of another class.
        name, oracle_name: their specifications, for the facts.
        seed: of the pairing.
        steps: of gradient descent.
        batch_size: images at a time.
        watch: told how many searches are done.

    Raises:
        UserError: fewer than two images, images of which more than half are of one class, or
            models whose images don't live in [0,1].
    """
    import torch

    from attacks.distances import distance
    from attacks.metamers import (
        InvertibleModel,
        descended_metamers,
        judge,
        metameric_sampling,
    )

    from .runs import versions

    for asked, label in ((model, name), (oracle, oracle_name)):
        if asked.bounds != (0.0, 1.0):
            low, high = asked.bounds
            raise UserError(f"{label} takes images in [{low:g}, {high:g}]; wanted [0, 1]")
    donors = pairing(data.labels, seed=seed)
    images, rows = data.images, torch.from_numpy(donors)
    others = images[rows]
    exact = isinstance(model, InvertibleModel)
    if isinstance(model, InvertibleModel):
        metamers = metameric_sampling(model, images, rows, batch_size=batch_size)
    else:
        metamers = torch.cat(
            [
                descended_metamers(model, *pair, steps=steps, batch_size=batch_size)
                for pair in _watched(images, others, batch_size, watch)
            ]
        )
    judged = judge(model, images, metamers, batch_size=batch_size)
    named = [
        torch.cat([_decided(oracle, part) for part in kind.split(batch_size)]).numpy()
        for kind in (images, metamers, metamers.clamp(0.0, 1.0))
    ]
    predicted = torch.cat([_decided(model, part) for part in images.split(batch_size)])
    return Invariance(
        model=name,
        oracle=oracle_name,
        method="metameric sampling" if exact else "gradient descent",
        dataset=data.name,
        split=data.split,
        seed=seed,
        class_names=data.class_names,
        source_ids=data.ids,
        donor_ids=tuple(data.ids[k] for k in donors),
        source_labels=data.labels,
        donor_labels=data.labels[donors],
        predicted=predicted.numpy(),
        same_decision=judged.same_decision.numpy(),
        clipped_same_decision=judged.clipped_same_decision.numpy(),
        oracle_source=named[0],
        oracle_metamer=named[1],
        oracle_clipped=named[2],
        logit_error=judged.logit_error.numpy(),
        clipped_error=judged.clipped_error.numpy(),
        range_violation=judged.range_violation.numpy(),
        distance_source=distance("l2", images, metamers).numpy(),
        distance_donor=distance("l2", others, metamers).numpy(),
        apart=distance("l2", images, others).numpy(),
        sources=data.pixels,
        donors=data.pixels[donors],
        metamers=metamers.permute(0, 2, 3, 1).contiguous().numpy(),
        versions=versions(),
    )


def pairing(labels: Labels, *, seed: int = 0) -> Labels:
    """For each image the row of its donor, (N,): a permutation, always of another class.

    Raises:
        UserError: there is none, since more than half of the images are of one class.
    """
    n = len(labels)
    most = int(np.bincount(labels).max()) if n else 0
    if 2 * most > n or n < 2:
        raise UserError(
            f"of {n} images {most} are of one class; wanted at least 2, and no class with more "
            "than half of them, so that each has a donor of another class"
        )
    generator = np.random.default_rng(seed)
    # In an order by class, half a turn or more of the largest class away is another class.
    order = np.lexsort((generator.permutation(n), labels))
    donors = np.empty(n, dtype=np.int64)
    donors[order] = np.roll(order, -int(generator.integers(most, n - most + 1)))
    # Swapping two donors keeps a permutation; do so wherever both stay of another class.
    for row in generator.permutation(n):
        other = int(generator.integers(n))
        if labels[donors[other]] != labels[row] and labels[donors[row]] != labels[other]:
            donors[row], donors[other] = donors[other], donors[row]
    return donors


def _watched(
    images: Tensor, others: Tensor, size: int, watch: Callable[[str, int, int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of both; `watch` is told how many images are done."""
    for start in range(0, len(images), size):
        watch("metamers", start, len(images))
        yield images[start : start + size], others[start : start + size]
    watch("", len(images), len(images))


def _decided(model: Model, images: Tensor) -> Tensor:
    import torch

    with torch.no_grad():
        return model(images).argmax(1)


def _median(values: Floats) -> float:
    return float(np.median(values))
