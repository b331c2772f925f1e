"""1811.00401 on MNIST: metamers of networks with and without the other terms of the loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..invariance import TOLERANCE, Invariance, measure
from ..reports.blocks import Block, Heading, Paragraph, Pictures
from ..reports.components import Picture
from ..reports.images import data_uri, to_pixels
from ..reports.invariance import gallery, share, table
from ..score import wilson
from ._seeds import Cells
from .types import Claim, Report

TRAININGS = ("ce", "ce-mle", "ice-mle")
ORACLE = "small_cnn"
SEARCHED, SEARCHED_PAIRS = "vanilla_cnn", 50
"""A network that can't be inverted, and of how many pairs metamers are searched for."""
EXACT, NAMED = 0.95, 0.9
POINT = 0.01
DRAWN = 12
RESNET_WIDTH, RESNET_EPOCHS = 64, 12
"""About as many numbers as the invertible network has."""


@dataclass(frozen=True)
class Metamers:
    """What was found: facts by training, and of the network that can't be inverted."""

    dataset: str
    facts: dict[str, Invariance]
    searched: Invariance
    drawn: Pictures


def run(folder: Path, dataset_name: str, pairs: int, report: Report) -> Metamers:
    """Metamers of the shipped networks; facts are kept in `folder`."""
    from .. import plugins
    from ..datasets import dataset

    data = dataset(dataset_name, split="test").take(pairs)
    oracle = plugins.load_model(ORACLE, dataset=dataset_name)

    def facts(spec: str, n: int) -> Invariance:
        report(f"metamers of {spec}")
        found = measure(
            plugins.load_model(spec, dataset=dataset_name),
            oracle,
            data.take(n),
            name=spec,
            oracle_name=ORACLE,
        )
        found.write(folder / "metamers" / spec.replace(":", "-").replace("=", "-"))
        return found

    return Metamers(
        dataset=dataset_name,
        facts={kind: facts(f"irevnet:training={kind}", pairs) for kind in TRAININGS},
        searched=facts(SEARCHED, min(pairs, SEARCHED_PAIRS)),
        drawn=_drawn(dataset_name),
    )


def _drawn(dataset_name: str) -> Pictures:
    """Metamers whose nuisance is drawn from the prior."""
    from attacks.metamers import metameric_sampling
    from models import irevnet

    from ..datasets import dataset

    data = dataset(dataset_name, split="test").take(DRAWN)
    rows = [
        (
            "source of the logits",
            tuple(
                Picture(data_uri(p), data.class_names[t])
                for p, t in zip(data.pixels, data.labels, strict=True)
            ),
        )
    ]
    for kind in TRAININGS[1:]:
        model = irevnet.create(dataset=dataset_name, training=kind)  # type: ignore[arg-type]
        made = metameric_sampling(model, data.images, None).permute(0, 2, 3, 1).numpy()
        rows.append(
            (f"irevnet, {kind}", tuple(Picture(data_uri(to_pixels(m)), "drawn") for m in made))
        )
    return Pictures(
        "Metamers with a nuisance drawn from the prior",
        tuple(f"image {k + 1}" for k in range(DRAWN)),
        tuple(rows),
    )


def clean_resnets(
    folder: Path,
    dataset_name: str,
    seeds: Sequence[int],
    report: Report,
    *,
    images: int | None = None,
) -> Cells:
    """Clean accuracy of residual networks of the same size, trained here; kept in `folder`.

    `images` is another number of training images than all.
    """
    from models.distortion_resnet import build_small
    from models.weights import write_whole
    from models.wrappers import seeded

    from ..datasets import dataset
    from ..training import classifier
    from ..training.recipes import ClassifierRecipe

    size = "" if images is None else f"-{images}"
    path = folder / f"resnets-{dataset_name}{size}.json"
    kept: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    for seed in seeds:
        if str(seed) in kept:
            continue
        report(f"a residual network of the same size, seed {seed}")
        train = dataset(dataset_name, "train")
        network = seeded(seed, lambda: build_small(RESNET_WIDTH))
        recipe = ClassifierRecipe(training="plain", epochs=RESNET_EPOCHS)
        with classifier.one_thread():
            classifier.fit(
                network,
                train if images is None else train.take(images),
                recipe,
                seed=seed,
                report=lambda line: None,
            )
            network.requires_grad_(False)
            test = dataset(dataset_name, "test")
            right = sum(
                int((network(images).argmax(1) == targets).sum())
                for _, images, targets in test.batches(500)
            )
        kept[str(seed)] = right / len(test)
        write_whole(path, (json.dumps(kept, indent=1) + "\n").encode())
    return Cells(tuple(kept[str(seed)] for seed in seeds))


