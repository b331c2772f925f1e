"""The checks of a run: on real attacks that are too short, too weak, or beaten by less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attacks
from attacks import checks
from attacks.checks import Finding
from bench.cache import Keys, Store
from bench.datasets.types import Dataset
from bench.errors import UserError
from bench.match import Match, ThreatModel, play
from bench.runs import Run, RunConfig
from bench.soundness import Soundness, plain_radius, with_twice_the_steps
from models.wrappers import Classifier

N = 16
CLASSES = tuple(str(label) for label in range(3))


def network() -> Classifier:
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(36, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(3, 36, generator=generator))
        linear.bias.copy_(-linear.weight.sum(1) / 2)
    return Classifier(torch.nn.Sequential(torch.nn.Flatten(), linear), (1, 6, 6), 3)


def data(model: Any) -> Dataset:
    pixels = np.random.default_rng(1).integers(90, 166, size=(N, 6, 6, 1), dtype=np.uint8)
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    labels = model(images).argmax(1).numpy()
    ids = tuple(f"image-{i:02}" for i in range(N))
    return Dataset("digits", "test", ids, pixels, labels, CLASSES)


def match_of(attack: Any, model: Any = None, **threat: Any) -> Match:
    model = network() if model is None else model
    limits = ThreatModel(**{"norm": attack.norm, "access": attack.access, **threat})
    return Match(model=model, attack=attack, dataset=data(model), threat=limits)


def run_of(match: Match, folder: Path, name: str = "a") -> Run:
    threat = match.threat
    config = RunConfig(
        model="m", attack=name, dataset="digits", split="test", images=N, norm=threat.norm,
        epsilon=threat.epsilon, max_queries=threat.max_queries, targeted=threat.targeted,
        quantised=threat.quantised, access=threat.access, seed=0, batch_size=N, versions={},
    )  # fmt: skip
    run = Run.start(folder / name, config)
    run.append(play(match))
    return run


def checked(match: Match, folder: Path, others: Sequence[Run] = ()) -> dict[str, Finding]:
    findings = Soundness(None).of_run(match, run_of(match, folder), None, others)
    return {finding.name: finding for finding in findings}


def test_an_attack_that_converged_passes_every_check(tmp_path: Path) -> None:
    attack = attacks.create("foolbox:LinfPGD", steps=40, abs_stepsize=0.005)
    findings = checked(match_of(attack, epsilon=0.02), tmp_path)
    assert {"too_few_steps", "missed", "lost_by_rounding", "black_box"} <= set(findings)
    assert [finding.text for finding in findings.values() if not finding.ok] == []


def test_an_attack_with_too_few_steps_is_found_by_giving_it_more(tmp_path: Path) -> None:
    attack = attacks.create("foolbox:LinfPGD", steps=3, abs_stepsize=0.005, random_start=False)
    match = match_of(attack, epsilon=0.035)
    findings = checked(match, tmp_path)
    assert not findings["too_few_steps"].ok
    robust = 1 - np.mean([o.success for o in play(match)])
    assert f"lower robust accuracy from {robust:.1%} to " in findings["too_few_steps"].text


def test_an_attack_that_would_cost_too_much_is_not_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = attacks.create("foolbox:LinfPGD", steps=3, abs_stepsize=0.005, random_start=False)
    monkeypatch.setattr("bench.soundness.LONGER_QUERIES", 6 * 7)
    assert "too_few_steps" not in checked(match_of(attack, epsilon=0.01), tmp_path)
    monkeypatch.setattr("bench.soundness.LONGER_QUERIES", 6 * 8)
    assert "too_few_steps" in checked(match_of(attack, epsilon=0.01), tmp_path / "affordable")


def test_an_adversarial_that_was_changed_since_is_the_users_mistake(tmp_path: Path) -> None:
    match = match_of(attacks.create("foolbox:L2DeepFoolAttack"))
    run = run_of(match, tmp_path)
    for path in (run.folder / "adversarials").iterdir():
        path.write_bytes(b"changed")
    with pytest.raises(UserError, match="is not the file that was measured .*another --out"):
        Soundness(None).of_run(match, run, None)


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Finds nothing, and asks nothing."""

    norm: str = "linf"
    access: str = "gradient"

    def run(self, model: Any, images: Tensor, criterion: Any, **_: Any) -> Tensor:
        return images


def test_an_attack_that_misses_what_plain_ones_find_is_weak(tmp_path: Path) -> None:
    findings = checked(match_of(Idle(), epsilon=0.1), tmp_path)
    assert findings["missed"].measured == 1.0
    assert not findings["missed"].ok
    assert "lost_by_rounding" not in findings  # it found nothing that could be rounded


def test_an_attack_is_not_held_against_what_sees_more_or_asks_more(tmp_path: Path) -> None:
    blind = checked(match_of(Idle(access="decision"), epsilon=0.02), tmp_path)
    seeing = checked(match_of(Idle(), epsilon=0.02), tmp_path / "seeing")
    assert blind["missed"].measured < seeing["missed"].measured  # noise finds less than descent
    limited = checked(match_of(Idle(), epsilon=0.1, max_queries=10), tmp_path / "limited")
    assert "missed" not in limited
    targeted = checked(match_of(Idle(), epsilon=0.1, targeted=True), tmp_path / "targeted")
    assert "missed" not in targeted


