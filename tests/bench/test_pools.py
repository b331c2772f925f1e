from __future__ import annotations

import torch

import bench
from bench.match import Match, ThreatModel, play
from bench.plugins import load_attack, load_model
from bench.pools import PER_CLASS, starting_pool


def test_the_pool_holds_training_images_of_every_class_and_none_that_is_played() -> None:
    data = bench.dataset("mnist5k")
    pool = starting_pool(data)
    assert torch.bincount(pool.labels).tolist() == [PER_CLASS] * 10
    played = {image.numpy().tobytes() for image in data.images}
    assert not any(image.numpy().tobytes() in played for image in pool.images)


def test_a_set_without_a_training_split_is_its_own_pool() -> None:
    pool = starting_pool(bench.dataset("tiny-imagenet-avc"))
    assert pool.images.shape[1:] == (3, 64, 64)
    assert len(pool.labels) > 400


def test_a_targeted_match_starts_from_the_pool() -> None:
    data = bench.dataset("mnist5k")
    match = Match(
        model=load_model("small_cnn", dataset="mnist5k"),
        attack=load_attack("hop_skip_jump"),
        dataset=data.take(6),
        threat=ThreatModel(norm="l2", access="decision", targeted=True, max_queries=100),
        pool=starting_pool(data),
    )
    outcomes = list(play(match))
    assert all(o.success for o in outcomes if o.clean_correct)
    assert all(o.target != o.clean_label for o in outcomes)