def claims(found: Metamers, resnets: Cells) -> list[Claim]:
    """Those of sections 2 and 4.1, and that of table 1 at our size."""
    from models.weights import card, find

    plain = found.facts["ce"].score()
    best = found.facts["ice-mle"].score()
    pairs = f"{plain.pairs} pairs of different classes of {found.dataset}"
    facts = card(find("irevnet", found.dataset, "ce"))
    accuracy, n = float(str(facts["clean_accuracy"])), int(str(facts["test_images"]))
    low, high = wilson(round(accuracy * n), n)
    return [
        Claim(
            id="metamers",
            claim="With cross-entropy alone nearly every pair of images has a metamer with exactly "
            "the logits of the one and the looks of the other",
            published="figures 1 and 5; no number",
            measured=f"logits equal for {share(plain.exact)}, the donor's class for "
            f"{share(plain.donor_named)}",
            holds=plain.exact.value >= EXACT and plain.donor_named.value >= NAMED,
            how=f"{pairs}; equal to {TOLERANCE:g} in float32, largest error "
            f"{plain.worst_logit_error:.1g}; {ORACLE}, which stands in for people, names the class "
            f"of the metamer as it is; the median metamer goes {plain.range_violation:.2g} beyond "
            f"[0, 1]; clipped, {share(plain.clipped_metamers)} keep decision and look; holds from "
            f"{EXACT:.0%} and {NAMED:.0%}",
        ),
        Claim(
            id="ice-metamers",
            claim="After independence cross-entropy with likelihood, metamers follow the logits' "
            "source more often, and the donor less",
            published="a figure; no number",
            measured=f"source's class {share(best.source_named)}, donor's {share(best.donor_named)}"
            f"; with cross-entropy alone {share(plain.source_named)} and "
            f"{share(plain.donor_named)}",
            holds=best.source_named.interval[0] > plain.source_named.interval[1]
            and best.donor_named.interval[1] < plain.donor_named.interval[0],
            how=f"{pairs}; {ORACLE}; holds if both intervals are apart",
        ),
        Claim(
            id="clean-accuracy",
            claim="Accuracy is not the price of being invertible",
            published="ILSVRC-2012 top-1 error 29.50 % against 30.43 % of a ResNet-18 (table 1)",
            measured=f"error {100 * (1 - accuracy):.1f} % [{100 * (1 - high):.1f}, "
            f"{100 * (1 - low):.1f}]; ResNet {100 * (1 - resnets.mean):.1f} %",
            holds=1 - accuracy <= 1 - resnets.mean + POINT,
            how=f"{n} test images of {found.dataset}; residual networks of the same size, "
            f"{len(resnets.values)} seeds; holds if no more than a point worse",
        ),
    ]


def blocks(found: Metamers) -> list[Block]:
    """The board, the grid, and what descent finds where a network can't be inverted."""
    exact = list(found.facts.values())
    searched = found.searched.score()
    return [
        Heading("Metamers"),
        *table(exact),
        *gallery(exact),
        found.drawn,
        Paragraph(
            f"{SEARCHED} can't be inverted. Gradient descent from the donors, for "
            f"{searched.pairs} pairs, leaves a median logit error of {searched.logit_error:.2g}; "
            f"{share(searched.exact)} come within {TOLERANCE:g}, and {share(searched.metamers)} "
            "do so while the oracle still sees the donor's class."
        ),
        *gallery([found.searched])[2:],
    ]
