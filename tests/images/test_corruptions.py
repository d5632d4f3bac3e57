"""Corruptions of images against slow twins: single pixels, the standard library's HSV and Pillow's JPEG."""

import colorsys
import io
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from shpeft.images.corruptions import SIDE, Corruption, corrupt

RNG = np.random.default_rng(0)
IMAGE = Image.fromarray(RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
GRAY = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_noise_has_its_deviation_and_follows_from_the_case() -> None:
    mild = corrupt(GRAY, "gaussian_noise", 1, "a")
    assert np.std(pixels(mild)) / 255 == pytest.approx(0.08, rel=0.02)  # 150,528 values
    assert np.array_equal(pixels(mild), pixels(corrupt(GRAY, "gaussian_noise", 1, "a")))
    other = pixels(corrupt(GRAY, "gaussian_noise", 1, "b"))
    assert abs(np.corrcoef(pixels(mild).ravel(), other.ravel())[0, 1]) < 0.02


def test_brightness_raises_the_value_of_hsv_alone() -> None:
    bright, own = pixels(corrupt(IMAGE, "brightness", 2)), pixels(IMAGE)
    for row, column in RNG.integers(0, SIDE, (50, 2)):
        h, s, v = colorsys.rgb_to_hsv(*(own[row, column] / 255))
        expected = np.array(colorsys.hsv_to_rgb(h, s, min(v + 0.2, 1))) * 255
        assert np.abs(bright[row, column] - expected).max() <= 0.5 + 1e-9  # rounding to whole values
    black = corrupt(Image.new("RGB", (8, 8)), "brightness", 1)
    assert black.getpixel((0, 0)) == (26, 26, 26)


def test_contrast_shrinks_distances_from_each_channels_mean() -> None:
    own = pixels(IMAGE)
    mean = own.mean((0, 1))
    assert np.abs(pixels(corrupt(IMAGE, "contrast", 3)) - (mean + 0.2 * (own - mean))).max() <= 0.5 + 1e-9


def test_blur_is_a_normalized_gaussian() -> None:
    """A white column becomes the kernel's profile: sigma 2 at severity 2."""
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    image[:, 100] = 255
    weights = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    profile = pixels(corrupt(Image.fromarray(image), "gaussian_blur", 2))[50, 92:109, 0]
    assert np.abs(profile - 255 * weights / weights.sum()).max() <= 0.5 + 1e-6


def test_jpeg_is_pillows_at_the_quality_of_the_severity() -> None:
    buffer = io.BytesIO()
    IMAGE.save(buffer, "JPEG", quality=7)
    assert np.array_equal(pixels(corrupt(IMAGE, "jpeg_compression", 5)), pixels(Image.open(buffer)))


@pytest.mark.parametrize("corruption", get_args(Corruption))
def test_severities_go_further_from_the_image(corruption: Corruption) -> None:
    image = Image.fromarray(np.indices((SIDE, SIDE)).sum(0).repeat(3).reshape(SIDE, SIDE, 3).astype(np.uint8) // 2)
    own = pixels(image)
    distances = [np.abs(pixels(corrupt(image, corruption, severity)) - own).mean() for severity in range(1, 6)]
    assert distances == sorted(distances)
    assert distances[0] > 0
    assert len(set(distances)) == 5


def test_unknown_corruptions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no corruption 'fog' of severity 1.*gaussian_noise"):
        corrupt(GRAY, "fog", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of severity 6"):
        corrupt(GRAY, "contrast", 6)
