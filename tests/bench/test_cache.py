"""What was played is read back as it was, and only where everything that decides it is the same."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attacks
from attacks import Pool
from bench import cache, match
from bench.cache import Keys, Store, depends_on_batch, remembered
from bench.datasets.types import Dataset
from bench.match import Match, Outcome, ThreatModel
from models.wrappers import Classifier

VERSIONS = {"torch": "2"}


def data(n: int = 9) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 120, size=(n, 4, 4, 1), dtype=np.uint8)
    labels = np.zeros(n, dtype=np.int64)
    labels[2] = 1
    return Dataset("dark", "test", tuple(f"dark-{i}" for i in range(n)), pixels, labels, ("0", "1"))


def brightness(threshold: float = 0.5) -> Classifier:
    """Says 1 where the mean is above the threshold."""
    linear = torch.nn.Linear(16, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0 / 16], [1.0 / 16]]).expand(2, 16))
        linear.bias.copy_(torch.tensor([threshold, -threshold]))
    return Classifier(torch.nn.Sequential(torch.nn.Flatten(), linear), (1, 4, 4), 2)


def played(**changes: Any) -> Match:
    attack = attacks.create("gaussian_noise", directions=2)
    threat = ThreatModel(norm="l2", access="decision", max_queries=100)
    options = {"model": brightness(), "attack": attack, "dataset": data(), "threat": threat}
    return Match(**{**options, "seed": 3, **changes})


def descent(**parameters: Any) -> Match:
    """Foolbox's, which draws its random start for the whole batch."""
    attack = attacks.create("foolbox:LinfPGD", steps=3, **parameters)
    return played(attack=attack, threat=ThreatModel(norm="linf", epsilon=0.3))


def play(
    which: Match, store: Store | None, *, batch_size: int = 4, skip: tuple[str, ...] = ()
) -> list[Outcome]:
    keys = None if store is None else Keys.of(which, VERSIONS)
    return list(cache.play(which, store, keys, batch_size=batch_size, skip=skip))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of every batch that is really played."""
    seen: list[list[str]] = []
    real = match.play_batch

    def watched(which: Match, batch: Any) -> list[Outcome]:
        seen.append(list(batch.ids))
        return real(which, batch)

    monkeypatch.setattr(match, "play_batch", watched)
    return seen


def test_what_was_played_is_read_back_line_by_line_and_pixel_by_pixel(
    store: Store, batches: list[list[str]]
) -> None:
    first = play(played(), store)
    assert sum(len(batch) for batch in batches) == 9
    second = play(played(), store)
    assert sum(len(batch) for batch in batches) == 9
    assert [o.to_json() for o in second] == [o.to_json() for o in first]
    assert [o.cached for o in first] == [False] * 9
    assert [o.cached for o in second] == [True] * 9
    for before, after in zip(first, second, strict=True):
        assert (before.image is None) == (after.image is None)
        if before.image is not None and after.image is not None:
            assert torch.equal(before.image, after.image)
            assert after.image.dtype == torch.float32


def test_without_a_store_it_is_played_as_ever(batches: list[list[str]]) -> None:
    assert [o.to_json() for o in play(played(), None)] != []
    play(played(), None)
    assert sum(len(batch) for batch in batches) == 18


def test_the_batch_size_and_further_images_cost_only_what_is_new(
    store: Store, batches: list[list[str]]
) -> None:
    play(played(dataset=data().take(5)), store, batch_size=2)
    batches.clear()
    outcomes = play(played(), store, batch_size=9)
    assert batches == [["dark-5", "dark-6", "dark-7", "dark-8"]]
    assert [o.image_id for o in outcomes] == list(data().ids)
    assert [o.cached for o in outcomes] == [True] * 5 + [False] * 4


def renamed() -> Dataset:
    return replace(data(), ids=tuple(f"other-{i}" for i in range(9)))


def brighter() -> Dataset:
    return replace(data(), pixels=data().pixels + 1)


def relabelled() -> Dataset:
    return replace(data(), labels=1 - data().labels)


CHANGES: dict[str, dict[str, Any]] = {
    "the seed": {"seed": 4},
    "the model's weights": {"model": brightness(0.51)},
    "the attack's parameters": {"attack": attacks.create("gaussian_noise", directions=3)},
    "the attack": {"attack": attacks.create("salt_and_pepper", norm="l2")},
    "the budget": {"threat": ThreatModel(norm="l2", access="decision", max_queries=99)},
    "rounding": {
        "threat": ThreatModel(norm="l2", access="decision", max_queries=100, quantised=True)
    },
    "targets": {
        "threat": ThreatModel(norm="l2", access="decision", max_queries=100, targeted=True)
    },
    "the pixels": {"dataset": brighter()},
    "the labels": {"dataset": relabelled()},
    "the ids, which random numbers belong to": {"dataset": renamed()},
    "the pool of starting images": {
        "pool": Pool(torch.zeros(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64))
    },
}


@pytest.mark.parametrize("what", CHANGES)
def test_nothing_is_read_back_after_a_change_of(
    what: str, store: Store, batches: list[list[str]]
) -> None:
    play(played(), store)
    batches.clear()
    play(played(**CHANGES[what]), store)
    assert sum(len(batch) for batch in batches) == 9


def test_nor_after_a_change_of_versions_or_of_our_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = next(data().batches(9))
    keys = [Keys.of(played(), VERSIONS).of_batch(batch)]
    keys.append(Keys.of(played(), {"torch": "3"}).of_batch(batch))
    monkeypatch.setattr("bench.fingerprints.sources", lambda package: f"changed {package}")
    keys.append(Keys.of(played(), VERSIONS).of_batch(batch))
    assert len({key for batch_keys in keys for key in batch_keys}) == 27


def test_an_attack_that_may_couple_its_batch_is_read_back_for_the_same_batch_only(
    store: Store, batches: list[list[str]]
) -> None:
    pgd = descent()
    play(pgd, store, batch_size=4)
    play(pgd, store, batch_size=4)
    assert len(batches) == 3
    play(pgd, store, batch_size=9)
    assert len(batches) == 4
    alone = descent(one_by_one=True)
    play(alone, store, batch_size=4)
    batches.clear()
    play(alone, store, batch_size=9)
    assert batches == []


@pytest.mark.parametrize("kept", [True, False])
def test_a_batch_of_such_an_attack_that_is_done_in_part_is_played_whole_again(
    kept: bool, store: Store, batches: list[list[str]]
) -> None:
    pgd = descent()
    whole = play(pgd, None)
    resumed = play(pgd, store if kept else None, skip=("dark-0", "dark-1", "dark-2"))
    assert batches[-3:] == [list(batch.ids) for batch in data().batches(4)]
    assert [o.distance for o in resumed] == [o.distance for o in whole[3:]]
    assert [o.image_id for o in resumed] == list(data().ids[3:])


@dataclass(frozen=True, kw_only=True)
class Ours:
    """An attack that is not one of Tiltyard's: nobody knows what it does."""

    norm: str = "l2"
    access: str = "decision"

    def run(self, model: Any, images: Tensor, criterion: Any, **_: Any) -> Tensor:
        return images


