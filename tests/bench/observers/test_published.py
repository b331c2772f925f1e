"""The published tables, recomputed from the raw trials."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from bench import observers as o
from bench.observers import published as p


def test_every_human_trial_is_accounted_for(humans: o.Trials) -> None:
    assert len(humans) == 82_880
    found = {
        name: (len(part), len(part.observer.names))
        for name in humans.experiment.names
        for part in (humans.where(experiment=name),)
    }
    assert found == p.TRIALS
    assert sum(n for n, _ in p.TRIALS.values()) == 82_880
    assert round(100 * (1 - humans.answered.mean()), 2) == 1.83


def test_human_accuracy_under_uniform_noise(humans: o.Trials) -> None:
    found = o.accuracies(humans.where(experiment="noise"))
    shown = [round(found[level].mean + 1e-9, 3) for level in p.HUMANS["noise"]]
    assert shown == [0.805, 0.796, 0.781, 0.751, 0.609, 0.456, 0.168, 0.060]
    assert found["0.35"].low < found["0.35"].mean < found["0.35"].high
    assert found["0.35"].trials == 800


@pytest.mark.parametrize("experiment", p.HUMANS)
def test_human_accuracy_in_every_condition(humans: o.Trials, experiment: str) -> None:
    found = o.accuracies(humans.where(experiment=experiment))
    assert set(found) == set(p.HUMANS[experiment])
    for level, wanted in p.HUMANS[experiment].items():
        assert 100 * found[level].mean == pytest.approx(wanted, abs=0.0501)


@pytest.mark.parametrize(("experiment", "condition"), p.HUMAN_ENTROPY)
def test_entropy_of_human_answers(humans: o.Trials, experiment: str, condition: str) -> None:
    part = humans.where(experiment=experiment, condition=condition)
    wanted = p.HUMAN_ENTROPY[experiment, condition]
    assert o.entropies(part)[condition] == pytest.approx(wanted, abs=0.0051)


@pytest.mark.parametrize(("experiment", "network"), p.NETWORKS_MAX)
def test_pretrained_networks_by_the_most_probable_class(
    networks: o.Trials, experiment: str, network: str
) -> None:
    part = networks.where(experiment=experiment, observer=network)
    wanted = p.NETWORKS_MAX[experiment, network]
    assert 100 * float(part.correct.mean()) == pytest.approx(wanted, abs=0.0501)


@pytest.mark.parametrize("row", p.TESTS)
def test_the_train_by_test_matrix(humans: o.Trials, trained_networks: o.Trials, row: str) -> None:
    experiment, condition, human = p.TESTS[row]
    part = trained_networks.where(experiment=experiment, condition=condition)
    found: list[float | None] = [None]
    if human is not None:
        seen = humans.where(experiment=human, condition=condition)
        found = [100 * float(seen.correct.mean())]
    found += [
        100 * float(part.where(observer=name).correct.mean()) for name in p.NETWORK_FILES.values()
    ]
    assert len(found) == len(p.MATRIX[row]) == 21
    for got, wanted in zip(found, p.MATRIX[row], strict=True):
        assert got == (None if wanted is None else pytest.approx(wanted, abs=0.0501))


def test_resnet_under_eidolon_by_the_most_probable_class(networks: o.Trials) -> None:
    found = o.accuracies(networks.where(experiment="eidolon", observer="resnet152"))
    assert {condition: a.mean for condition, a in found.items()} == p.RESNET_EIDOLON_MAX


@pytest.mark.parametrize("which", ["humans", "model-vs-human"])
def test_published_trials_have_the_fingerprint_that_is_wanted(
    which: o.Which, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read anew: the other tests may take what an earlier run has kept in the cache."""
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))
    read = o.load(which, shared_data)
    assert len(read) == o.SOURCES[which].trials
    kept = o.load(which, shared_data)
    for name in ("experiment", "observer", "session", "answer", "category", "condition", "image"):
        once, again = getattr(read, name), getattr(kept, name)
        assert once.names == again.names
        assert np.array_equal(once.codes, again.codes)


@pytest.mark.parametrize(
    ("experiment", "pooled", "networks"),
    [
        ("noise-png", "all-noise", ("C2",)),
        ("salt-and-pepper-png", "all-noise", ("C1",)),
        ("rotation", "all-noise", ("C1", "C2")),
        ("noise-png", "specialised", ("A9",)),
        ("rotation", "specialised", ("A7",)),
    ],
)
def test_pooled_networks_are_copies_of_those_that_the_paper_names(
    trained_networks: o.Trials, experiment: str, pooled: str, networks: tuple[str, ...]
) -> None:
    """An account of which network is which that doesn't rest on accuracies."""

    def rows(observer: str) -> list[tuple[str, ...]]:
        part = trained_networks.where(experiment=experiment, observer=observer)
        columns = (part.session, part.image, part.answer)
        return list(zip(*(column.texts().tolist() for column in columns), strict=True))

    own = [row for name in networks for row in rows(p.NETWORK_FILES[name])]
    assert sorted(rows(pooled)) == sorted(own)


def test_a_network_trained_on_uniform_noise_is_at_chance_under_salt_and_pepper(
    trained_networks: o.Trials,
) -> None:
    part = trained_networks.where(
        experiment="salt-and-pepper-png",
        condition="0.2",
        observer="sixteen03--uniform-noise-multiple",
    )
    assert float(part.correct.mean()) == pytest.approx(0.0625, abs=0.001)


@pytest.mark.parametrize("dataset", p.AGREEMENT)
def test_consistency_of_human_observers(model_vs_human: o.Trials, dataset: str) -> None:
    found = o.agreement(model_vs_human.where(experiment=dataset), p.KEPT[dataset])
    accuracy, difference, observed, kappa = p.AGREEMENT[dataset]
    assert found.accuracy == pytest.approx(accuracy, abs=0.00051)
    assert found.difference == pytest.approx(difference, abs=0.000051)
    assert found.observed == pytest.approx(observed, abs=0.00051)
    assert found.kappa == pytest.approx(kappa, abs=0.00051)


def test_mean_consistency_of_human_observers(model_vs_human: o.Trials) -> None:
    found = [o.agreement(model_vs_human.where(experiment=d), kept) for d, kept in p.KEPT.items()]
    assert round(fmean(a.accuracy for a in found), 3) == 0.723
    assert round(fmean(a.difference for a in found), 4) == 0.0066
    assert round(fmean(a.observed for a in found), 3) == 0.809
    assert round(fmean(a.kappa for a in found), 3) == 0.431


def test_humans_and_networks_err_in_other_patterns(humans: o.Trials, networks: o.Trials) -> None:
    found = o.pattern_distances(
        humans.where(experiment="rotation"), networks.where(experiment="rotation"), "90"
    )
    assert set(found) == {"humans-humans", "humans-networks", "networks-networks"}
    assert found["networks-networks"] < found["humans-networks"]
