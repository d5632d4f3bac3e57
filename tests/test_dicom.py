"""Values of DICOM images become grey and colour by the standard's formulas, whatever their tags leave out."""

import numpy as np
import pytest

from shpeft.errors import UnreadableImage
from shpeft.images import Decoding, View, open_image, open_pixels

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.pixels import apply_windowing  # noqa: E402
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian  # noqa: E402

from .dicom_files import HOUNSFIELD, grey, in_syntax, lookup, made, scan, written  # noqa: E402

EIGHT_BITS = np.array([[20, 100, 200]], dtype=np.uint8)


def test_the_modality_lut_comes_before_any_window():
    assert grey(scan(), "-160:240").tolist() == [[0, 0], [102, 128], [255, 255]]
    assert grey(scan(), "full").tolist() == grey(scan()).tolist() == [[0, 2], [65, 68], [81, 255]]


def test_a_lookup_table_as_modality_lut():
    """Of more entries than 8 bits can count, of which the first stands for the stored value 10."""
    table = lookup([100 * entry for entry in range(300)], first=10, bits=16)
    data = made(np.array([[0, 10, 12, 400]], np.uint16), ModalityLUTSequence=table)
    assert grey(data, "0:400").tolist() == [[0, 0, 128, 255]]
    assert grey(data, "0:59800").tolist() == [[0, 0, 1, 128]]  # the last entry is 29,900


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_files_own_window_is_the_standards(function):
    data = scan(WindowCenter=[40, 600], WindowWidth=[400, 1500], VOILUTFunction=function)
    values = HOUNSFIELD.astype(np.int32) - 1024
    shown = apply_windowing(values, data)  # the library's own, in the range that the file could hold
    low, high = (shown.min(), shown.max()) if function != "SIGMOID" else (-1024, 64511)
    expected = np.round((shown - low) / (high - low) * 255)
    assert np.abs(grey(data) - expected).max() <= 1
    assert grey(data, "full").tolist() == grey(scan()).tolist()


def test_a_sigmoid_far_from_its_centre_is_black_or_white(recwarn):
    data = scan(WindowCenter=600, WindowWidth=1, VOILUTFunction="SIGMOID")
    assert grey(data).tolist() == [[0, 0], [0, 0], [0, 255]]
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_a_voi_lut_wins_over_the_window():
    data = made(
        np.array([[0, 1, 2, 3]], np.uint8), WindowCenter=2, WindowWidth=4, VOILUTSequence=lookup([255, 100, 50, 0])
    )
    assert grey(data).tolist() == [[255, 100, 50, 0]]


def test_a_voi_lut_of_many_entries_of_few_bits():
    """Positions beyond 255 must not wrap around, and those beyond the end take the last entry."""
    table = lookup([0] * 299 + [200])
    assert grey(made(np.array([[0, 298, 299, 400]], np.uint16), VOILUTSequence=table)).tolist() == [[0, 0, 200, 200]]


def test_a_voi_lut_is_in_the_units_of_the_modality_lut():
    table = lookup([0, 128, 255], first=-1)
    data = made(np.array([[0, 1, 2]], np.uint16), RescaleSlope=1, RescaleIntercept=-1, PixelRepresentation=1)
    data.VOILUTSequence = table
    data.VOILUTSequence[0].add_new("LUTDescriptor", "US", [3, 65535, 8])  # −1, as writers write it
    assert grey(data).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("nothing", [None, ""])
def test_empty_tags_are_as_good_as_none(nothing):
    data = made(HOUNSFIELD, RescaleSlope=nothing, RescaleIntercept=nothing, WindowCenter=nothing, WindowWidth=nothing)
    data.VOILUTFunction, data.VOILUTSequence, data.NumberOfFrames = nothing, [], nothing
    assert grey(data).tolist() == grey(made(HOUNSFIELD)).tolist()


def test_half_of_a_rescale_is_heeded():
    values = np.array([[0, 100, 200]], np.uint16)
    assert grey(made(values, RescaleSlope=2), "0:400").tolist() == [[0, 128, 255]]
    assert grey(made(values, RescaleIntercept=-100), "-100:100").tolist() == [[0, 128, 255]]
    assert grey(made(values, RescaleSlope=0, RescaleIntercept=0)).tolist() == [[0, 128, 255]]  # 0 means nothing


def test_a_window_without_width_is_none():
    assert grey(scan(WindowCenter=40, WindowWidth=0)).tolist() == grey(scan()).tolist()
    assert grey(scan(WindowCenter=40, WindowWidth=1)).tolist() == [[0, 0], [0, 255], [255, 255]]


def test_8_bits_are_shown_as_they_are():
    for window in ("auto", "full", "-160:240", "lung"):
        assert grey(made(EIGHT_BITS), window).tolist() == EIGHT_BITS.tolist()
        assert grey(made(EIGHT_BITS, RescaleSlope=1, RescaleIntercept=0), window).tolist() == EIGHT_BITS.tolist()
    assert grey(made(EIGHT_BITS, "MONOCHROME1")).tolist() == (255 - EIGHT_BITS).tolist()
    wide = made(EIGHT_BITS.astype(np.uint16), BitsStored=8, HighBit=7)
    assert grey(wide).tolist() == EIGHT_BITS.tolist()
    assert grey(made(np.array([[-128, 0, 127]], np.int8))).tolist() == [[0, 128, 255]]


def test_8_bits_with_a_window_or_units_are_not():
    assert grey(made(EIGHT_BITS, WindowCenter=100.5, WindowWidth=101)).tolist() == [[0, 128, 255]]
    units = made(EIGHT_BITS, RescaleSlope=10, RescaleIntercept=-1024)
    assert grey(units, "-1024:976").tolist() == [[26, 128, 255]]
    assert grey(units).tolist() == EIGHT_BITS.tolist()