def test_what_may_depend_on_the_batch_is_known_by_the_attack() -> None:
    assert not depends_on_batch(attacks.create("boundary"))
    assert depends_on_batch(attacks.create("foolbox:LinfPGD"))
    assert not depends_on_batch(attacks.create("foolbox:HopSkipJumpAttack"))
    assert depends_on_batch(Ours())  # type: ignore[arg-type]


def test_an_ensemble_depends_on_the_batch_where_one_of_its_attacks_does() -> None:
    worst = {"attacks": (attacks.create("boundary"), attacks.create("gaussian_noise"))}
    assert not depends_on_batch(attacks.create("worst_case", **worst))
    worst["attacks"] = (attacks.create("boundary"), attacks.create("foolbox:LinfPGD"))
    assert depends_on_batch(attacks.create("worst_case", norm="l2", **worst))


@pytest.mark.parametrize("damage", ["torn", "changed", "emptied", "another"])
def test_a_damaged_entry_counts_as_absent_and_is_written_again(
    damage: str, store: Store, batches: list[list[str]]
) -> None:
    expected = [o.to_json() for o in play(played(), store)]
    entries = sorted(store.folder.glob("??/*"))
    assert len(entries) == 9
    content = entries[0].read_bytes()
    entries[0].write_bytes(
        {
            "torn": content[:-7],
            "changed": content[:-1] + bytes([content[-1] ^ 1]),
            "emptied": b"",
            "another": entries[1].read_bytes(),
        }[damage]
    )
    batches.clear()
    assert sum(o.cached for o in play(played(), store)) == 8
    assert sum(len(batch) for batch in batches) == 1
    again = play(played(), store)
    assert sum(o.cached for o in again) == 9
    without_seconds = [{**line, "seconds": 0} for line in (o.to_json() for o in again)]
    assert without_seconds == [{**line, "seconds": 0} for line in expected]


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "results")
    assert len(play(played(), store)) == 9
    assert store.failure is not None
    assert "file" in store.failure
    assert store.usage() == (0, 0)


WRITER = """
import sys
from pathlib import Path
from bench.cache import Store, key_of
store = Store(Path(sys.argv[1]))
for turn in range(50):
    for key in range(20):
        content = store.get(key_of(key))
        assert content is None or content == bytes([key]) * 5000
        store.put(key_of(key), bytes([key]) * 5000)
assert store.failure is None, store.failure
"""


def test_writers_at_the_same_time_never_show_half_an_entry(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for writer in writers:
        _, complaint = writer.communicate(timeout=120)
        assert writer.returncode == 0, complaint
    assert Store(tmp_path).usage()[0] == 20


def test_clearing_removes_every_entry_and_the_next_one_starts_anew(store: Store) -> None:
    play(played(), store)
    entries, size = store.usage()
    assert entries == 9
    assert size > 0
    assert store.clear() == 9
    assert store.usage() == (0, 0)
    play(played(), store)
    assert store.usage()[0] == 9


def test_what_is_remembered_is_computed_once_for_the_same_facts(store: Store) -> None:
    asked = []

    def compute() -> dict[str, Any]:
        asked.append(1)
        return {"answer": 0.1 + 0.2}

    for _ in range(3):
        assert remembered(store, {"question": 1}, compute) == {"answer": 0.1 + 0.2}
    assert len(asked) == 1
    remembered(store, {"question": 2}, compute)
    remembered(None, {"question": 2}, compute)
    assert len(asked) == 3


def test_entries_lie_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "mine"))
    assert cache.results_folder() == tmp_path / "mine" / "results"
    monkeypatch.delenv("TILTYARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.results_folder() == tmp_path / "tiltyard" / "results"
