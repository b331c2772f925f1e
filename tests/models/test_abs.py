"""ABS as attacks meet it: logits, gradients, reconstructions, confidences, certificates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

import attacks
import models
from attacks import perturb
from attacks.types import GenerativeModel
from bench.fingerprints import fingerprint
from bench.plugins import load_attack
from models import abs as zoo
from models.abs_vae.certificate import meeting_point
from models.abs_vae.classifier import AnalysisBySynthesis
from models.abs_vae.confidence import floor_for, modified_softmax
from models.abs_vae.convert import PUBLISHED_FLOOR
from models.abs_vae.inference import Inference
from models.abs_vae.network import Autoencoders
from models.abs_vae.public_algorithm import PublicAlgorithm
from models.errors import UsageError
from models.weights import sha256_of


def test_logits_are_scaled_costs(model: AnalysisBySynthesis, images: Tensor) -> None:
    found = model.explain(images)

    wanted = -440 / 784 * found.costs * torch.tensor([1.0, 0.98, 1.03])
    torch.testing.assert_close(model(images), wanted)


def test_what_a_class_has_decoded_is_explained_by_that_class(
    model: AnalysisBySynthesis, images: Tensor, labels: Tensor
) -> None:
    assert torch.equal(model(images).argmax(1), labels)


def test_a_gradient_is_the_change_of_the_logits_searched_for_again(
    model: AnalysisBySynthesis, images: Tensor
) -> None:
    """Central differences along the gradient itself, 0.1 long; 3 % for the search's tolerance."""
    x = images.clone().requires_grad_()
    logits = model(x)
    for label in range(model.classes):
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), x, retain_graph=True)
        steep = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        move = 0.05 * gradient / steep.view(-1, 1, 1, 1)
        measured = (model(images + move) - model(images - move))[:, label] / 0.1
        torch.testing.assert_close(measured, steep, rtol=0.03, atol=0)


def test_the_gradient_of_a_mixture_of_logits_is_the_mixture_of_gradients(
    model: AnalysisBySynthesis, images: Tensor
) -> None:
    x = images.clone().requires_grad_()
    logits = model(x)
    parts = [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)[0] for k in range(3)]
    (mixed,) = torch.autograd.grad((logits @ torch.tensor([1.0, -2.0, 0.5])).sum(), x)

    torch.testing.assert_close(mixed, parts[0] - 2 * parts[1] + 0.5 * parts[2], atol=1e-4, rtol=0)


def test_images_are_not_changed_and_nothing_but_images_gets_a_gradient(
    model: AnalysisBySynthesis, images: Tensor
) -> None:
    before = images.clone()
    assert not model(images).requires_grad
    assert torch.equal(images, before)
    assert model(images[:0]).shape == (0, 3)


def test_an_images_logits_do_not_depend_on_its_batch(
    model: AnalysisBySynthesis, images: Tensor
) -> None:
    alone = torch.cat([model(image[None]) for image in images])

    torch.testing.assert_close(model(images), alone, atol=1e-3, rtol=0)


def test_binary_abs_depends_on_the_binarised_image_only(
    binary: AnalysisBySynthesis, images: Tensor
) -> None:
    thresholded = (images >= 0.5).float()
    greyer = 0.25 + 0.5 * thresholded

    assert torch.equal(binary(images), binary(thresholded))
    assert torch.equal(binary(images), binary(greyer))


def test_the_gradient_of_binary_abs_passes_the_threshold(
    binary: AnalysisBySynthesis, images: Tensor
) -> None:
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(binary(x)[:, 1].sum(), x)

    pictures = binary.explain(images).images[:, 1].view_as(images)
    wanted = -440 / 784 * 0.98 * 2 * ((images >= 0.5).float() - pictures)
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)
    assert float(gradient.abs().max()) > 0


def test_reconstructions_are_each_classs_best(model: AnalysisBySynthesis, images: Tensor) -> None:
    logits, pictures = model.reconstruct(images)

    assert isinstance(model, GenerativeModel)
    assert torch.equal(logits, model(images))
    assert pictures.shape == (len(images), 3, 1, 28, 28)
    assert 0 <= float(pictures.min()) <= float(pictures.max()) <= 1
    away = (pictures - images.unsqueeze(1)).flatten(2).square().sum(2)
    assert torch.equal(away.argmin(1), logits.argmax(1))


def test_confidences_sum_to_one_and_are_those_of_the_modified_softmax(
    model: AnalysisBySynthesis, images: Tensor
) -> None:
    found = model.confidences(images)
    share = model(images).double().exp() + PUBLISHED_FLOOR

    torch.testing.assert_close(found.sum(1), torch.ones(len(images)))
    torch.testing.assert_close(
        found.double(), share / share.sum(1, keepdim=True), atol=1e-6, rtol=0
    )


def test_without_a_floor_confidences_are_the_plain_softmax() -> None:
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)) * 10

    torch.testing.assert_close(modified_softmax(logits, 0.0), logits.softmax(1))


