"""Pictures, read back by an independent decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bench.reports import images


def decoded(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_very_pixels(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    assert np.array_equal(decoded(images.png(pixels)), pixels.squeeze())


def test_floats_are_refused_with_what_was_wanted() -> None:
    with pytest.raises(ValueError, match=r"float64 .* wanted uint8 \(H, W, C\)"):
        images.png(np.zeros((2, 2, 1)))  # type: ignore[arg-type]


def test_a_perturbation_is_signed_and_its_largest_change_fills_the_range() -> None:
    original = np.array([[[100], [100], [100]]], dtype=np.uint8)
    adversarial = np.array([[[110], [95], [100]]], dtype=np.uint8)
    picture, scale = images.perturbation(original, adversarial)
    assert scale == pytest.approx(12.7)
    assert picture.ravel().tolist() == [255, 64, 128]


def test_a_perturbation_across_the_whole_range_does_not_wrap() -> None:
    black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    assert images.perturbation(black, white)[0].ravel().tolist() == [255] * 3
    assert images.perturbation(white, black)[0].ravel().tolist() == [1] * 3


def test_no_change_is_grey_and_not_enlarged() -> None:
    same = np.full((2, 2, 1), 9, np.uint8)
    picture, scale = images.perturbation(same, same)
    assert (scale, picture.ravel().tolist()) == (1.0, [128] * 4)


def test_a_stored_float_image_is_rounded_for_display() -> None:
    stored = np.array([[[0.0], [0.5], [1.0], [1.00001]]], dtype=np.float32)
    assert images.to_pixels(stored).ravel().tolist() == [0, 128, 255, 255]
