"""Pixels before any window: what a file keeps, how it may be shown, and what the viewer's page is given."""

import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shpeft.images import Decoding, Pixels, View, open_image, open_pixels
from shpeft.saliency import Saliency, levels
from tests.dicom_files import HOUNSFIELD, PATIENT, items, lookup, made, scan, written
from tests.image_files import png

sys.path.append(str(Path(__file__).parents[1] / "app"))
import viewer

RNG = np.random.default_rng(0)


def file(values: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def header(packed: bytes) -> dict:
    (length,) = struct.unpack_from("<I", packed)
    return json.loads(packed[4 : 4 + length])


FILES = {
    "8 bits": file(RNG.integers(0, 256, (5, 7), np.uint8)),
    "colours": file(RNG.integers(0, 256, (5, 7, 3), np.uint8)),
    "16 bits": file(RNG.integers(0, 65536, (5, 7), np.uint16)),
    "floating point": file(RNG.normal(size=(5, 7)).astype(np.float32), "TIFF"),
    "white is zero": file(RNG.integers(0, 65536, (5, 7), np.uint16), "TIFF", tiffinfo={262: 0}),
    "CT": written(scan(WindowCenter=[40, -600], WindowWidth=[400, 1500], PixelPaddingValue=4000)),
    "CT without a window": written(scan()),
    "sigmoid": written(scan(WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID")),
    "VOI LUT": written(scan(VOILUTSequence=lookup([0, 10, 200, 255], first=0))),
    "modality LUT": written(made(HOUNSFIELD, ModalityLUTSequence=lookup([5, 9, 40000], first=24, bits=16))),
    "inverted": written(made(HOUNSFIELD, "MONOCHROME1", PixelPaddingValue=24)),
    "8 bits, DICOM": written(made(HOUNSFIELD.astype(np.uint8), RescaleSlope=2, RescaleIntercept=-5)),
    "signed": written(made(HOUNSFIELD.astype(np.int16) - 1000)),
    "colours of 16 bits": png(RNG.integers(0, 65536, (5, 7, 3), np.uint16)),
    "colours of 16 bits, DICOM": written(made(RNG.integers(0, 4096, (4, 6, 3), np.uint16), "RGB", BitsStored=12)),
    "colours, DICOM": written(made(RNG.integers(0, 256, (4, 6, 3), np.uint8), "RGB")),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("window", ["auto", "full", "-100:1000"])
def test_shown_as_they_come_pixels_are_the_image_that_a_model_sees(name, window):
    found = open_pixels(FILES[name], Decoding(window)).shown()
    expected = np.asarray(open_image(FILES[name], Decoding(window)))
    assert np.array_equal(found if found.ndim == 3 else found[..., None].repeat(3, -1), expected)


def test_all_bits_are_kept():
    values = RNG.integers(0, 65536, (5, 7), np.uint16)
    found = open_pixels(file(values))
    assert found.values.dtype == np.uint16
    assert np.array_equal(found.values, values)
    assert open_pixels(FILES["floating point"]).values.dtype == np.float32
    ct = open_pixels(FILES["CT"])
    assert np.array_equal(ct.values, HOUNSFIELD)
    assert np.array_equal(ct.units(ct.values), [[-1024, -1000], [0, 40], [240, np.nan]], equal_nan=True)


def test_what_the_file_offers_and_what_is_asked_for():
    ct = open_pixels(FILES["CT"])
    assert ct.filed == (View(-160, 239, integers=True), View(-1350, 149, integers=True))
    assert ct.view == ct.filed[0]
    assert (ct.whole.low, ct.whole.high) == (-1024, 240)  # without the padding
    assert open_pixels(FILES["CT"], Decoding("lung")).view == View(-1350, 150)
    assert open_pixels(FILES["CT"], Decoding("full")).view == ct.whole
    assert open_pixels(FILES["8 bits"]).whole == View(0, 255)


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
def test_windows_of_computed_tomography_are_offered_for_hounsfield_units_only(tags, expected):
    found = open_pixels(written(scan(**tags)))
    assert found.hounsfield == expected
    assert any(name.startswith("CT") for name, _ in viewer.presets(found)) == expected


def test_hounsfield_units_of_an_enhanced_file():
    shared = items(PixelValueTransformationSequence=items(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU"))
    assert open_pixels(written(made(HOUNSFIELD, Modality="PT", SharedFunctionalGroupsSequence=shared))).hounsfield


def test_frames_are_counted_and_one_is_read():
    frames = RNG.integers(0, 4096, (5, 3, 2), np.uint16)
    data = written(made(frames))
    assert (open_pixels(data).frame, open_pixels(data).frames) == (2, 5)
    found = open_pixels(data, Decoding(frame=4))
    assert (found.frame, found.frames) == (4, 5)
    assert np.array_equal(found.values, frames[4])
    stack = io.BytesIO()
    pages = [Image.fromarray(page) for page in frames]
    pages[0].save(stack, "TIFF", save_all=True, append_images=pages[1:])
    found = open_pixels(stack.getvalue(), Decoding(frame=3))
    assert (found.frame, found.frames) == (3, 5)
    assert np.array_equal(found.values, frames[3])


def test_the_page_is_given_the_values_and_no_patient():
    saliency = Saliency("saliency", 0, np.array([[0, 1], [2, 4]], np.float32), None, 0.0)
    packed = viewer.packed(open_pixels(FILES["CT"]), "1234", saliency, "healthy")
    found = header(packed)
    assert PATIENT.encode() not in packed
    assert (found["image"], found["unit"], found["type"], found["blank"]) == ("1234", "HU", "uint16", [4000, 4000])
    assert packed.endswith(HOUNSFIELD.astype("<u2").tobytes() + levels(saliency.map).tobytes())
    assert found["map"]["caption"].startswith("Where the score is sensitive, not where disease is. ")
    assert [view["name"] for view in found["views"]] == [
        *("As the model sees it", "From the file, 1", "From the file, 2"),
        *("CT lung", "CT bone", "CT soft tissue", "CT liver", "CT brain", "CT subdural", "CT stroke", "All values"),
    ]


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "uint32", "float32", "float64", ">u2", "int64"])
def test_values_have_a_type_that_browsers_have(kind):
    values = np.array([[0, 1]]).astype(kind)
    name, data = Pixels(values).little_endian()
    assert np.array_equal(np.frombuffer(data, np.dtype(name).newbyteorder("<")).reshape(1, 2), values)