def test_fewer_than_8_bits_reach_white():
    assert grey(made(np.array([[0, 31, 63]], np.uint8), BitsStored=6, HighBit=5)).tolist() == [[0, 125, 255]]
    mask = made(np.zeros((2, 8), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\x01\x80")
    assert grey(mask).tolist() == [[255] + [0] * 7, [0] * 7 + [255]]


def test_signed_values_and_monochrome1():
    values = np.array([[-100, 0, 100]], dtype=np.int16)
    assert grey(made(values)).tolist() == [[0, 128, 255]]
    assert grey(made(values, "MONOCHROME1")).tolist() == [[255, 127, 0]]


def test_padding_is_black_and_not_part_of_the_range():
    values = np.array([[-2000, 0, 50, 100]], dtype=np.int16)
    for kind, shades in (("MONOCHROME2", [0, 0, 128, 255]), ("MONOCHROME1", [0, 255, 127, 0])):
        data = made(values, kind)
        data.add_new("PixelPaddingValue", "US", 2**16 - 2000)  # as writers write it
        assert grey(data).tolist() == [shades]
    between = made(values)
    between.add_new("PixelPaddingValue", "SS", -2000)
    between.add_new("PixelPaddingRangeLimit", "SS", 0)
    assert grey(between).tolist() == [[0, 0, 0, 255]]
    everything = made(np.full((1, 3), 7, np.uint16))
    everything.add_new("PixelPaddingValue", "US", 7)
    assert grey(everything).tolist() == [[0, 0, 0]]


def test_floating_point_pixels():
    data = made(np.zeros((1, 3), np.float32))
    data.FloatPixelData = np.array([[-0.5, 0, np.nan]], np.float32).tobytes()
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    assert grey(data).tolist() == [[0, 255, 0]]


def test_colour():
    values = np.array([[[250, 10, 20], [0, 200, 90]]], dtype=np.uint8)
    assert np.asarray(open_image(written(made(values, "RGB")))).tolist() == values.tolist()
    wide = (values.astype(np.uint16) * 257).astype(np.uint16)
    assert np.asarray(open_image(written(made(wide, "RGB")))).tolist() == values.tolist()
    twelve = made(values.astype(np.uint16) * 13, "RGB", BitsStored=12, HighBit=11)
    found = open_pixels(written(twelve))
    assert np.array_equal(found.values, values.astype(np.uint16) * 13)
    assert found.view == View(0, 4095)  # all stored bits, as the standard has it
    assert np.array_equal(found.shown(), np.round(255 * (values * 13.0 / 4095)))
    for window, low, high in (("full", 0, 3250), ("500:2000", 500, 2000)):
        expected = np.round(255 * np.clip((values * 13.0 - low) / (high - low), 0, 1))
        assert np.array_equal(np.asarray(open_image(written(twelve), Decoding(window))), expected)
    assert open_pixels(written(made(values, "RGB"))).view == View(0, 255)
    planes = made(values, "RGB", PlanarConfiguration=1, PixelData=values.transpose(2, 0, 1).tobytes())
    assert np.asarray(open_image(written(planes))).tolist() == values.tolist()
    red = np.asarray(open_image(written(made(np.array([[[76, 85, 255]]], np.uint8), "YBR_FULL"))))
    assert np.abs(red - [[[254, 0, 0]]]).max() <= 2


def test_subsampled_colour_whether_it_is_or_only_says_so():
    red = np.array([[[76, 85, 255]] * 2], np.uint8)
    for pixels in (red.tobytes(), bytes([76, 76, 85, 255])):
        data = made(red, "YBR_FULL", PixelData=pixels)
        data.PhotometricInterpretation = "YBR_FULL_422"
        assert np.abs(np.asarray(open_image(written(data))) - [[[254, 0, 0]] * 2]).max() <= 2


@pytest.mark.parametrize("kind", ["YBR_PARTIAL_420", "HSV", "CMYK", "ARGB"])
def test_colours_that_would_come_out_wrong_are_refused(kind):
    data = made(np.zeros((2, 2, 3), np.uint8), "RGB")
    data.PhotometricInterpretation = kind
    with pytest.raises(UnreadableImage, match="in a way that is not read; MONOCHROME1, MONOCHROME2"):
        open_image(written(data))


def palette(positions: list[int], tables: list[bytes], count: int, bits: int, segmented: str = "") -> list:
    dtype = np.uint8 if max(positions) < 256 else np.uint16
    data = made(np.array([positions], dtype), "PALETTE COLOR")
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [count, 0, bits])
        setattr(data, f"{segmented}{name}PaletteColorLookupTableData", table)
    return np.asarray(open_image(written(data)))[0].tolist()


def sixteen(*values: int) -> bytes:
    return np.array(values, "<u2").tobytes()


def test_palettes():
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
def test_tables_and_numbers_in_the_other_byte_orders(syntax):
    """Tags are then of ambiguous kind, or turned round."""
    values = HOUNSFIELD if syntax == ImplicitVRLittleEndian else HOUNSFIELD.byteswap()
    assert grey(in_syntax(made(values, RescaleIntercept=-1024), syntax), "abdomen").tolist() == [
        [0, 0],
        [102, 128],
        [255, 255],
    ]
    table = lookup([0, 100, 200])
    if syntax == ExplicitVRBigEndian:
        table[0].add_new("LUTData", "OW", np.array([0, 100, 200], ">u2").tobytes())
    data = made(np.array([[2, 1]], ">u2" if syntax == ExplicitVRBigEndian else "<u2"), VOILUTSequence=table)
    data.PixelRepresentation = 0
    assert grey(in_syntax(data, syntax)).tolist() == [[200, 100]]