def test_where_nothing_explains_all_classes_are_equally_likely() -> None:
    logits = torch.tensor([[-200.0, -150.0, -300.0], [-1e30, -1e30, -1e30]])

    torch.testing.assert_close(modified_softmax(logits, 1e-5), torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize("floor", [0.0, 1e-300, 3.9e-5, 1.0, 1e30])
def test_confidences_never_overflow(floor: float) -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e4, -2e4, -3e4], [700.0, 701.0, 0.0]])
    found = modified_softmax(logits, floor)

    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_confidences_have_a_gradient() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(lambda v: modified_softmax(v, 0.3), logits.requires_grad_())


@pytest.mark.parametrize("confidence", [0.6, 0.9])
def test_the_floor_gives_the_median_confidence_that_is_asked(confidence: float) -> None:
    logits = torch.randn(101, 10, generator=torch.Generator().manual_seed(0)) * 20 - 60

    floor = floor_for(logits, confidence)

    median = float(modified_softmax(logits.double(), floor).amax(1).median())
    assert median == pytest.approx(confidence, abs=1e-6)


def test_a_confidence_that_no_floor_gives_is_refused_with_the_mend() -> None:
    with pytest.raises(UsageError, match=r"the median confidence is .*; wanted .*scale the logits"):
        floor_for(torch.zeros(3, 10), 0.9)
    with pytest.raises(UsageError, match="got no logits"):
        floor_for(torch.zeros(0, 10))


def test_for_equal_scales_the_certificate_is_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    away, residual, prior = torch.rand(3, 200, generator=generator, dtype=torch.float64)
    away, one = 5 * away, torch.ones(200, dtype=torch.float64)

    found = meeting_point(away, residual, prior, one, one)

    paper = (away**2 - residual**2 - prior) / (2 * (away + residual))
    torch.testing.assert_close(found, paper.clamp_min(0))


def test_the_meeting_point_is_the_first_on_a_grid() -> None:
    generator = torch.Generator().manual_seed(1)
    away, residual, prior, scale, own = torch.rand(5, 300, generator=generator).double()
    away, scale, own = 4 * away, 0.8 + 0.4 * scale, 0.8 + 0.4 * own

    found = meeting_point(away, residual, prior, scale, own)

    grid = torch.arange(0, 5, 0.001, dtype=torch.float64).unsqueeze(1)
    met = own * ((residual + grid) ** 2 + prior) >= scale * (away - grid).clamp_min(0) ** 2
    first = torch.where(met, grid, 9.0).amin(0)
    assert float(found.min()) >= 0
    # Where the image has been crossed, the class costs nothing any more: the ball's edge.
    torch.testing.assert_close(found, torch.minimum(first, away), atol=0.0011, rtol=0)


def test_a_wrong_label_has_no_certificate(
    model: AnalysisBySynthesis, images: Tensor, labels: Tensor
) -> None:
    assert bool((model.certificates(images, labels) > 0).all())
    assert model.certificates(images, (labels + 1) % 3).tolist() == [0.0] * len(images)


def test_the_certificate_is_the_papers_formula_of_what_the_search_finds(
    autoencoders: Autoencoders, images: Tensor, labels: Tensor
) -> None:
    equal = zoo.assemble(autoencoders, {}, binary=False, inference="full", samples=200)
    assert isinstance(equal.inference, Inference)
    flat, rows = images.flatten(1), torch.arange(len(images))
    found, nearest = equal.explain(images), equal.inference.explain(flat, prior=0.0)
    d = (nearest.images - flat.unsqueeze(1)).square().sum(2).sqrt()
    own = found.latents[rows, labels].square().sum(1, keepdim=True) / 2
    r = (found.images[rows, labels] - flat).square().sum(1, keepdim=True).sqrt()
    bounds = (d**2 - r**2 - own) / (2 * (d + r))
    bounds[rows, labels] = torch.inf

    wanted = bounds.amin(1).clamp_min(0).double()
    torch.testing.assert_close(equal.certificates(images, labels), wanted, atol=2e-3, rtol=1e-3)


def test_no_adversarial_is_nearer_than_the_certificate(
    model: AnalysisBySynthesis, images: Tensor, labels: Tensor
) -> None:
    bound = model.certificates(images, labels)
    attack = attacks.create("latent_descent", generator=model, coarse_steps=20)

    found = perturb(attack, model, images, labels, seed=0)

    assert int(found.success.sum()) >= 10
    assert bool((found.distance.double() >= bound).all())


def test_binary_abs_has_no_certificate(
    binary: AnalysisBySynthesis, images: Tensor, labels: Tensor
) -> None:
    with pytest.raises(UsageError, match="Binary ABS has none"):
        binary.certificates(images, labels)


@pytest.mark.parametrize("inference", ["fast", "public"])
def test_a_certificate_needs_every_class_refined(
    autoencoders: Autoencoders, inference: str, images: Tensor, labels: Tensor
) -> None:
    coarse = zoo.assemble(
        autoencoders,
        {},
        binary=False,
        inference=inference,  # type: ignore[arg-type]
        samples=20,
    )

    assert coarse(images[:2]).shape == (2, 3)
    with pytest.raises(UsageError, match="wanted inference=full"):
        coarse.certificates(images, labels)


