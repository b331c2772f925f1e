"""Metamers: exact where a model can be inverted, searched for where it can't."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from attacks.errors import UsageError
from attacks.metamers import descended_metamers, judge, metameric_sampling


@dataclass
class Halves:
    """The upper half of an image decides, after a rotation that mixes all; counts its passes."""

    forward: int = 0
    back: int = 0

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.turn = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def __call__(self, images: Tensor, /) -> Tensor:
        return self.encode(images)[0]

    def encode(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        self.forward += 1
        code = images.flatten(1) @ self.turn
        return code[:, :3], code[:, 3:]

    def decode(self, semantic: Tensor, nuisance: Tensor, /) -> Tensor:
        self.back += 1
        code = torch.cat([semantic, nuisance], 1)
        return torch.matmul(code, self.turn.T).view(-1, 1, 4, 4)


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_metamer_has_the_sources_logits_and_the_donors_nuisance() -> None:
    model, own, donors = Halves(), images(), torch.tensor([3, 4, 5, 0, 1, 2])
    made = metameric_sampling(model, own, donors)
    assert (model.forward, model.back) == (1, 1)  # no search
    semantic, nuisance = model.encode(made)
    assert torch.allclose(semantic, model.encode(own)[0], atol=1e-5)
    assert torch.allclose(nuisance, model.encode(own[donors])[1], atol=1e-5)
    assert float((made - own).abs().max()) > 0.1


def test_without_donors_the_nuisance_is_drawn_from_the_prior() -> None:
    model, own = Halves(), images(500)
    made = metameric_sampling(model, own, None, seed=3)
    semantic, nuisance = model.encode(made)
    assert torch.allclose(semantic, model.encode(own)[0], atol=1e-4)
    assert abs(float(nuisance.mean())) < 0.05
    assert abs(float(nuisance.std()) - 1) < 0.05
    assert torch.equal(made, metameric_sampling(model, own, None, seed=3))
    assert not torch.equal(made, metameric_sampling(model, own, None, seed=4))


def test_a_donor_must_be_one_of_the_images() -> None:
    for donors in (torch.tensor([0, 6]), torch.tensor([0, -1]), torch.tensor([0.0, 1.0])):
        with pytest.raises(UsageError, match=r"wanted"):
            metameric_sampling(Halves(), images(2), donors)
    with pytest.raises(UsageError, match="wanted 2 indices"):
        metameric_sampling(Halves(), images(2), torch.tensor([0]))


def test_judging_tells_raw_from_clipped() -> None:
    model, own = Halves(), images(2)
    beyond = own.clone()
    beyond[1, 0, 0, 0] = 1.75
    judged = judge(model, own, beyond, batch_size=1)
    assert judged.logit_error[0] == 0
    assert judged.range_violation[0] == 0
    assert float(judged.range_violation[1]) == pytest.approx(0.75)
    assert float(judged.clipped_error[1]) < float(judged.logit_error[1])
    assert judged.same_decision.tolist()[0]
    assert judged.clipped_same_decision.tolist()[0]


def test_descent_finds_the_logits_near_the_start_and_within_bounds() -> None:
    model, own = Halves(), images(6)
    starts = own.flip(0)
    made = descended_metamers(model, own, starts, steps=400)
    judged = judge(model, own, made)
    assert float(judged.logit_error.max()) < 0.01
    assert float(made.min()) >= 0.0
    assert float(made.max()) <= 1.0
    assert float((made - starts).flatten(1).norm(dim=1).mean()) < float(
        (own - starts).flatten(1).norm(dim=1).mean()
    )


def test_descent_does_not_depend_on_the_batch() -> None:
    model, own = Halves(), images(6)
    whole = descended_metamers(model, own, own.flip(0), steps=60)
    parts = descended_metamers(model, own, own.flip(0), steps=60, batch_size=1)
    assert torch.allclose(whole, parts, atol=1e-5)


def test_descent_needs_gradients_and_a_start_for_each_image() -> None:
    class Deaf(Halves):
        def __call__(self, images: Tensor, /) -> Tensor:
            return super().__call__(images).detach()

    with pytest.raises(UsageError, match="no gradient"):
        descended_metamers(Deaf(), images(), images())
    with pytest.raises(UsageError, match="a start for each image"):
        descended_metamers(Halves(), images(3), images(2))
