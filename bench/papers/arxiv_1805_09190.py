"""Analysis by synthesis: "Towards the first adversarially robust neural network model on MNIST".

Table 1 (six models, every attack, three norms), the accuracy-distortion curves, the certificate,
distal adversarials, and the smallest adversarials in pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _abs_claims as claims
from . import _abs_page as page
from ._abs_suite import COLUMNS
from ._abs_table import play_table
from .types import Report, Reproduction, Scale

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ._abs_distal import Distal

DATASETS: dict[Scale, str] = {"laptop": "mnist5k", "full": "mnist"}
IMAGES: dict[Scale, int] = {"laptop": 20, "full": 1000}

CLEAN_BATCH = 200

DISTAL = ("CNN", "Nearest neighbour", "Madry et al.", "ABS")
"""The models of the paper's distal figure."""


@dataclass(frozen=True, kw_only=True)
class AnalysisBySynthesisPaper:
    """See the module; `create` makes one.

    Attributes:
        images: attacked ones, or None for the scale's own number.
        clean: test images for the clean accuracy, or None for all.
        seed: of the attacks.
    """

    images: int | None = None
    clean: int | None = None
    seed: int = 0

    @property
    def arxiv(self) -> str:
        return "1805.09190"

    @property
    def title(self) -> str:
        return "Towards the first adversarially robust neural network model on MNIST"

    def reproduce(
        self, folder: Path, *, scale: Scale, processes: int, report: Report
    ) -> Reproduction:
        """See `bench.papers.types.Paper.reproduce`."""
        from ..training.classifier import one_thread

        with one_thread():  # the networks are small: a second thread would only wait
            return self._reproduce(folder, scale, processes, report)

    def _reproduce(
        self, folder: Path, scale: Scale, processes: int, report: Report
    ) -> Reproduction:
        from .. import plugins
        from ..datasets import dataset

        started = time.monotonic()
        name = DATASETS[scale]
        data = dataset(name, split="test")
        attacked = data.take(self.images or IMAGES[scale])
        tested = data if self.clean is None else data.take(self.clean)
        models: dict[str, Any] = {
            c.name: plugins.load_model(c.model, dataset=name) for c in COLUMNS
        }
        report(f"clean accuracy on {len(tested)} images")
        clean = {c.name: _clean_accuracy(models[c.name], tested) for c in COLUMNS}
        table = play_table(folder, attacked, self.seed, processes, report)
        report("certificates")
        bounds = models["ABS"].certificates(attacked.images, attacked.targets).double().numpy()
        report("distal adversarials")
        distals, recognised = _distals(models, data)
        found = (
            *claims.clean_claims(clean, len(tested)),
            *claims.l2_claims(table),
            *claims.linf_claims(table),
            *claims.l0_claims(table),
            *claims.certificate_claims(table, bounds),
            claims.distal_claim(recognised),
        )
        blocks = [
            *page.table_blocks(table, clean, len(attacked), len(tested)),
            *page.curve_blocks(table),
            *page.certificate_blocks(bounds, table),
            *page.distal_blocks(distals, recognised, data.class_names),
            *page.perceptual_blocks(table, attacked),
        ]
        return Reproduction(
            paper=self.arxiv,
            title=self.title,
            scale=scale,
            claims=found,
            blocks=tuple(blocks),
            seconds=time.monotonic() - started,
        )


def _clean_accuracy(model: Any, data: Dataset) -> float:
    import torch

    with torch.no_grad():
        right = sum(
            int((model(images).argmax(1) == targets).sum())
            for _, images, targets in data.batches(CLEAN_BATCH)
        )
    return right / len(data)


def _distals(models: dict[str, Any], data: Dataset) -> tuple[dict[str, Distal], dict[str, float]]:
    import torch

    from ._abs_distal import CONFIDENCE, Sure, distal, recognised

    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(len(data.class_names), *data.images.shape[1:], generator=generator)
    calibration = data.take(CLEAN_BATCH).images
    made = {name: distal(Sure.on(models[name], calibration), noise) for name in DISTAL}
    shares = {}
    for name, found in made.items():
        judges: list[Callable[..., Any]] = [models[other] for other in models if other != name]
        seen = recognised(found.images, judges) & (found.confidence >= CONFIDENCE - 1e-6)
        shares[name] = float(seen.double().mean())
    return made, shares


def create(
    *, images: int | None = None, clean: int | None = None, seed: int = 0
) -> AnalysisBySynthesisPaper:
    """The reproduction.

    `images` are attacked (20 at laptop scale), `clean` tested (all), attacks seeded by `seed`.
    """
    return AnalysisBySynthesisPaper(images=images, clean=clean, seed=seed)
