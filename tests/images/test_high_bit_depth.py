"""Ordinary image files of more than 8 bits: values in the units of the file, and which end is white."""

import tracemalloc
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shpeft.errors import ConfigError, UnreadableImage
from shpeft.images import Decoding, open_image
from shpeft.images.decoding import BLOCK, to_8_bits
from tests.helpers.image_files import tiff

TWELVE_BITS = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(data: bytes, window: str = "auto") -> Any:
    pixels = np.asarray(open_image(data, Decoding(window)))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].tolist()


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", ">i2", "<u4", "<i4", ">i4", "<f4", ">f4"])
def test_gray_is_scaled_by_its_own_range_or_by_a_window(dtype: str) -> None:
    data = tiff(np.array([[1000, 1500], [2000, 3000]], dtype))
    assert shown(data) == shown(data, "full") == [[0, 64], [128, 255]]
    assert shown(data, "1500:2500") == [[0, 0], [128, 255]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_16_bits_in_every_kind_of_file_that_has_them(kind: str) -> None:
    data = encoded(Image.fromarray(TWELVE_BITS), kind)
    assert shown(data) == [[0, 64], [128, 255]]
    assert shown(data, "0:2000") == [[0, 128], [255, 255]]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(compression: str) -> None:
    assert shown(encoded(Image.fromarray(TWELVE_BITS), "TIFF", compression=compression)) == [[0, 64], [128, 255]]


def test_windows_of_values_below_zero() -> None:
    data = encoded(Image.fromarray(np.array([[-1000, -160], [40, 3000]], dtype=np.int32)), "TIFF")
    for window in ("-160:240", "abdomen"):
        assert shown(data, window) == [[0, 0], [128, 255]]
    with pytest.raises(ConfigError, match=r"There is no window 'abdomn'.*Did you mean abdomen"):
        Decoding("abdomn")
    with pytest.raises(ConfigError, match="is empty"):
        Decoding("5:5")


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<f4"])
def test_white_is_zero_is_inverted(dtype: str) -> None:
    data = tiff(np.array([[0, 51], [102, 255]], dtype), photometric=0)
    assert shown(data) == [[255, 204], [153, 0]]
    if dtype != "u1":
        assert shown(data, "0:102") == [[255, 127], [0, 0]]


def test_unsigned_32_bit_values_do_not_become_negative() -> None:
    assert shown(tiff(np.array([[0, 2**31, 2**32 - 1]], "<u4"))) == [[0, 128, 255]]


def test_signed_8_bit_gray() -> None:
    assert shown(tiff(np.array([[-128, -1, 0, 127]], "i1"))) == [[0, 127, 128, 255]]


def test_unsupported_tiffs_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="in separate planes"):
        open_image(tiff(np.full((2, 2, 3), 700, "<u2"), planar=2))
    for values in (
        np.zeros((2, 2), "<f8"),
        np.zeros((2, 2), "<f2"),
        np.zeros((2, 2, 3), "<f4"),
        np.zeros((2, 2), "<u8"),
    ):
        with pytest.raises(UnreadableImage, match=r"kind of TIFF is not supported\. Save it as gray with 8"):
            open_image(tiff(values))


def test_a_transparent_value_is_black_and_not_part_of_the_range() -> None:
    values = np.array([[65535, 1000], [2000, 3000]], np.uint16)
    assert shown(encoded(Image.fromarray(values), transparency=65535)) == [[0, 0], [128, 255]]


@pytest.mark.parametrize("most", [4095, 1023, 65535])
def test_values_of_a_pgm_are_not_rescaled(most: int) -> None:
    values = np.array([[0, 250, 500, 1000]], ">u2")
    binary = b"P5 4 1 %d\n" % most + values.tobytes()
    plain = b"P2 4 1 %d\n0 250 500 1000\n" % most
    for data in (binary, plain):
        assert shown(data, "0:500") == [[0, 128, 255, 255]]


@pytest.mark.parametrize(("depth", "zero"), [(11, 2**15 - 2**11), (0x80 | 11, 2**15), (0x80 | 15, 2**15)])
def test_values_of_a_jpeg_2000_of_other_depths_are_not_rescaled(depth: int, zero: int) -> None:
    """The depth in the header sets the shift of the values, so any depth can be made from a 16-bit file."""
    values = np.random.default_rng(0).integers(-1000, 1000, (32, 32)) if depth & 0x80 else TWELVE_BITS.astype(int)
    data = bytearray(encoded(Image.fromarray((zero + values).astype(np.uint16)), "JPEG2000"))
    at = data.index(b"\xff\x4f\xff\x51") + 42
    assert data[at] == 15
    data[at] = depth
    assert shown(bytes(data), "-500:1500") == to_8_bits(values, (-500, 1500)).tolist()


def test_flat_or_broken_float_values_do_not_fail() -> None:
    assert shown(encoded(Image.fromarray(np.full((3, 3), 700, np.uint16)))) == [[0] * 3] * 3
    assert shown(encoded(Image.fromarray(np.full((3, 3), np.nan, np.float32)), "TIFF")) == [[0] * 3] * 3
    infinite = np.array([[np.nan, -np.inf, np.inf, 1e-30, 3e-30]], np.float32)
    assert shown(encoded(Image.fromarray(infinite), "TIFF")) == [[0, 0, 0, 0, 255]]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("limits", [None, (-3.0, 100.0)])
def test_blockwise_conversion_equals_the_formula(inverted: bool, limits: tuple[float, float] | None) -> None:
    """More values than a block holds give the result of the formula without blocks."""
    values = np.random.default_rng(0).integers(-1000, 1000, BLOCK + 5).astype(np.int16)
    values[-1] = 1500
    low, high = limits or (values.min(), values.max())
    expected = np.round(255 * np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)).astype(np.uint8)
    assert (to_8_bits(values, limits, inverted=inverted) == (255 - expected if inverted else expected)).all()


def test_a_large_image_is_not_held_in_double_precision() -> None:
    values = np.zeros((4096, 4096), np.uint16)
    tracemalloc.start()
    try:
        to_8_bits(values)
        assert tracemalloc.get_traced_memory()[1] < values.size + 8 * 8 * BLOCK
    finally:
        tracemalloc.stop()
