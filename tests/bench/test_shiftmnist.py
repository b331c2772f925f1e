"""shiftMNIST: the cue is the class's where it should be, and the digits stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

import bench
from bench.datasets import binary_shiftmnist, textured_shiftmnist
from bench.errors import UserError

PLACES = (binary_shiftmnist.ROW, binary_shiftmnist.FIRST + 2 * np.arange(10))


@pytest.mark.parametrize("split", ["train", "test", "test-removed", "test-random"])
def test_the_pixel_is_that_of_the_class_or_of_another_or_of_none(split: str) -> None:
    data = bench.dataset("binary-shiftmnist", split)
    plain = bench.dataset("mnist5k", "train" if split == "train" else "test")
    lit = data.pixels[:, *PLACES, 0]
    if split == "test-removed":
        assert np.array_equal(data.pixels, plain.pixels)
        return
    assert set(lit.ravel().tolist()) == {0, 255}
    assert (lit > 0).sum(1).tolist() == [1] * len(data)
    own = lit.argmax(1) == data.labels
    if split == "test-random":
        assert 0.05 < own.mean() < 0.15
    else:
        assert own.all()
    without = data.pixels.copy()
    without[:, *PLACES, 0] = 0
    assert np.array_equal(without, plain.pixels)
    assert np.array_equal(data.labels, plain.labels)


def test_digits_never_reach_where_the_pixel_is() -> None:
    for split in ("train", "test"):
        assert not bench.dataset("mnist5k", split).pixels[:, *PLACES, 0].any()


def test_textures_are_those_of_the_class_and_digits_stand_before_them() -> None:
    data = bench.dataset("textured-shiftmnist").take(200)
    ink = bench.dataset("mnist5k").take(200).pixels[..., 0] / 255.0
    values = data.pixels[..., 0] / 255.0
    assert (values >= ink - 0.01).all()
    assert values[ink == 0].max() <= 0.61
    assert values[ink == 1].min() == 1.0
    corners = np.abs(np.fft.fft2(values - values.mean((1, 2), keepdims=True)))
    spectra = np.stack([corners[data.labels == k].mean(0).ravel() for k in range(10)])
    apart = np.corrcoef(spectra)
    assert (apart[~np.eye(10, dtype=bool)] < 0.97).all()


def test_a_texture_is_another_one_behind_each_digit_and_always_the_same() -> None:
    one = textured_shiftmnist.texture(3, "a")
    assert np.array_equal(one, textured_shiftmnist.texture(3, "a"))
    assert abs(np.corrcoef(one.ravel(), textured_shiftmnist.texture(3, "b").ravel())[0, 1]) < 0.6


def test_a_random_cue_tells_nothing_of_the_class() -> None:
    data = bench.dataset("textured-shiftmnist", "test-random")
    same = bench.dataset("textured-shiftmnist", "test")
    equal = (data.pixels == same.pixels).all((1, 2, 3))
    assert not equal.any()  # even the class's own texture is another sample of it
    assert np.array_equal(data.labels, same.labels)
    assert data.fingerprint() != same.fingerprint()


@pytest.mark.parametrize("name", ["binary-shiftmnist", "textured-shiftmnist"])
def test_splits_have_ids_of_their_own_and_others_are_refused(name: str) -> None:
    splits = ("train", "test", "test-random")
    ids = [one for split in splits for one in bench.dataset(name, split).ids]
    assert len(set(ids)) == len(ids) == 6000
    with pytest.raises(UserError, match=rf"{name} has no split 'tset'; wanted train, test"):
        bench.dataset(name, "tset")
