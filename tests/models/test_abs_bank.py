"""The samples of the prior: drawn alike everywhere, found as brute force does, kept on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.abs_vae import bank as module
from models.abs_vae.bank import DIRECTIONS, Bank, bank_of, decoded, draw, make
from models.abs_vae.decoder import Decoders


def whole(decoders: Decoders, bank: Bank) -> Tensor:
    """(C, S, 784): all decoded images, as they are not kept."""
    return torch.stack([decoded(decoders.take([c]), bank.latents) for c in range(decoders.groups)])


def test_latents_are_drawn_by_the_seed_and_the_unlikeliest_tenth_is_left_out() -> None:
    first, again, other = draw(900, 5), draw(900, 5), draw(900, 6)
    everything = torch.randn(1000, 8, generator=torch.Generator().manual_seed(5))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (900, 8)
    kept = everything.square().sum(1).sort().values[:900]
    torch.testing.assert_close(first.square().sum(1), kept)


def test_the_published_number_of_samples_is_drawn_from_8888() -> None:
    # 8,000 / 0.9 = 8,888.9, of which the public code takes the whole part.
    everything = torch.randn(8888, 8, generator=torch.Generator().manual_seed(1234))
    longest = everything.square().sum(1).sort().values[7999]

    torch.testing.assert_close(draw(8000).square().sum(1).max(), longest)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_the_nearest_sample_is_the_one_of_brute_force_or_as_good(
    decoders: Decoders, bank: Bank, images: Tensor, prior: float
) -> None:
    flat = images.flatten(1)
    energy = prior / 2 * bank.latents.square().sum(1)
    costs = (whole(decoders, bank) - flat.view(-1, 1, 1, 784)).square().sum(3) + energy

    found = bank.nearest(flat, prior)

    assert found.shape == (len(images), decoders.groups)
    assert (found == costs.argmin(2)).double().mean() > 0.9
    excess = costs.gather(2, found.unsqueeze(2)).squeeze(2) - costs.amin(2)
    assert float((excess / costs.amin(2)).max()) < 0.05


def test_no_images_have_no_nearest_samples(bank: Bank) -> None:
    assert bank.nearest(torch.zeros(0, 784), 1.0).shape == (0, len(bank.energies))


def test_the_energies_are_exact_and_the_directions_orthonormal(
    decoders: Decoders, bank: Bank
) -> None:
    images = whole(decoders, bank)

    torch.testing.assert_close(bank.energies, images.square().sum(2), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        bank.directions.t() @ bank.directions, torch.eye(DIRECTIONS), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(bank.coordinates, images @ bank.directions, rtol=1e-4, atol=1e-4)


def test_the_directions_hold_most_of_what_the_images_are(decoders: Decoders, bank: Bank) -> None:
    images = whole(decoders, bank)
    rest = images - bank.coordinates @ bank.directions.t()

    assert float(rest.square().sum() / images.square().sum()) < 0.01


def test_the_metric_is_the_mean_of_twice_the_squared_jacobian(
    decoders: Decoders,
) -> None:
    single, measured = decoders.take([1]), draw(3)
    rows = []
    for z in measured:
        # Row by row: the gradients of the pixels are those of 784 unit changes.
        trace = single.decode(z.expand(784, 1, 8))
        rows.append(single.pull_back(trace, torch.eye(784).unsqueeze(1))[:, 0])
    jacobian = torch.stack(rows)
    wanted = 2 * (jacobian.transpose(1, 2) @ jacobian).mean(0)

    made = make(single, len(measured))  # so few are all measured
    torch.testing.assert_close(made.metrics[0], wanted, rtol=0.02, atol=0.02)


def test_the_inverse_hessians_invert_metric_and_prior(bank: Bank) -> None:
    product = bank.inverse_hessians(1.0) @ (bank.metrics + torch.eye(8))

    torch.testing.assert_close(product, torch.eye(8).expand_as(product), rtol=0, atol=1e-4)
    assert bool(torch.isfinite(bank.inverse_hessians(0.0)).all())


def test_the_same_decoders_give_the_same_bank(decoders: Decoders) -> None:
    first, again = make(decoders, 60), make(decoders, 60)

    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in vars(first))


def test_the_published_size_takes_an_eighth_of_the_whole_images() -> None:
    c, s, k = 10, 8000, DIRECTIONS
    full = Bank(*(torch.empty(n, device="meta") for n in (s * 8, 784 * k, c * s * k, c * s, 640)))

    assert full.megabytes == pytest.approx(31.6, abs=0.1)
    assert c * s * 784 * 4 / 1e6 == pytest.approx(251, abs=0.5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path))
    return tmp_path / "banks"


def test_a_bank_is_made_once_and_read_again(
    decoders: Decoders, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bank_of(decoders, 50)
    assert len(list(folder.iterdir())) == 1

    def never(decoders: Decoders, samples: int) -> Bank:
        raise AssertionError("it is on disk")

    monkeypatch.setattr(module, "make", never)
    read = bank_of(decoders, 50)

    assert all(torch.equal(getattr(made, name), getattr(read, name)) for name in vars(made))


@pytest.mark.parametrize("damage", [b"", b"no safetensors", b"half"])
def test_a_damaged_bank_on_disk_is_made_again(
    decoders: Decoders, folder: Path, damage: bytes
) -> None:
    made = bank_of(decoders, 50)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == b"half" else damage)

    again = bank_of(decoders, 50)

    assert torch.equal(again.coordinates, made.coordinates)
    assert file.read_bytes() == whole


def test_other_weights_and_other_numbers_of_samples_have_banks_of_their_own(
    decoders: Decoders, folder: Path
) -> None:
    bank_of(decoders, 50)
    bank_of(decoders, 51)
    bank_of(decoders.take([0, 1]), 50)

    assert len(list(folder.iterdir())) == 3


def test_a_cache_that_cannot_be_written_costs_time_only(
    decoders: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "file"))

    assert bank_of(decoders, 50).latents.shape == (50, 8)
