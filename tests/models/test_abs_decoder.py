"""The folded decoders are the networks that were trained, and their gradients are autograd's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models import abs as zoo
from models.abs_vae.decoder import PIXELS, Decoders
from models.abs_vae.network import LATENTS, VAE, Autoencoders


def latents(n: int, groups: int, seed: int = 0) -> Tensor:
    return torch.randn(n, groups, LATENTS, generator=torch.Generator().manual_seed(seed))


def plain(network: Autoencoders, z: Tensor) -> Tensor:
    """(m, G, 784) by the modules as they were trained."""
    decoded = [vae.decode(z[:, k]).flatten(1) for k, vae in enumerate(network)]
    return torch.stack(decoded, dim=1)


def test_a_vae_has_the_published_numbers_of_parameters() -> None:
    network = zoo.build()

    assert len(list(network)) == 10
    for vae in network:
        assert sum(p.numel() for p in vae.parameters()) == 85_361
        assert sum(p.numel() for p in vae.decoder.parameters()) == 23_745


def test_the_sides_of_the_maps_are_the_published_ones() -> None:
    vae = VAE()
    sides: list[int] = []
    for stack in (vae.encoder, vae.decoder):
        for place in range(4):
            stack.get_submodule(f"conv_{place}").register_forward_hook(
                lambda module, inputs, out: sides.append(out.shape[-1])
            )

    vae.encode(torch.zeros(2, 1, 28, 28))
    # The transposed convolutions of a decoder are called as functions, and no hook sees them.
    trace = Decoders.of([vae.eval()]).decode(latents(2, 1))

    assert sides == [24, 11, 5, 1]
    assert [part.shape[-1] for part in trace[:3]] == [4, 11, 25]
    assert trace.images.shape == (2, 1, PIXELS)


def test_training_gives_an_image_a_mean_and_a_log_variance() -> None:
    vae = VAE(narrow=8).eval()
    images, noise = torch.rand(3, 1, 28, 28), torch.randn(3, LATENTS)

    again, mean, log_variance = vae(images, noise)

    assert again.shape == images.shape
    assert mean.shape == log_variance.shape == (3, LATENTS)
    torch.testing.assert_close(again, vae.decode(mean + noise * (log_variance / 2).exp()))


def test_folding_the_batch_norm_changes_nothing(
    autoencoders: Autoencoders, decoders: Decoders
) -> None:
    z = latents(7, decoders.groups)

    torch.testing.assert_close(decoders.decode(z).images, plain(autoencoders, z), atol=1e-5, rtol=0)


def test_the_way_back_is_that_of_autograd(autoencoders: Autoencoders, decoders: Decoders) -> None:
    z = latents(5, decoders.groups).requires_grad_()
    change = torch.randn(5, decoders.groups, PIXELS, generator=torch.Generator().manual_seed(1))
    (wanted,) = torch.autograd.grad(plain(autoencoders, z), z, change)

    trace = decoders.decode(z.detach())
    got = decoders.pull_back(trace, change)

    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [[0], [2, 0], [1, 1, 2]])
def test_some_classes_are_taken_in_the_order_that_was_asked(
    decoders: Decoders, classes: list[int]
) -> None:
    z = latents(4, decoders.groups)
    whole = decoders.decode(z)

    taken = decoders.take(classes)
    part = taken.decode(z[:, classes])

    assert taken.groups == len(classes)
    torch.testing.assert_close(part.images, whole.images[:, classes], atol=1e-6, rtol=1e-5)
    change = 2 * (whole.images - 0.5)
    torch.testing.assert_close(
        taken.pull_back(part, change[:, classes]),
        decoders.pull_back(whole, change)[:, classes],
        atol=1e-4,
        rtol=1e-4,
    )


def test_later_changes_of_the_vaes_do_not_matter(autoencoders: Autoencoders) -> None:
    vae = VAE(narrow=8).eval()
    folded = Decoders.of([vae])
    before = folded.decode(latents(2, 1)).images.clone()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()

    assert torch.equal(folded.decode(latents(2, 1)).images, before)
