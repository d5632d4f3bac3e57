"""The size, the frame and the window of an image that its model gets, beside what the transform does."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shpeft.images import Decoding, InputTransform, open_pixels
from shpeft.images.model_view import model_view
from shpeft.images.transform import RESAMPLING
from tests.helpers.dicom_files import dicom_bytes, dicom_of, scan

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("size", [(40, 24), (24, 40), (9, 31), (16, 16)])
def test_the_whole_image_is_resized(size: tuple[int, int], interpolation: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    image, transform = Image.fromarray(noise), InputTransform(16, HALF, HALF, interpolation)
    expected = image.resize((16, 16), RESAMPLING[interpolation], (0, 0, *size))
    assert torch.equal(transform.pixels(image), torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_input_that_is_no_square() -> None:
    image, transform = Image.effect_noise((40, 24), 80).convert("RGB"), InputTransform("8x16", HALF, HALF)
    expected = image.resize((16, 8), RESAMPLING["bicubic"], (0, 0, 40, 24))
    assert torch.equal(transform.pixels(image), torch.from_numpy(np.array(expected)).permute(2, 0, 1))
    assert model_view(open_pixels(image), transform) == "The model gets the whole image at 16 × 8 pixels."


def test_every_edge_of_the_image_reaches_the_model() -> None:
    transform, gray = InputTransform(16, HALF, HALF), np.full((40, 24, 3), 90, np.uint8)
    before = transform.pixels(Image.fromarray(gray))
    for row, column in ((0, 0), (0, 23), (39, 0), (39, 23)):
        changed = gray.copy()
        changed[row, column] = 255
        assert not torch.equal(transform.pixels(Image.fromarray(changed)), before)


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({}, ", window center 976, width 4000"),
        ({"WindowCenter": 40, "WindowWidth": 400}, ", window center 40, width 400"),
        (
            {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
            ", window center 40, width 400",
        ),
        (
            {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"},
            ", sigmoid window center 40, width 400",
        ),
    ],
)
def test_sentence_names_the_window_in_the_units_of_the_file(tags: dict[str, Any], window: str) -> None:
    pixels = open_pixels(dicom_bytes(scan(**tags)), Decoding())
    unit = " HU" if pixels.hounsfield else ""
    sentence = f"The model gets the whole image at 16 × 16 pixels{window}{unit}."
    assert model_view(pixels, InputTransform(16, HALF, HALF)) == sentence


def test_sentence_names_the_frame_of_several() -> None:
    pixels = open_pixels(dicom_bytes(dicom_of(np.zeros((3, 8, 8), np.uint8))), Decoding(frame=2))
    assert model_view(pixels, InputTransform(16, HALF, HALF)) == (
        "The model gets the whole image at 16 × 16 pixels, frame 3 of 3."
    )
