"""The ledger: all questions in their order, and the verdicts found from them again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear import Linear, images

import bench
from attacks import Misclassification, Oracle, create, ledger, perturb
from attacks.ledger import Entries, Ledger
from bench.match import Match, ThreatModel, play, target_labels
from bench.plugins import load_model
from bench.pools import starting_pool

LABELS = Linear()(images()).argmax(1)


@pytest.mark.parametrize("name", ["boundary", "gaussian_noise", "square", "apgd", "carlini_wagner"])
def test_the_verdicts_of_an_attack_are_found_again(name: str) -> None:
    asked = Ledger()
    labels = LABELS.clone()
    labels[2] = (labels[2] + 1) % 3  # a clean error: nothing is asked about it
    attack = create(name)
    epsilon = 0.5 if name in ("square", "apgd") else None
    result = perturb(
        attack, Linear(), images(), labels, budget=40, epsilon=epsilon, norm="l2", ledger=asked
    )
    again = ledger.replay(asked.entries(), labels.tolist())
    assert [one.queries for one in again] == result.queries.tolist()
    assert [list(one.trace) for one in again] == result.traces
    assert again[2].queries == 0
    assert sum(one.queries for one in again) == len(asked.entries().rows) > 11


def test_a_targeted_match_in_batches_is_found_again_by_place() -> None:
    data = bench.dataset("mnist5k").take(7)
    match = Match(
        model=load_model("small_cnn", dataset="mnist5k"),
        attack=create("boundary"),
        dataset=data,
        threat=ThreatModel(norm="l2", access="decision", targeted=True, max_queries=30),
        pool=starting_pool(data),
    )
    asked = Ledger()
    skip = data.ids[3]
    outcomes = list(play(match, batch_size=3, skip={skip}, ledger=asked))
    wanted = target_labels(data.targets, list(data.ids), 10, 0).tolist()
    again = ledger.replay(asked.entries(), data.labels.tolist(), wanted)
    assert again[3] == ledger.Replayed(0, ())
    by_id = dict(zip(data.ids, again, strict=True))
    for outcome in outcomes:
        one = by_id[outcome.image_id]
        assert (one.queries, one.trace) == (outcome.queries, outcome.trace)
    assert max(one.queries for one in again) == 30


def test_questions_in_bytes_are_taken_down_like_those_in_floats() -> None:
    batch = images(3)
    pixels = (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    rows = torch.tensor([0, 2, 2])
    found = []
    for ask in ("labels", "pixel_labels"):
        asked = Ledger()
        oracle = Oracle(
            Linear(), batch, Misclassification(LABELS[:3]), norm="l2", quantised=True, ledger=asked
        )
        getattr(oracle, ask)((batch if ask == "labels" else pixels)[[1, 2, 0]], rows)
        found.append(asked.entries())
    assert found[0].numbers.tolist() == [1, 1, 2]
    for one, other in zip(*found, strict=True):
        assert np.allclose(one, other, atol=1e-6)


def test_a_ledger_goes_through_bytes_unchanged() -> None:
    asked = Ledger()
    asked.at([5, 3]).at(torch.tensor([1])).add(*(torch.tensor([0, 0]) for _ in range(4)))
    entries = asked.entries()
    assert entries.rows.tolist() == [3, 3]
    back = ledger.loads(ledger.dumps(entries))
    assert all(np.array_equal(a, b) for a, b in zip(entries, back, strict=True))
    assert [part.dtype for part in back] == [np.int32, np.int32, np.int32, np.float32]


def test_an_empty_ledger_replays_to_nothing_asked() -> None:
    empty = ledger.loads(ledger.dumps(Ledger().entries()))
    assert ledger.replay(empty, [1, 2]) == [ledger.Replayed(0, ())] * 2
    assert ledger.Replayed(0, ()).distance == float("inf")


def entries(rows: list[int], numbers: list[int]) -> Entries:
    n = len(rows)
    return Entries(
        np.array(rows, np.int32),
        np.array(numbers, np.int32),
        np.zeros(n, np.int32),
        np.ones(n, np.float32),
    )


@pytest.mark.parametrize(
    ("rows", "numbers", "reason"),
    [
        ([0, 0], [1, 3], "question 2 about image 0 has the number 3"),
        ([0, 0], [1, 1], "question 2 about image 0 has the number 1"),
        ([2], [1], "image 2 of 2"),
        ([-1], [1], "image -1 of 2"),
    ],
)
def test_a_ledger_that_lacks_or_repeats_a_question_is_refused(
    rows: list[int], numbers: list[int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        ledger.replay(entries(rows, numbers), [1, 1])


@pytest.mark.parametrize("data", [b"", b"PK nonsense", b"\x93NUMPY"])
def test_bytes_that_are_no_ledger_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a ledger"):
        ledger.loads(data)
