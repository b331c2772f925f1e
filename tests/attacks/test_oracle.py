from __future__ import annotations

import threading

import pytest
import torch
from linear import Linear, images

from attacks import BudgetExhausted, Misclassification, Oracle, Targeted, UsageError, quantise
from attacks.oracle import frozen


def oracle(
    budget: int | None = None, access: str = "decision", quantised: bool = False, n: int = 4
) -> Oracle:
    model, batch = Linear(), images(n)
    return Oracle(
        model,
        batch,
        Misclassification(model(batch).argmax(1)),
        norm="l2",
        access=access,  # type: ignore[arg-type]
        budget=budget,
        quantised=quantised,
    )


def test_every_image_is_counted_for_its_own_row() -> None:
    meter = oracle()
    meter.labels(images(4)[[0, 0, 2]], torch.tensor([0, 0, 2]))
    meter.labels(images(4)[[3]], torch.tensor([3]))
    assert meter.queries.tolist() == [2, 0, 1, 1]


def test_the_query_over_the_budget_is_refused_before_anything_is_asked_or_counted() -> None:
    meter = oracle(budget=2)
    row = torch.tensor([1, 1])
    meter.labels(images(4)[row], row)
    model = meter._model
    assert isinstance(model, Linear)
    asked = model.asked
    both = torch.tensor([0, 1])
    with pytest.raises(BudgetExhausted) as caught:
        meter.labels(images(4)[both], both)
    assert caught.value.rows == [1]
    assert model.asked == asked
    assert meter.queries.tolist() == [0, 2, 0, 0]
    assert meter.remaining().tolist() == [2, 0, 2, 2]


def test_the_budget_is_exact_under_concurrent_requests() -> None:
    meter = oracle(budget=50)
    refused = []

    def ask() -> None:
        for _ in range(20):
            try:
                meter.labels(images(4)[[2]], torch.tensor([2]))
            except BudgetExhausted:
                refused.append(1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.queries[2] == 50
    assert len(refused) == 8 * 20 - 50


def test_a_decision_attack_never_sees_a_score() -> None:
    meter = oracle(access="decision")
    with pytest.raises(UsageError, match="needs score access.*decision access was granted"):
        meter.scores(images(4), torch.arange(4))
    with pytest.raises(UsageError, match="needs gradient access"):
        meter.logits(images(4), torch.arange(4))
    assert meter.queries.sum() == 0


def test_scores_carry_no_gradient_and_logits_do() -> None:
    meter = oracle(access="gradient")
    asked = images(4).requires_grad_()
    assert not meter.scores(asked, torch.arange(4)).requires_grad
    (gradient,) = torch.autograd.grad(meter.logits(asked, torch.arange(4)).sum(), asked)
    assert gradient.abs().sum() > 0
    assert meter.queries.tolist() == [2] * 4
    assert meter.gradients.tolist() == [1] * 4


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "NaN or infinite"), (1.5, r"values in \[0\.3.*clip")]
)
def test_a_query_that_is_not_an_image_is_refused_and_not_counted(
    value: float, message: str
) -> None:
    meter = oracle()
    bad = images(4)
    bad[0, 0, 0, 0] = value
    with pytest.raises(UsageError, match=message):
        meter.labels(bad, torch.arange(4))
    assert meter.queries.sum() == 0


@pytest.mark.parametrize("quantised", [False, True])
def test_the_gradient_is_whole_at_the_bounds_too(quantised: bool) -> None:
    model = Linear()
    batch = torch.randint(0, 2, (4, 1, 6, 6), generator=torch.Generator().manual_seed(0)).float()
    criterion = Misclassification(torch.zeros(4, dtype=torch.int64))
    meter = Oracle(model, batch, criterion, norm="l2", access="gradient", quantised=quantised)
    asked = batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(meter.logits(asked, torch.arange(4))[:, 0].sum(), asked)
    assert torch.allclose(gradient.flatten(1), model.weights[0].expand(4, -1))


def test_the_trace_falls_and_its_last_point_is_the_best_distance() -> None:
    meter = oracle()
    clean, far = images(4), torch.zeros(4, 1, 6, 6)
    for share in (1.0, 0.9, 0.95, 0.8):
        meter.labels(torch.lerp(clean, far, share), torch.arange(4))
    for row, trace in enumerate(meter.traces):
        values = [value for _, value in trace]
        assert values == sorted(values, reverse=True)
        if trace:
            assert values[-1] == pytest.approx(float(meter.best_distance[row]))
            assert all(1 <= number <= 4 for number, _ in trace)
    assert any(meter.traces)


def test_a_call_with_one_row_several_times_numbers_its_queries() -> None:
    meter = oracle()
    clean = images(4)
    far = torch.stack([clean[1] * 0, clean[1] * 0.5, clean[0] * 0])
    meter.labels(torch.cat([far, far]), torch.tensor([1, 1, 0, 1, 1, 0]))
    assert meter.queries.tolist() == [2, 4, 0, 0]
    numbers = [number for number, _ in meter.traces[1]]
    assert set(numbers) <= {1, 2, 3, 4}


def test_on_a_quantised_track_the_model_sees_8_bit_values_only() -> None:
    seen = []

    class Spy(Linear):
        def __call__(self, asked: torch.Tensor, /) -> torch.Tensor:
            seen.append(asked.detach())
            return super().__call__(asked)

    model, batch = Spy(), images(4)
    criterion = Misclassification(torch.zeros(4, dtype=torch.int64))
    meter = Oracle(model, batch, criterion, norm="l2", access="gradient", quantised=True)
    asked = (batch + 0.0011).requires_grad_()
    (gradient,) = torch.autograd.grad(meter.logits(asked, torch.arange(4)).sum(), asked)
    steps = seen[-1] * 255
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert gradient.abs().sum() > 0


