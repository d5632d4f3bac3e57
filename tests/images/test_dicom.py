"""Values of DICOM images become gray and color by the formulas of the standard, even if tags are missing."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft.errors import UnreadableImage
from shpeft.images import Decoding, View, open_image, open_pixels

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.pixels import apply_windowing  # noqa: E402
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian  # noqa: E402

from tests.helpers.dicom_files import HOUNSFIELD, dicom_bytes, dicom_of, gray_values, in_syntax, lookup, scan  # noqa: E402

EIGHT_BITS = np.array([[20, 100, 200]], dtype=np.uint8)


def test_the_modality_lut_comes_before_any_window() -> None:
    assert gray_values(scan(), "-160:240").tolist() == [[0, 0], [102, 128], [255, 255]]
    assert gray_values(scan(), "full").tolist() == gray_values(scan()).tolist() == [[0, 2], [65, 68], [81, 255]]


def test_a_lookup_table_as_modality_lut() -> None:
    """A table of more than 256 entries, whose first entry belongs to the stored value 10."""
    table = lookup([100 * entry for entry in range(300)], first=10, bits=16)
    data = dicom_of(np.array([[0, 10, 12, 400]], np.uint16), ModalityLUTSequence=table)
    assert gray_values(data, "0:400").tolist() == [[0, 0, 128, 255]]
    assert gray_values(data, "0:59800").tolist() == [[0, 0, 1, 128]]  # the last entry is 29,900


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_window_of_the_file_follows_the_standard(function: str) -> None:
    data = scan(WindowCenter=[40, 600], WindowWidth=[400, 1500], VOILUTFunction=function)
    values = HOUNSFIELD.astype(np.int32) - 1024
    shown = apply_windowing(values, data)  # the library's own, in the range that the file could hold
    low, high = (shown.min(), shown.max()) if function != "SIGMOID" else (-1024, 64511)
    expected = np.round((shown - low) / (high - low) * 255)
    assert np.abs(gray_values(data) - expected).max() <= 1
    assert gray_values(data, "full").tolist() == gray_values(scan()).tolist()


def test_a_sigmoid_far_from_its_center_is_black_or_white(recwarn: pytest.WarningsRecorder) -> None:
    data = scan(WindowCenter=600, WindowWidth=1, VOILUTFunction="SIGMOID")
    assert gray_values(data).tolist() == [[0, 0], [0, 0], [0, 255]]
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_a_voi_lut_wins_over_the_window() -> None:
    data = dicom_of(
        np.array([[0, 1, 2, 3]], np.uint8), WindowCenter=2, WindowWidth=4, VOILUTSequence=lookup([255, 100, 50, 0])
    )
    assert gray_values(data).tolist() == [[255, 100, 50, 0]]


def test_a_voi_lut_of_many_entries_of_few_bits() -> None:
    """Indices above 255 do not wrap around, and those past the end take the last entry."""
    table = lookup([0] * 299 + [200])
    assert gray_values(dicom_of(np.array([[0, 298, 299, 400]], np.uint16), VOILUTSequence=table)).tolist() == [
        [0, 0, 200, 200]
    ]


def test_a_voi_lut_is_in_the_units_of_the_modality_lut() -> None:
    table = lookup([0, 128, 255], first=-1)
    data = dicom_of(np.array([[0, 1, 2]], np.uint16), RescaleSlope=1, RescaleIntercept=-1, PixelRepresentation=1)
    data.VOILUTSequence = table
    data.VOILUTSequence[0].add_new("LUTDescriptor", "US", [3, 65535, 8])  # −1, as writers write it
    assert gray_values(data).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("nothing", [None, ""])
def test_empty_tags_equal_missing_ones(nothing: str | None) -> None:
    data = dicom_of(
        HOUNSFIELD, RescaleSlope=nothing, RescaleIntercept=nothing, WindowCenter=nothing, WindowWidth=nothing
    )
    data.VOILUTFunction, data.VOILUTSequence, data.NumberOfFrames = nothing, [], nothing
    assert gray_values(data).tolist() == gray_values(dicom_of(HOUNSFIELD)).tolist()


def test_slope_or_intercept_alone_is_applied() -> None:
    values = np.array([[0, 100, 200]], np.uint16)
    assert gray_values(dicom_of(values, RescaleSlope=2), "0:400").tolist() == [[0, 128, 255]]
    assert gray_values(dicom_of(values, RescaleIntercept=-100), "-100:100").tolist() == [[0, 128, 255]]
    assert gray_values(dicom_of(values, RescaleSlope=0, RescaleIntercept=0)).tolist() == [
        [0, 128, 255]
    ]  # 0 means nothing


def test_a_window_of_zero_width_is_ignored() -> None:
    assert gray_values(scan(WindowCenter=40, WindowWidth=0)).tolist() == gray_values(scan()).tolist()
    assert gray_values(scan(WindowCenter=40, WindowWidth=1)).tolist() == [[0, 0], [0, 255], [255, 255]]


def test_8_bit_values_are_unchanged() -> None:
    for window in ("auto", "full", "-160:240", "lung"):
        assert gray_values(dicom_of(EIGHT_BITS), window).tolist() == EIGHT_BITS.tolist()
        assert (
            gray_values(dicom_of(EIGHT_BITS, RescaleSlope=1, RescaleIntercept=0), window).tolist()
            == EIGHT_BITS.tolist()
        )
    assert gray_values(dicom_of(EIGHT_BITS, "MONOCHROME1")).tolist() == (255 - EIGHT_BITS).tolist()
    wide = dicom_of(EIGHT_BITS.astype(np.uint16), BitsStored=8, HighBit=7)
    assert gray_values(wide).tolist() == EIGHT_BITS.tolist()
    assert gray_values(dicom_of(np.array([[-128, 0, 127]], np.int8))).tolist() == [[0, 128, 255]]


def test_8_bit_values_with_a_window_or_units_are_rescaled() -> None:
    assert gray_values(dicom_of(EIGHT_BITS, WindowCenter=100.5, WindowWidth=101)).tolist() == [[0, 128, 255]]
    units = dicom_of(EIGHT_BITS, RescaleSlope=10, RescaleIntercept=-1024)
    assert gray_values(units, "-1024:976").tolist() == [[26, 128, 255]]
    assert gray_values(units).tolist() == EIGHT_BITS.tolist()


def test_fewer_than_8_bits_reach_white() -> None:
    assert gray_values(dicom_of(np.array([[0, 31, 63]], np.uint8), BitsStored=6, HighBit=5)).tolist() == [[0, 125, 255]]
    mask = dicom_of(np.zeros((2, 8), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\x01\x80")
    assert gray_values(mask).tolist() == [[255] + [0] * 7, [0] * 7 + [255]]


def test_signed_values_and_monochrome1() -> None:
    values = np.array([[-100, 0, 100]], dtype=np.int16)
    assert gray_values(dicom_of(values)).tolist() == [[0, 128, 255]]
    assert gray_values(dicom_of(values, "MONOCHROME1")).tolist() == [[255, 127, 0]]


def test_padding_is_black_and_not_part_of_the_range() -> None:
    values = np.array([[-2000, 0, 50, 100]], dtype=np.int16)
    for kind, shades in (("MONOCHROME2", [0, 0, 128, 255]), ("MONOCHROME1", [0, 255, 127, 0])):
        data = dicom_of(values, kind)
        data.add_new("PixelPaddingValue", "US", 2**16 - 2000)  # as writers write it
        assert gray_values(data).tolist() == [shades]
    between = dicom_of(values)
    between.add_new("PixelPaddingValue", "SS", -2000)
    between.add_new("PixelPaddingRangeLimit", "SS", 0)
    assert gray_values(between).tolist() == [[0, 0, 0, 255]]
    everything = dicom_of(np.full((1, 3), 7, np.uint16))
    everything.add_new("PixelPaddingValue", "US", 7)
    assert gray_values(everything).tolist() == [[0, 0, 0]]


def test_floating_point_pixels() -> None:
    data = dicom_of(np.zeros((1, 3), np.float32))
    data.FloatPixelData = np.array([[-0.5, 0, np.nan]], np.float32).tobytes()
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    assert gray_values(data).tolist() == [[0, 255, 0]]


def test_color() -> None:
    values = np.array([[[250, 10, 20], [0, 200, 90]]], dtype=np.uint8)
    assert np.asarray(open_image(dicom_bytes(dicom_of(values, "RGB")))).tolist() == values.tolist()
    wide = (values.astype(np.uint16) * 257).astype(np.uint16)
    assert np.asarray(open_image(dicom_bytes(dicom_of(wide, "RGB")))).tolist() == values.tolist()
    twelve = dicom_of(values.astype(np.uint16) * 13, "RGB", BitsStored=12, HighBit=11)
    pixels = open_pixels(dicom_bytes(twelve))
    assert np.array_equal(pixels.values, values.astype(np.uint16) * 13)
    assert pixels.view == View(0, 4095)  # all stored bits, as the standard has it
    assert np.array_equal(pixels.to_uint8(), np.round(255 * (values * 13.0 / 4095)))
    for window, low, high in (("full", 0, 3250), ("500:2000", 500, 2000)):
        expected = np.round(255 * np.clip((values * 13.0 - low) / (high - low), 0, 1))
        assert np.array_equal(np.asarray(open_image(dicom_bytes(twelve), Decoding(window))), expected)
    assert open_pixels(dicom_bytes(dicom_of(values, "RGB"))).view == View(0, 255)
    planes = dicom_of(values, "RGB", PlanarConfiguration=1, PixelData=values.transpose(2, 0, 1).tobytes())
    assert np.asarray(open_image(dicom_bytes(planes))).tolist() == values.tolist()
    red = np.asarray(open_image(dicom_bytes(dicom_of(np.array([[[76, 85, 255]]], np.uint8), "YBR_FULL"))))
    assert np.abs(red - [[[254, 0, 0]]]).max() <= 2


def test_subsampled_color_whether_real_or_only_declared() -> None:
    red = np.array([[[76, 85, 255]] * 2], np.uint8)
    for pixels in (red.tobytes(), bytes([76, 76, 85, 255])):
        data = dicom_of(red, "YBR_FULL", PixelData=pixels)
        data.PhotometricInterpretation = "YBR_FULL_422"
        assert np.abs(np.asarray(open_image(dicom_bytes(data))) - [[[254, 0, 0]] * 2]).max() <= 2


@pytest.mark.parametrize("kind", ["YBR_PARTIAL_420", "HSV", "CMYK", "ARGB"])
def test_unsupported_color_spaces_are_refused(kind: str) -> None:
    data = dicom_of(np.zeros((2, 2, 3), np.uint8), "RGB")
    data.PhotometricInterpretation = kind
    with pytest.raises(UnreadableImage, match="in an unsupported way; MONOCHROME1, MONOCHROME2"):
        open_image(dicom_bytes(data))


def palette(positions: list[int], tables: list[bytes], count: int, bits: int, segmented: str = "") -> Any:
    dtype = np.uint8 if max(positions) < 256 else np.uint16
    data = dicom_of(np.array([positions], dtype), "PALETTE COLOR")
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [count, 0, bits])
        setattr(data, f"{segmented}{name}PaletteColorLookupTableData", table)
    return np.asarray(open_image(dicom_bytes(data)))[0].tolist()


def sixteen(*values: int) -> bytes:
    return np.array(values, "<u2").tobytes()


def test_palettes() -> None:
    wide = [sixteen(0, 65535), sixteen(257 * 30, 0), sixteen(0, 257 * 9)]
    assert palette([0, 1], wide, 2, 16) == [[0, 30, 0], [255, 0, 9]]
    narrow = [bytes([0, 255]), bytes([30, 0]), bytes([0, 9])]
    assert palette([0, 1, 300], narrow, 2, 8) == [[0, 30, 0], [255, 0, 9], [255, 0, 9]]  # the last entry goes on
    in_wide = [sixteen(*table) for table in narrow]
    assert palette([0, 1], in_wide, 2, 8) == [[0, 30, 0], [255, 0, 9]]
    many = [bytes(entry // 2 for entry in range(512))] * 3
    assert palette([0, 300, 511], many, 512, 8) == [[0] * 3, [150] * 3, [255] * 3]
    ramp = [sixteen(0, 1, 0, 1, 2, 65535)] * 3  # discrete: one value, 0; linear: two steps up to the end
    assert palette([0, 1, 2], ramp, 3, 16, "Segmented") == [[0] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_tables_and_numbers_in_the_other_byte_orders(syntax: UID) -> None:
    """Their tags have an ambiguous value representation or swapped bytes."""
    values = HOUNSFIELD if syntax == ImplicitVRLittleEndian else HOUNSFIELD.byteswap()
    assert gray_values(in_syntax(dicom_of(values, RescaleIntercept=-1024), syntax), "abdomen").tolist() == [
        [0, 0],
        [102, 128],
        [255, 255],
    ]
    table = lookup([0, 100, 200])
    if syntax == ExplicitVRBigEndian:
        table[0].add_new("LUTData", "OW", np.array([0, 100, 200], ">u2").tobytes())
    data = dicom_of(np.array([[2, 1]], ">u2" if syntax == ExplicitVRBigEndian else "<u2"), VOILUTSequence=table)
    data.PixelRepresentation = 0
    assert gray_values(in_syntax(data, syntax)).tolist() == [[200, 100]]


def test_what_pydicom_says_about_tags_reaches_no_log(tmp_path: Path) -> None:
    """Python prints warnings and the messages of loggers that nobody configured."""
    data = scan(SpecificCharacterSet="SMITH_JOHN")
    (tmp_path / "scan.dcm").write_bytes(dicom_bytes(data))
    code = "import sys; from shpeft.images import open_image; open_image(sys.argv[1])"
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "scan.dcm")], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
