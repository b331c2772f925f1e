"""Sandboxed entries as model and attack, with submissions that behave and ones that don't."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import attacks
from attacks.perturbation import Adversarials, perturb
from server.entries import ContainerAttack, ContainerModel
from server.sandbox.docker import DockerProvider
from server.sandbox.errors import (
    BadAnswer,
    Crashed,
    NotDeterministic,
    OutOfMemory,
    Stopped,
    TooSlow,
)
from server.sandbox.process import ProcessProvider
from server.sandbox.types import Labels, Limits, Package, Provider

Entries = tuple[Provider, Callable[..., Package]]

LIMITS = Limits(start_seconds=60, call_seconds=20, run_seconds=60, memory_mib=256, pids=48)
SHAPE = (4, 4, 1)
both = pytest.mark.parametrize("provider_name", ["docker", "process"])
docker_only = pytest.mark.parametrize("provider_name", ["docker"])


def pictures(count: int) -> Tensor:
    """Images of one brightness each, that the models of hostile/ label 0, 1, 2, ..."""
    levels = torch.arange(count) % 8 * 26 + 10
    return (levels / 255).view(count, 1, 1, 1).expand(count, 1, 4, 4).contiguous()


class Brightness:
    """The function of hostile/model.py, here."""

    bounds = (0.0, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        labels = (images * 255).round().flatten(1).mean(1).long() // 26
        return torch.nn.functional.one_hot(labels, 10).float()


def labels() -> Labels:
    return Labels("entries", 1, time.time() + 600)


def model(entries: Entries, mode: str, **options: Any) -> ContainerModel:
    provider, entry = entries
    return ContainerModel(
        provider,
        entry("model.py", mode),
        labels=labels(),
        limits=options.pop("limits", LIMITS),
        image_shape=SHAPE,
        classes=10,
        **options,
    )


def attack(entries: Entries, mode: str, **options: Any) -> ContainerAttack:
    provider, entry = entries
    return ContainerAttack(
        provider,
        entry("attack.py", mode),
        labels=labels(),
        limits=options.pop("limits", LIMITS),
        track="brightness",
        **options,
    )


def play(entered: ContainerAttack, count: int = 3, budget: int = 1000) -> Adversarials:
    images = pictures(count)
    truth = Brightness()(images).argmax(1)
    return perturb(entered, Brightness(), images, truth, budget=budget, quantised=True)


def reasons(result: Adversarials) -> list[str]:
    return [reason or "" for reason in result.reasons]


# Models.


@both
def test_a_model_gives_its_labels_as_one_hot_logits(sandboxes: Entries) -> None:
    images = pictures(300)  # more than one call takes
    with model(sandboxes, "good") as entered:
        logits = entered(images)
        assert entered(images[:0]).shape == (0, 10)
    assert torch.equal(logits, Brightness()(images))
    assert logits.dtype == torch.float32


@both
def test_a_match_against_a_container_is_the_same_as_against_the_function_itself(
    sandboxes: Entries,
) -> None:
    images = pictures(6)
    truth = Brightness()(images).argmax(1)
    noise = attacks.create("gaussian_noise")
    options: dict[str, Any] = {"seed": 3, "budget": 60, "quantised": True}
    here = perturb(noise, Brightness(), images, truth, **options)
    with model(sandboxes, "good") as entered:
        there = perturb(noise, entered, images, truth, **options)
    assert torch.equal(here.distance, there.distance)
    assert torch.equal(here.images, there.images)
    assert here.traces == there.traces
    assert here.success.any()


@both
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("refuses", "answered 400: only 32x32 images, please"),
        ("floats", r"float64 of shape \(3,\), wanted int64"),
        ("one_short", r"shape \(2,\), wanted int64 of shape \(3,\)"),
        ("out_of_range", "the label 10[0-9], wanted 0 to 9"),
        ("pickled", "never pickled objects"),
    ],
)
def test_a_wrong_answer_is_the_models_fault_and_says_why(
    sandboxes: Entries, mode: str, words: str
) -> None:
    with model(sandboxes, mode) as entered, pytest.raises(BadAnswer, match=words) as failure:
        entered(pictures(3))
    assert failure.value.role == "model"


@both
def test_a_good_model_passes_the_probe_before_and_after(sandboxes: Entries) -> None:
    images = pictures(12)
    with model(sandboxes, "good") as entered:
        first = entered.probe(images)
        assert torch.equal(first, Brightness()(images).argmax(1))
        assert torch.equal(entered.probe(images), first)


@both
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("random_labels", "when asked"),
        ("by_position", "in another order"),
    ],
)
def test_a_model_that_is_not_deterministic_is_found_out(
    sandboxes: Entries, mode: str, words: str
) -> None:
    with model(sandboxes, mode) as entered, pytest.raises(NotDeterministic, match=words):
        entered.probe(pictures(8))


@both
def test_a_model_that_changes_with_what_it_is_asked_is_found_out_after_the_match(
    sandboxes: Entries,
) -> None:
    images = pictures(8)[4:]  # 20 images for a probe; this model changes after 60
    with model(sandboxes, "remembers") as entered:
        entered.probe(images)
        entered(pictures(60))
        with pytest.raises(NotDeterministic, match="before the match"):
            entered.probe(images)


@both
def test_a_model_that_crashes_ends_the_match_with_its_own_fault(sandboxes: Entries) -> None:
    with model(sandboxes, "crash") as entered, pytest.raises(Crashed):
        perturb(attacks.create("gaussian_noise"), entered, pictures(2), torch.tensor([0, 1]))


@both
def test_setting_stop_ends_a_models_call_within_seconds(sandboxes: Entries) -> None:
    stop = threading.Event()
    with model(sandboxes, "slow", stop=stop, limits=replace(LIMITS, call_seconds=600)) as entered:
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        with pytest.raises(Stopped):
            entered(pictures(1))
        timer.join()


# Attacks.


@both
def test_a_good_attack_finds_what_it_can_and_is_measured_here(sandboxes: Entries) -> None:
    entered = attack(sandboxes, "good")
    result = play(entered)
    assert result.status == ["success"] * 3
    assert result.queries.tolist() == [29] * 3
    # From 10 to 26 it takes a step of 16 in all of 16 pixels.
    assert result.distance[0] == pytest.approx(16 / 255 * 4)
    assert [len(trace) for trace in result.traces] == [1] * 3
    assert (entered.runs[0].stored, entered.runs[0].samples) == (3, 3)
    assert entered.runs[0].ended is not None
    assert entered.runs[0].ended.code == 0


@both
def test_an_attack_that_exits_1_keeps_what_it_asked_and_the_rest_says_why(
    sandboxes: Entries,
) -> None:
    result = play(attack(sandboxes, "exit_1"))
    assert result.status == ["success", "failed", "failed"]
    assert "exit code 1" in reasons(result)[1]
    assert "ValueError: shapes (3,4) and (5,) not aligned" in reasons(result)[1]


@both
def test_hidden_images_keep_an_attacks_output_out_of_the_notes(sandboxes: Entries) -> None:
    result = play(attack(sandboxes, "exit_1", show_logs=False))
    assert "exit code 1" in reasons(result)[1]
    assert "ValueError" not in reasons(result)[1]


@both
@pytest.mark.parametrize("mode", ["hang", "ignores_signals"])
def test_an_attack_that_hangs_is_ended_at_the_limit(sandboxes: Entries, mode: str) -> None:
    entered = attack(sandboxes, mode, limits=replace(LIMITS, run_seconds=4))
    result = play(entered)
    assert result.status == ["failed"] * 3
    assert "stopped after 4 s, the track's limit" in reasons(result)[0]
    assert "thinking about sample 0" in reasons(result)[0]
    assert entered.runs[0].timed_out


@both
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("float64", "got float64, wanted uint8 (values 0 to 255): send np.clip(np.rint(255 * x)"),
        ("nan", "it holds NaN or infinite values"),
        ("wrong_shape", "got the shape (4, 4), wanted (4, 4, 1): x.reshape(4, 4, 1)"),
        ("unchanged", "the stored image is the unchanged clean image"),
        ("not_adversarial", "the stored image is not adversarial: the model says 0"),
        ("pickled", "never pickled objects"),
        ("silent", "had neither asked nor stored anything adversarial"),
    ],
)
def test_a_foolish_attack_gets_a_reason_that_its_author_can_act_on(
    sandboxes: Entries, mode: str, words: str
) -> None:
    result = play(attack(sandboxes, mode))
    assert result.status == ["failed"] * 3
    assert not result.success.any()
    assert torch.isinf(result.distance).all()
    assert words in reasons(result)[0]


@both
def test_the_1001st_query_gets_429_and_the_attack_still_scores(sandboxes: Entries) -> None:
    entered = attack(sandboxes, "overspends")
    result = play(entered)
    assert "200s: 1000 last: 429" in entered.runs[0].logs
    assert result.status == ["success"] * 3
    assert result.queries.tolist() == [1000, 29, 29]
    assert "0 of its 1000 queries left" in reasons(result)[0]


@both
def test_an_attack_that_is_done_and_does_not_end_is_not_waited_for(sandboxes: Entries) -> None:
    entered = attack(sandboxes, "done_then_hang")
    result = play(entered)
    assert result.status == ["success"] * 3
    assert not entered.runs[0].timed_out
    assert entered.runs[0].ended is None


@both
def test_hundreds_of_connections_break_nothing(sandboxes: Entries) -> None:
    result = play(attack(sandboxes, "many_connections"))
    assert result.status == ["success"] * 3
    assert result.queries.tolist() == [29] * 3


@docker_only
def test_an_attack_that_writes_outside_its_folder_is_stopped_by_the_box(
    sandboxes: Entries,
) -> None:
    result = play(attack(sandboxes, "writes_outside"))
    assert result.status == ["failed"] * 3
    assert "Read-only file system: '/etc/tiltyard-was-here'" in reasons(result)[0]


@docker_only
def test_an_attack_that_runs_out_of_memory_is_told_so(sandboxes: Entries) -> None:
    result = play(attack(sandboxes, "memory", limits=replace(LIMITS, memory_mib=96)))
    assert "used more than its 96 MiB of memory" in reasons(result)[0]


@both
def test_an_attack_that_never_starts_is_recorded_for_each_sample(sandboxes: Entries) -> None:
    provider, entry = sandboxes
    entered = ContainerAttack(
        provider, entry("missing.py"), labels=labels(), limits=LIMITS, track="brightness"
    )
    result = play(entered)
    assert result.status == ["failed"] * 3
    assert "missing.py" in reasons(result)[0]


@both
def test_a_model_that_fails_in_the_middle_is_not_the_attacks_fault(sandboxes: Entries) -> None:
    entered = attack(sandboxes, "good")
    images = pictures(2)
    criterion = attacks.Misclassification(torch.tensor([0, 1]))
    random = attacks.ImageRandom.of(0, ["a", "b"])
    with model(sandboxes, "crash") as opponent:
        oracle = attacks.Oracle(opponent, images, criterion, norm="l2", quantised=True)
        with pytest.raises(Crashed) as failure:
            entered.run(oracle, images, criterion, epsilon=None, random=random)
    assert failure.value.role == "model"


@both
def test_setting_stop_ends_an_attack_within_seconds(sandboxes: Entries) -> None:
    stop = threading.Event()
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    with pytest.raises(Stopped):
        play(attack(sandboxes, "hang", stop=stop, limits=replace(LIMITS, run_seconds=600)))
    timer.join()


# Two containers.


@both
def test_two_containers_play_each_other(sandboxes: Entries) -> None:
    images = pictures(3)
    truth = Brightness()(images).argmax(1)
    with model(sandboxes, "good") as opponent:
        there = perturb(
            attack(sandboxes, "good"), opponent, images, truth, budget=40, quantised=True
        )
    here = play(attack(sandboxes, "good"), budget=40)
    assert torch.equal(there.distance, here.distance)
    assert there.queries.tolist() == here.queries.tolist()


@docker_only
def test_a_model_out_of_memory_in_a_match_is_told_so(sandboxes: Entries) -> None:
    limits = replace(LIMITS, memory_mib=96)
    with (
        model(sandboxes, "memory_later", limits=limits) as opponent,
        pytest.raises(OutOfMemory, match="96 MiB"),
    ):
        opponent(pictures(1))


@both
def test_a_slow_model_is_told_the_limit(sandboxes: Entries) -> None:
    limits = replace(LIMITS, call_seconds=0.5)
    with model(sandboxes, "slow", limits=limits) as opponent, pytest.raises(TooSlow):
        opponent(pictures(1))


def test_a_docker_server_refuses_a_source_package_with_the_mend(
    docker_provider: DockerProvider, hostile_source: Callable[..., Package]
) -> None:
    package = hostile_source("model.py", "good")
    with pytest.raises(Exception, match="never builds a submission"):
        docker_provider.inspect(package.path, LIMITS)


def test_images_of_another_shape_are_our_mistake_and_not_the_models(
    process_provider: ProcessProvider, hostile_source: Callable[..., Package]
) -> None:
    package = hostile_source("model.py", "good")
    with (
        model((process_provider, lambda *argv: package), "good") as entered,
        pytest.raises(ValueError, match=r"\(5, 5, 1\), the track has \(4, 4, 1\)"),
    ):
        entered(torch.zeros(1, 1, 5, 5))