def test_quantising_twice_changes_nothing() -> None:
    values = torch.rand(100)
    assert torch.equal(quantise(quantise(values)), quantise(values))
    assert (quantise(values) - values).abs().max() <= 0.5 / 255 + 1e-7


def test_a_claim_is_verified_without_being_counted() -> None:
    meter = oracle(budget=1)
    clean = images(4)
    wrong = meter.record(0, clean[0])
    assert (wrong.adversarial, wrong.distance) == (False, 0.0)
    opposite = torch.lerp(clean, 1 - clean, 1.0)
    verdicts = [meter.record(row, opposite[row]) for row in range(4)]
    assert meter.queries.sum() == 0
    for row, verdict in enumerate(verdicts):
        if verdict.adversarial:
            assert float(meter.claimed_distance[row]) == pytest.approx(verdict.distance)
    assert any(verdict.adversarial for verdict in verdicts)


def test_a_targeted_criterion_wants_its_own_label() -> None:
    criterion = Targeted(torch.tensor([0, 1]), torch.tensor([2, 2]))
    assert criterion.holds(torch.tensor([1, 2]), torch.tensor([0, 1])).tolist() == [False, True]
    assert criterion.take(torch.tensor([1])).targets.tolist() == [2]


def test_freezing_leaves_no_gradient_behind_and_puts_everything_back() -> None:
    module = torch.nn.Linear(4, 2)

    class Wrapped(torch.nn.Module):
        bounds = (0.0, 1.0)

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.inner(x.flatten(1))
            return out

    wrapped = Wrapped()
    with frozen(wrapped):
        x = torch.rand(1, 1, 2, 2, requires_grad=True)
        wrapped(x).sum().backward()
    assert module.weight.grad is None
    assert module.weight.requires_grad


class Parity:
    """Label: 1 where the sum of the 8-bit values is odd. Takes floats, as every model does."""

    bounds = (0.0, 1.0)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        sums = (batch * 255).round().long().flatten(1).sum(1)
        return torch.nn.functional.one_hot(sums % 2, 2).float()


class PixelParity(Parity):
    """The same, for 8-bit images as they are."""

    def pixel_labels(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.dtype == torch.uint8
        return pixels.long().flatten(1).sum(1) % 2


@pytest.mark.parametrize("model", [Parity(), PixelParity()])
@pytest.mark.parametrize("count", [1, 5, 9])
def test_pixels_give_the_labels_counts_and_traces_of_the_same_floats(
    model: Parity, count: int
) -> None:
    generator = torch.Generator().manual_seed(count)
    clean = torch.randint(0, 256, (3, 4, 5, 2), dtype=torch.uint8, generator=generator)
    asked = torch.randint(0, 256, (count, 4, 5, 2), dtype=torch.uint8, generator=generator)
    rows = torch.arange(count) % 3

    def floats(pixels: torch.Tensor) -> torch.Tensor:
        return pixels.permute(0, 3, 1, 2).float().contiguous() / 255

    truth = model(floats(clean)).argmax(1)
    one, other = (
        Oracle(
            model,
            floats(clean),
            Misclassification(truth),
            norm="l2",
            budget=5,
            quantised=True,
            chunk=4,
        )
        for _ in range(2)
    )
    assert torch.equal(one.pixel_labels(asked, rows), other.labels(floats(asked), rows))
    assert torch.equal(one.queries, other.queries)
    assert one.traces == other.traces
    assert torch.equal(one.best, other.best)
    assert one.remaining_of([0, 1, 2]) == other.remaining().tolist()


def test_pixels_of_another_shape_or_type_are_refused_and_cost_nothing() -> None:
    meter = Oracle(
        Parity(), torch.zeros(1, 2, 4, 5), Misclassification(torch.zeros(1).long()), norm="l2"
    )
    for wrong in (torch.zeros(1, 2, 4, 5).byte(), torch.zeros(1, 4, 5, 2)):
        with pytest.raises(UsageError, match=r"wanted \(1, 4, 5, 2\) uint8"):
            meter.pixel_labels(wrong, torch.tensor([0]))
    assert meter.queries.tolist() == [0]


def test_shared_queries_may_cost_a_row_more_and_the_batch_not() -> None:
    meter = Oracle(
        Parity(),
        torch.zeros(2, 1, 2, 2),
        Misclassification(torch.zeros(2).long()),
        norm="l2",
        budget=3,
    )
    pixels = torch.zeros(4, 2, 2, 1).byte()
    meter.pixel_labels(pixels, torch.zeros(4).long(), shared=True)
    meter.waste()
    assert meter.queries.tolist() == [4, 0]
    assert meter.remaining().tolist() == [0, 1]
    with pytest.raises(BudgetExhausted):
        meter.pixel_labels(pixels[:2], torch.tensor([1, 1]))
    meter.pixel_labels(pixels[:1], torch.tensor([1]))
    assert meter.shared_remaining() == 0
    with pytest.raises(BudgetExhausted):
        meter.pixel_labels(pixels[:1], torch.tensor([0]), shared=True)
    with pytest.raises(BudgetExhausted):
        meter.waste()
    assert meter.queries.tolist() == [4, 1]
