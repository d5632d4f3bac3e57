"""The viewer's message and the pixels in it: stored values, windows, frames."""

import io
import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from app.widgets import viewer
from shpeft.explanation.saliency import Saliency, to_uint8
from shpeft.images import Decoding, Pixels, View, open_image, open_pixels
from tests.helpers.dicom_files import HOUNSFIELD, PATIENT, dicom_bytes, dicom_of, items, lookup, scan
from tests.helpers.image_files import png

RNG = np.random.default_rng(0)


def file(values: npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def header(message: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<I", message)
    decoded: dict[str, Any] = json.loads(message[4 : 4 + length])
    return decoded


FILES = {
    "8 bits": file(RNG.integers(0, 256, (5, 7), np.uint8)),
    "colors": file(RNG.integers(0, 256, (5, 7, 3), np.uint8)),
    "16 bits": file(RNG.integers(0, 65536, (5, 7), np.uint16)),
    "floating point": file(RNG.normal(size=(5, 7)).astype(np.float32), "TIFF"),
    "white is zero": file(RNG.integers(0, 65536, (5, 7), np.uint16), "TIFF", tiffinfo={262: 0}),
    "CT": dicom_bytes(scan(WindowCenter=[40, -600], WindowWidth=[400, 1500], PixelPaddingValue=4000)),
    "CT without a window": dicom_bytes(scan()),
    "sigmoid": dicom_bytes(scan(WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID")),
    "VOI LUT": dicom_bytes(scan(VOILUTSequence=lookup([0, 10, 200, 255], first=0))),
    "modality LUT": dicom_bytes(dicom_of(HOUNSFIELD, ModalityLUTSequence=lookup([5, 9, 40000], first=24, bits=16))),
    "inverted": dicom_bytes(dicom_of(HOUNSFIELD, "MONOCHROME1", PixelPaddingValue=24)),
    "8 bits, DICOM": dicom_bytes(dicom_of(HOUNSFIELD.astype(np.uint8), RescaleSlope=2, RescaleIntercept=-5)),
    "signed": dicom_bytes(dicom_of(HOUNSFIELD.astype(np.int16) - 1000)),
    "colors of 16 bits": png(RNG.integers(0, 65536, (5, 7, 3), np.uint16)),
    "colors of 16 bits, DICOM": dicom_bytes(
        dicom_of(RNG.integers(0, 4096, (4, 6, 3), np.uint16), "RGB", BitsStored=12)
    ),
    "colors, DICOM": dicom_bytes(dicom_of(RNG.integers(0, 256, (4, 6, 3), np.uint8), "RGB")),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("window", ["auto", "full", "-100:1000"])
def test_without_a_window_pixels_are_the_image_that_the_model_sees(name: str, window: str) -> None:
    pixels = open_pixels(FILES[name], Decoding(window)).to_uint8()
    expected = np.asarray(open_image(FILES[name], Decoding(window)))
    assert np.array_equal(pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, -1), expected)


def test_all_bits_are_preserved() -> None:
    values = RNG.integers(0, 65536, (5, 7), np.uint16)
    pixels = open_pixels(file(values))
    assert pixels.values.dtype == np.uint16
    assert np.array_equal(pixels.values, values)
    assert open_pixels(FILES["floating point"]).values.dtype == np.float32
    ct = open_pixels(FILES["CT"])
    assert np.array_equal(ct.values, HOUNSFIELD)
    units = np.array([[-1024, -1000], [0, 40], [240, np.nan]])
    assert np.array_equal(ct.units(ct.values), units, equal_nan=True)


def test_windows_of_the_file_and_requested_windows() -> None:
    ct = open_pixels(FILES["CT"])
    assert ct.file_views == (View(-160, 239, integers=True), View(-1350, 149, integers=True))
    assert ct.view == ct.file_views[0]
    assert (ct.full_range.low, ct.full_range.high) == (-1024, 240)  # without the padding
    assert open_pixels(FILES["CT"], Decoding("lung")).view == View(-1350, 150)
    assert open_pixels(FILES["CT"], Decoding("full")).view == ct.full_range
    assert open_pixels(FILES["8 bits"]).full_range == View(0, 255)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, True),
        ({"RescaleType": "HU"}, True),
        ({"RescaleType": "US"}, False),
        ({"Modality": "MR"}, False),
        ({"Modality": "MR", "RescaleType": "HU"}, True),
    ],
)
def test_ct_windows_are_offered_for_hounsfield_units_only(tags: dict[str, object], expected: bool) -> None:
    pixels = open_pixels(dicom_bytes(scan(**tags)))
    assert pixels.hounsfield == expected
    assert any(name.startswith("CT") for name, _ in viewer.window_presets(pixels)) == expected


def test_hounsfield_units_of_an_enhanced_file() -> None:
    shared = items(PixelValueTransformationSequence=items(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU"))
    assert open_pixels(
        dicom_bytes(dicom_of(HOUNSFIELD, Modality="PT", SharedFunctionalGroupsSequence=shared))
    ).hounsfield


def test_frames_are_counted_and_one_is_read() -> None:
    frames = RNG.integers(0, 4096, (5, 3, 2), np.uint16)
    data = dicom_bytes(dicom_of(frames))
    assert (open_pixels(data).frame, open_pixels(data).frames) == (2, 5)
    pixels = open_pixels(data, Decoding(frame=4))
    assert (pixels.frame, pixels.frames) == (4, 5)
    assert np.array_equal(pixels.values, frames[4])
    stack = io.BytesIO()
    pages = [Image.fromarray(page) for page in frames]
    pages[0].save(stack, "TIFF", save_all=True, append_images=pages[1:])
    pixels = open_pixels(stack.getvalue(), Decoding(frame=3))
    assert (pixels.frame, pixels.frames) == (3, 5)
    assert np.array_equal(pixels.values, frames[3])


def test_the_message_has_the_values_and_no_patient() -> None:
    saliency = Saliency("saliency", 0, np.array([[0, 1, 3], [2, 4, 0]], np.float32), None, 0.0)
    message = viewer.viewer_message(open_pixels(FILES["CT"]), "1234", saliency, "healthy")
    fields = header(message)
    assert PATIENT.encode() not in message
    assert (fields["image"], fields["unit"], fields["type"], fields["blank"]) == ("1234", "HU", "uint16", [4000, 4000])
    assert message.endswith(HOUNSFIELD.astype("<u2").tobytes() + to_uint8(saliency.map).tobytes())
    assert (fields["map"]["height"], fields["map"]["width"]) == (2, 3)
    assert fields["map"]["caption"].startswith("Where the score is sensitive, not where disease is. ")
    assert [view["name"] for view in fields["views"]] == [
        *("As the model sees it", "From the file, 1", "From the file, 2"),
        *("CT lung", "CT bone", "CT soft tissue", "CT liver", "CT brain", "CT subdural", "CT stroke", "All values"),
    ]


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "uint32", "float32", "float64", ">u2", "int64"])
def test_values_have_a_type_that_browsers_support(kind: str) -> None:
    values = np.array([[0, 1]]).astype(kind)
    name, data = Pixels(values).little_endian()
    assert np.array_equal(np.frombuffer(data, np.dtype(name).newbyteorder("<")).reshape(1, 2), values)
