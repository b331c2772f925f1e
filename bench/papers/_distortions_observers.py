"""1808.08750, part (a): human accuracy tables and the train-by-test matrix, from raw trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from .. import observers as o
from ..observers import published as p
from ..reports.blocks import Block, Heading, Paragraph, Table
from ..reports.components import percent
from ..reports.levels import Line, accuracy_block, entropy_block
from .types import Claim, Report

CLOSE = 0.1
"""Points of accuracy: what a table that is printed to 0.1 may differ by."""

CHANCE = 1 / 16

EXPERIMENTS = {
    "colour": ("Colour", "condition"),
    "contrast": ("Contrast (JPEG)", "contrast in %"),
    "contrast-png": ("Contrast (PNG)", "contrast in %"),
    "noise": ("Uniform noise", "noise width"),
    "lowpass": ("Low-pass", "filter standard deviation in pixels"),
    "highpass": ("High-pass", "filter standard deviation in pixels"),
    "phase-scrambling": ("Phase noise", "width in degrees"),
    "power-equalisation": ("Power equalisation", "condition"),
    "false-colour": ("Opponent colour", "condition"),
    "rotation": ("Rotation", "angle in degrees"),
}
"""Title and unit of the levels."""

LABELS = {
    ("colour", "cr"): "colour",
    ("colour", "bw"): "greyscale",
    ("power-equalisation", "0"): "original",
    ("power-equalisation", "pow"): "equalised",
    ("false-colour", "true"): "true",
    ("false-colour", "false"): "opponent",
}
"""How conditions are shown that are not numbers."""

EIDOLONS = {"Eidolon I": "10", "Eidolon II": "3", "Eidolon III": "0"}
NETWORKS = {"googlenet": "GoogLeNet", "vgg19": "VGG-19", "resnet152": "ResNet-152"}
PATTERNS = {"noise": "0.2", "lowpass": "7", "rotation": "90"}
"""Conditions whose error patterns are compared."""


def analyse(folder: Path | None, report: Report) -> tuple[list[Claim], list[Block]]:
    """Claims and page of the observers' part.

    Args:
        folder: where the trials lie, or None for the usual places.
        report: told what is being done.

    Raises:
        UserError: trials are missing; says how to get them.
    """
    report("human and network trials")
    humans, networks = o.load("humans", folder), o.load("networks", folder)
    report("trials of the networks trained on distortions")
    matrix = _matrix(humans, o.load("trained-networks", folder))
    report("consistency of human observers")
    agreements = {
        name: o.agreement(both.where(experiment=name), kept)
        for both in (o.load("model-vs-human", folder),)
        for name, kept in p.KEPT.items()
    }
    claims = [
        _counts(humans),
        _noise(humans),
        _human_tables(humans),
        _networks_max(networks),
        _matrix_claim(matrix),
        _transfer(matrix, "salt-and-pepper 0.2", "A9", 6.2, "uniform noise", "salt-and-pepper"),
        _transfer(matrix, "uniform noise 0.35", "A8", 10.2, "salt-and-pepper", "uniform noise"),
        _entropy_claim(humans),
        _collapse(humans, networks),
        _agreement_claim(agreements),
    ]
    return claims, [
        *_curves(humans, networks),
        *_matrix_blocks(matrix),
        *_pattern_blocks(humans, networks),
        *_agreement_blocks(agreements),
    ]


def _counts(humans: o.Trials) -> Claim:
    found = {
        name: (len(part), len(part.observer.names))
        for name in humans.experiment.names
        for part in (humans.where(experiment=name),)
    }
    missing = 1 - float(humans.answered.mean())
    return Claim(
        id="trials",
        claim="82,880 psychophysical trials in eleven experiments",
        published="82,880 trials (section 2.2)",
        measured=f"{len(humans):,} trials, {percent(missing)} without an answer",
        holds=found == p.TRIALS and len(humans) == 82_880,
        how="rows of the authors' raw data, verified by fingerprint; by experiment and observer",
    )


def _noise(humans: o.Trials) -> Claim:
    found = [a.mean for a in _ordered(humans.where(experiment="noise"), p.HUMANS["noise"])]
    away = max(abs(a - b) for a, b in zip(found, p.NOISE, strict=True))
    return Claim(
        id="human-noise",
        claim="Human accuracy under uniform noise",
        published=", ".join(f"{value:.3f}" for value in p.NOISE),
        measured=", ".join(f"{value:.3f}" for value in found),
        holds=away <= 0.0005 + 1e-9,
        how="all trials of a level; no answer counts as wrong",
    )


def _human_tables(humans: o.Trials) -> Claim:
    cells = [
        (100 * a.mean, wanted)
        for name, levels in p.HUMANS.items()
        for a, wanted in zip(
            _ordered(humans.where(experiment=name), levels), levels.values(), strict=True
        )
    ]
    away = max(abs(a - b) for a, b in cells)
    return Claim(
        id="human-tables",
        claim="Human accuracy in all experiments and conditions",
        published=f"{len(cells)} cells, from the authors' raw data (to 0.1 point)",
        measured=f"{len(cells)} cells, largest difference {away:.2f} points",
        holds=away <= CLOSE,
        how="all trials of a condition; no answer counts as wrong",
    )


def _networks_max(networks: o.Trials) -> Claim:
    found = {
        key: 100 * float(networks.where(experiment=key[0], observer=key[1]).correct.mean())
        for key in p.NETWORKS_MAX
    }
    eidolon = o.accuracies(networks.where(experiment="eidolon", observer="resnet152"))
    apart = max(100 * abs(eidolon[c].mean - wanted) for c, wanted in p.RESNET_EIDOLON_MAX.items())
    away = max(apart, *(abs(found[key] - wanted) for key, wanted in p.NETWORKS_MAX.items()))
    return Claim(
        id="network-tables",
        claim="Accuracy of the pretrained networks by the rule of the most probable class",
        published="; ".join(f"{NETWORKS[n]}, {e}: {v} %" for (e, n), v in p.NETWORKS_MAX.items())
        + f"; ResNet-152, Eidolon: {len(p.RESNET_EIDOLON_MAX)} cells",
        measured="; ".join(f"{NETWORKS[n]}, {e}: {v:.1f} %" for (e, n), v in found.items())
        + f"; largest difference in the cells {apart:.2f} points",
        holds=away <= CLOSE,
        how="rule: max; the column that these trials hold. The paper's own figures use sums of "
        "probabilities, which are not among them: there GoogLeNet has 38.7 % under noise",
    )


Matrix = dict[str, list[float | None]]


def _matrix(humans: o.Trials, trained: o.Trials) -> Matrix:
    """Accuracy in %, the columns of `published.MATRIX`."""
    found: Matrix = {}
    for row, (experiment, condition, human) in p.TESTS.items():
        seen: float | None = None
        if human is not None:
            part = humans.where(experiment=human, condition=condition)
            seen = 100 * float(part.correct.mean())
        part = trained.where(experiment=experiment, condition=condition)
        own = (part.where(observer=name) for name in p.NETWORK_FILES.values())
        found[row] = [seen, *(100 * float(network.correct.mean()) for network in own)]
    return found


def _matrix_claim(matrix: Matrix) -> Claim:
    away = [
        abs(got - wanted)
        for row, cells in matrix.items()
        for got, wanted in zip(cells, p.MATRIX[row], strict=True)
        if got is not None and wanted is not None
    ]
    return Claim(
        id="train-by-test",
        claim="Each network is good at what it was trained on and no better elsewhere (figure 4)",
        published=f"{len(away)} cells (to 0.1 point)",
        measured=f"{len(away)} cells, largest difference {max(away):.2f} points",
        holds=max(away) <= CLOSE,
        how="networks with 16 outputs, so that no rule is needed; one condition an experiment",
    )


def _transfer(
    matrix: Matrix, row: str, network: str, published: float, trained: str, tested: str
) -> Claim:
    found = matrix[row][1 + list(p.NETWORK_FILES).index(network)]
    assert found is not None
    return Claim(
        id=f"{trained}-to-{tested}".replace(" ", "-"),
        claim=f"Training on {trained} does not help against {tested}",
        published=f"{published} % (figure 4), chance 6.2 %",
        measured=f"{found:.1f} %",
        holds=abs(found - published) <= CLOSE,
        how=f"network {network} at {row}; the network that was trained on it reaches about 80 %",
    )


def _entropy_claim(humans: o.Trials) -> Claim:
    found = {
        (e, c): o.entropies(humans.where(experiment=e, condition=c))[c] for e, c in p.HUMAN_ENTROPY
    }
    away = max(abs(found[key] - wanted) for key, wanted in p.HUMAN_ENTROPY.items())
    return Claim(
        id="human-entropy",
        claim="Human answers stay spread over the categories under every distortion",
        published=", ".join(f"{v:.2f}" for v in p.HUMAN_ENTROPY.values()) + " bits",
        measured=", ".join(f"{v:.2f}" for v in found.values()) + " bits",
        holds=away <= 0.0051,
        how="entropy of each observer's answers, averaged; at "
        + ", ".join(f"{e} {c}" for e, c in found)
        + "; 4 bits are possible",
    )


def _collapse(humans: o.Trials, networks: o.Trials) -> Claim:
    level = "0.35"
    human = o.entropies(humans.where(experiment="noise", condition=level))[level]
    theirs = {
        name: o.entropies(networks.where(experiment="noise", condition=level, observer=name))[level]
        for name in NETWORKS
    }
    return Claim(
        id="collapse",
        claim="Under noise, networks give few answers where humans use all of them",
        published="figure 3; with sums: 3.81 bits against 0.02, 0.06 and 1.68",
        measured=f"{human:.2f} bits against "
        + ", ".join(f"{NETWORKS[n]} {v:.2f}" for n, v in theirs.items()),
        holds=all(value < human - 1 for value in theirs.values()),
        how=f"uniform noise {level}; rule: max; holds if each is more than 1 bit lower",
    )


def _agreement_claim(found: dict[str, o.Agreement]) -> Claim:
    away = max(
        abs(got - wanted) / unit
        for name, cells in p.AGREEMENT.items()
        for got, wanted, unit in zip(
            _figures(found[name]), cells, (0.001, 0.0001, 0.001, 0.001), strict=True
        )
    )
    kappa = fmean(a.kappa for a in found.values())
    return Claim(
        id="consistency",
        claim="Human observers err on the same images (model-vs-human)",
        published="17 data sets, mean kappa 0.431 (2106.07411, from its raw data)",
        measured=f"mean kappa {kappa:.3f}; largest difference {away:.2f} of the last digit",
        holds=away <= 0.51 and abs(kappa - 0.431) <= 0.0005 + 1e-9,
        how="pairs of observers on the same images, averaged over pairs and kept conditions",
    )


def _figures(found: o.Agreement) -> tuple[float, float, float, float]:
    return found.accuracy, found.difference, found.observed, found.kappa


def _ordered(trials: o.Trials, levels: Sequence[str] | dict[str, float]) -> list[o.Accuracy]:
    found = o.accuracies(trials)
    return [found[level] for level in levels]


def _curves(humans: o.Trials, networks: o.Trials) -> list[Block]:
    blocks: list[Block] = [
        Heading("Humans and networks"),
        Paragraph(
            "Photographs in 16 categories, seen by human observers for 200 ms. The band is the "
            "range over observers; networks saw other images of the same kind, and answer by the "
            "most probable of the 207 classes that belong to a category. Human data and network "
            "answers: Geirhos, Temme, Rauber, Schütt, Bethge, Wichmann 2018, CC BY 4.0."
        ),
    ]
    for name, levels in p.HUMANS.items():
        human, network = humans.where(experiment=name), networks.where(experiment=name)
        if name != "eidolon":
            title, unit = EXPERIMENTS[name]
            shown = [LABELS.get((name, level), _percent(level)) for level in levels]
            blocks.append(_curve(title, human, network, list(levels), shown, unit))
            continue
        for title, coherence in EIDOLONS.items():
            own = [level for level in levels if level.split("-")[1] == coherence]
            reach = [f"{math.log2(int(level.split('-')[0])):g}" for level in own]
            blocks.append(_curve(title, human, network, own, reach, "log2 of reach in pixels"))
    human, network = (part.where(experiment="noise") for part in (humans, networks))
    widths = list(p.HUMANS["noise"])
    entropy = {"humans": o.entropies(human)} | {
        shown: o.entropies(network.where(observer=code)) for code, shown in NETWORKS.items()
    }
    blocks.append(
        entropy_block(
            "Which answers under noise",
            [
                Line(name, tuple(found[level] for level in widths))
                for name, found in entropy.items()
            ],
            widths,
            "noise width",
            most=4.0,
            caption="Entropy of the distribution of answers; the right ones are spread evenly.",
        )
    )
    return blocks


def _percent(level: str) -> str:
    """A contrast as a number: "c05" -> "5"; others as they are."""
    return level[1:].lstrip("0") if level.startswith("c") else level


def _curve(
    title: str,
    humans: o.Trials,
    networks: o.Trials,
    levels: list[str],
    labels: list[str],
    unit: str,
) -> Block:
    human = _ordered(humans, levels)
    lines = [
        Line(
            "humans",
            tuple(a.mean for a in human),
            tuple(a.low for a in human),
            tuple(a.high for a in human),
        )
    ]
    for code, shown in NETWORKS.items():
        found = _ordered(networks.where(observer=code), levels)
        lines.append(Line(shown, tuple(a.mean for a in found)))
    observers = len(humans.observer.names)
    return accuracy_block(
        title,
        lines,
        labels,
        unit,
        chance=CHANCE,
        caption=f"{observers} human observers, {sum(a.trials for a in human):,} trials.",
    )


def _matrix_blocks(matrix: Matrix) -> list[Block]:
    return [
        Heading("Trained on one distortion, tested on another"),
        Paragraph(
            "The authors' ResNet-50s: A trained on one distortion (1 colour, 2 greyscale, "
            "3 contrast, 4 low-pass, 5 high-pass, 6 phase noise, 7 rotation, 8 salt-and-pepper, "
            "9 uniform noise), B on it and uniform noise, C1 on all but uniform noise, C2 on "
            "all but salt-and-pepper."
        ),
        Table(
            "Accuracy in %, recomputed from raw trials",
            "tested on",
            ("humans", *p.NETWORK_FILES),
            tuple(
                (row, tuple("–" if cell is None else f"{cell:.1f}" for cell in cells))
                for row, cells in matrix.items()
            ),
        ),
    ]


def _pattern_blocks(humans: o.Trials, networks: o.Trials) -> list[Block]:
    columns = ("humans-humans", "humans-networks", "networks-networks")
    rows = []
    for name, level in PATTERNS.items():
        found = o.pattern_distances(
            humans.where(experiment=name), networks.where(experiment=name), level
        )
        rows.append((f"{name} {level}", tuple(f"{found[column]:.4f}" for column in columns)))
    blocks: list[Block] = [
        Heading("Which errors"),
        Table("Mean distance of error patterns over pairs", "condition", columns, tuple(rows)),
    ]
    for who, trials in (
        ("humans", humans),
        ("ResNet-152", networks.where(observer="resnet152")),
    ):
        counts = o.confusion(trials.where(experiment="noise", condition="0.2"))
        shares = 100 * counts / counts.sum(axis=1, keepdims=True)
        blocks.append(
            Table(
                f"Uniform noise 0.2, {who}: answers in % of each category",
                "category",
                (*o.CATEGORIES, "none"),
                tuple(
                    (name, tuple(f"{share:.0f}" for share in row))
                    for name, row in zip(o.CATEGORIES, shares, strict=True)
                ),
            )
        )
    return blocks


def _agreement_blocks(found: dict[str, o.Agreement]) -> list[Block]:
    return [
        Heading("Do observers err on the same images?"),
        Table(
            "Human observers among themselves on the 17 data sets of model-vs-human (2106.07411)",
            "data set",
            ("accuracy", "accuracy difference", "observed consistency", "kappa"),
            tuple(
                (
                    name,
                    (
                        f"{a.accuracy:.3f}",
                        f"{a.difference:.4f}",
                        f"{a.observed:.3f}",
                        f"{a.kappa:.3f}",
                    ),
                )
                for name, a in found.items()
            ),
        ),
    ]