def test_the_three_inferences_decide_alike(autoencoders: Autoencoders, images: Tensor) -> None:
    full, fast, public = (
        zoo.assemble(autoencoders, {}, binary=False, inference=kind, samples=200)
        for kind in ("full", "fast", "public")
    )

    assert isinstance(public.inference, PublicAlgorithm)
    decisions = full(images).argmax(1)
    assert torch.equal(fast(images).argmax(1), decisions)
    assert torch.equal(public(images).argmax(1), decisions)


def test_the_dwarf_is_made_from_a_seed() -> None:
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    first, again, other = (zoo.create(tiny=True, samples=8, seed=s) for s in (3, 3, 4))

    assert (first.bounds, first.image_shape, first.classes) == ((0.0, 1.0), (1, 28, 28), 10)
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))
    assert fingerprint(first, "model") == fingerprint(again, "model")
    assert fingerprint(first, "model") != fingerprint(other, "model")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"samples": 0}, "got samples=0; wanted at least 1"),
        ({"inference": "quick"}, "got inference='quick'; wanted full, fast, public"),
        ({"binarise": True}, "no parameter 'binarise'; did you mean 'binary'"),
        ({"zzz": 1}, "it takes dataset, binary, inference, samples"),
    ],
)
def test_a_mistake_is_named(params: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        models.create("abs", tiny=True, **params)


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 28, 28), (2, 1, 27, 28), (2, 784)])
def test_another_shape_is_refused(model: AnalysisBySynthesis, shape: tuple[int, ...]) -> None:
    for ask in (model, model.explain, model.reconstruct, model.confidences):
        with pytest.raises(UsageError, match=r"got images of shape .*, wanted \(N, 1, 28, 28\)"):
            ask(torch.zeros(shape))


def test_bytes_are_refused_with_the_way_to_convert_them(model: AnalysisBySynthesis) -> None:
    with pytest.raises(UsageError, match=r"torch.uint8.*images.float\(\) / 255"):
        model(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


def test_weights_that_are_not_there_name_the_command_that_makes_them() -> None:
    with pytest.raises(UsageError, match="tiltyard train abs --dataset digits -M training=vae"):
        models.create("abs", dataset="digits")


def saved(network: Autoencoders, path: Path, **fields: object) -> str:
    path.write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))
    card = {"sha256": sha256_of(path), **fields}
    path.with_suffix(".json").write_text(json.dumps(card))
    return str(path)


def test_the_constants_are_those_of_the_card(tmp_path: Path) -> None:
    scales = [1.0 + 0.01 * k for k in range(10)]
    calibration = {
        "plain": {"scale": 100.0, "floor": 1e-3, "class_scales": scales},
        "binary": {"scale": 200.0, "floor": 1e-4, "class_scales": scales[::-1]},
    }
    weights = saved(zoo.build(tiny=True), tmp_path / "w.safetensors", calibration=calibration)

    plain, binary = (
        zoo.create(weights=weights, tiny=True, samples=8, binary=b) for b in (False, True)
    )

    assert (plain.scale, plain.floor, plain.binary) == (100.0, 1e-3, False)
    assert (binary.scale, binary.floor, binary.binary) == (200.0, 1e-4, True)
    torch.testing.assert_close(plain.class_scales, torch.tensor(scales))
    torch.testing.assert_close(binary.class_scales, torch.tensor(scales[::-1]))


@pytest.mark.parametrize(
    "calibration",
    [
        "nonsense",
        {"plain": {"scale": 1.0, "floor": 0.0, "class_scales": [1.0] * 10}},
        {"binary": {"scale": 1.0, "floor": 0.0, "class_scales": [1.0] * 9}},
        {"binary": {"scale": "high", "floor": 0.0, "class_scales": [1.0] * 10}},
    ],
)
def test_constants_on_the_card_that_cant_be_read_are_refused(
    tmp_path: Path, calibration: object
) -> None:
    weights = saved(zoo.build(tiny=True), tmp_path / "w.safetensors", calibration=calibration)
    with pytest.raises(UsageError, match="10 class_scales under 'binary': train or convert again"):
        zoo.create(weights=weights, tiny=True, samples=8, binary=True)


def test_without_constants_on_the_card_they_are_the_published_ones(tmp_path: Path) -> None:
    weights = saved(zoo.build(tiny=True), tmp_path / "w.safetensors")

    model = zoo.create(weights=weights, tiny=True, samples=8)

    assert (model.scale, model.floor) == (440.0, 3.9e-5)
    assert model.class_scales.tolist() == [1.0] * 10


def test_an_attack_takes_the_dwarf_as_its_generator() -> None:
    made = load_attack("latent_descent:generator=(abs:tiny=true,samples=8)", dataset="mnist5k")

    assert isinstance(vars(made)["generator"], GenerativeModel)