def test_a_search_that_was_stopped_while_it_still_fell_is_found(tmp_path: Path) -> None:
    findings = checked(match_of(attacks.create("boundary", steps=60)), tmp_path)
    assert not findings["still_falling"].ok
    limited = match_of(attacks.create("boundary", steps=60), max_queries=60)
    assert "still_falling" not in checked(limited, tmp_path / "limited")


def test_adversarials_that_rounding_loses_are_found(tmp_path: Path) -> None:
    attack = attacks.create("foolbox:L2DeepFoolAttack", overshoot=1e-4)
    findings = checked(match_of(attack), tmp_path)
    assert not findings["lost_by_rounding"].ok
    rounded = checked(match_of(attack, quantised=True), tmp_path / "rounded")
    assert "lost_by_rounding" not in rounded


def test_an_attack_that_sees_less_and_fools_more_is_found(tmp_path: Path) -> None:
    noise = match_of(attacks.create("gaussian_noise", norm="linf"), epsilon=0.4)
    idle = match_of(Idle(), epsilon=0.4)
    other = run_of(noise, tmp_path, "gaussian_noise")
    findings = checked(idle, tmp_path, [other])
    assert not findings["beaten_by_less"].ok
    assert findings["beaten_by_less"].text.startswith("gaussian_noise, which sees less")
    back = Soundness(None).of_run(noise, other, None, [run_of(idle, tmp_path, "idle")])
    assert "beaten_by_less" not in {finding.name for finding in back}
    elsewhere = run_of(
        match_of(attacks.create("gaussian_noise", norm="linf"), epsilon=0.5), tmp_path, "farther"
    )
    apart = Soundness(None).of_run(idle, run_of(idle, tmp_path, "again"), None, [elsewhere])
    assert "beaten_by_less" not in {finding.name for finding in apart}


def test_l0_and_l1_are_examined_in_l2_and_the_others_at_their_own_radius() -> None:
    assert plain_radius(ThreatModel(norm="linf", epsilon=0.1)) == ("linf", 0.1)
    assert plain_radius(ThreatModel(norm="linf")) == ("linf", 0.3)
    assert plain_radius(ThreatModel(norm="l2")) == ("l2", 1.5)
    assert plain_radius(ThreatModel(norm="l0", epsilon=5)) == ("l2", 1.5)


def test_steps_are_doubled_where_an_attack_has_them_and_in_a_copy() -> None:
    boundary = attacks.create("boundary", steps=7)
    longer = with_twice_the_steps(boundary)
    assert longer == attacks.create("boundary", steps=14)
    foolbox = attacks.create("foolbox:LinfPGD", steps=5)
    doubled: Any = with_twice_the_steps(foolbox)
    assert doubled.attack.steps == 10
    assert foolbox.attack.steps == 5  # type: ignore[attr-defined]
    assert with_twice_the_steps(attacks.create("gaussian_noise")) is None
    assert with_twice_the_steps(attacks.create("foolbox:InversionAttack")) is None
    assert with_twice_the_steps(Idle()) is None  # type: ignore[arg-type]


class Counting:
    """The network, counting what it is asked where no fingerprint sees it."""

    asked = 0

    def __init__(self) -> None:
        self.network = network()

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def __call__(self, images: Tensor, /) -> Tensor:
        Counting.asked += len(images)
        return self.network(images)


def test_a_model_is_examined_once_for_several_attacks_and_never_again_with_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.fingerprints.fingerprint", lambda value, name: name)
    store = Store(tmp_path / "results")
    model = Counting()
    match = match_of(Idle(), model=model, epsilon=0.03, quantised=True)
    keys = Keys.of(match, {})
    run = run_of(match, tmp_path)
    asked = []
    soundness = Soundness(store)
    for _ in range(2):
        before = Counting.asked
        soundness.of_run(match, run, keys)
        asked.append(Counting.asked - before)
    before = Counting.asked
    again = Soundness(store).of_run(match, run, keys)
    asked.append(Counting.asked - before)
    assert asked[0] > 100
    assert asked[1:] == [0, 0]
    assert again == Soundness(None).of_run(match, run, None)


def test_every_check_has_a_row_in_the_documents() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "measure.md").read_text()
    names = [
        name
        for name, value in vars(checks).items()
        if getattr(value, "__annotations__", {}).get("return") == "Finding"
    ]
    public = [name for name in names if not name.startswith("_")]
    assert len(public) == 16
    for name in public:
        assert f"\n| `{name}` |" in page


def test_a_run_without_outcomes_has_no_checks(tmp_path: Path) -> None:
    match = match_of(Idle(), epsilon=0.1)
    run = run_of(match, tmp_path)
    run.outcomes.clear()
    assert Soundness(None).of_run(match, run, None) == ()


def test_a_model_that_draws_random_numbers_is_told_apart_from_one_that_does_not() -> None:
    class Drawn(Counting):
        def __call__(self, images: Tensor, /) -> Tensor:
            return self.network(images) + torch.rand(len(images), 3)

    for model, ok in ((Drawn(), False), (Counting(), True)):
        match = match_of(Idle(), model=model, epsilon=0.1)
        keys = Keys(match, {"model": "", "sources": "", "versions": {}}, False)
        assert Soundness(None).randomised(match, keys).ok == ok
