"""16-bit color, and 16-bit gray with transparency: no bit is lost, and one window serves all channels."""

import struct
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from shpeft.errors import UnreadableImage
from shpeft.images import Decoding, open_image, open_pixels
from tests.helpers.image_files import png, tiff

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 65536, (11, 9, 3), np.uint16)
SENSOR = RNG.integers(100, 4096, (11, 9, 3), np.uint16)
CLEAR = RNG.integers(0, 65536, (11, 9, 4), np.uint16)
CLEAR[:4, ..., 3] = 0
CLEAR[4:8, ..., 3] = 65535


def formula(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the values scaled by the documented formula, without blocks."""
    level: np.ndarray = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.round(255 * level).astype(np.uint8)


def on_black(values: np.ndarray) -> np.ndarray:
    """Return the channels times their opacity, rounded to the nearest integer."""
    opaque: np.ndarray = np.rint(values[..., :-1].astype(np.float64) * values[..., -1:] / 65535).astype(np.uint16)
    return opaque


FILES: dict[str, tuple[Callable[[np.ndarray], bytes], np.ndarray]] = {
    "PNG": (png, COLORS),
    "PNG of 12 bits": (png, SENSOR),
    "PNG, interlaced": (lambda values: png(values, interlaced=True), COLORS),
    "TIFF": (tiff, SENSOR),
    "TIFF, the other order": (lambda values: tiff(values.astype(">u2")), SENSOR),
    "TIFF, deflated": (lambda values: tiff(values, deflated=True), COLORS),
    "TIFF, deflated, the other order": (lambda values: tiff(values.astype(">u2"), deflated=True), COLORS),
    "TIFF, differences": (lambda values: tiff(values, deflated=True, predictor=2), COLORS),
    "PPM": (lambda values: b"P6 9 11 65535\n" + values.astype(">u2").tobytes(), COLORS),
    "PPM of 12 bits": (lambda values: b"P6 9 11 4095\n" + values.astype(">u2").tobytes(), SENSOR),
}


@pytest.mark.parametrize("name", FILES)
def test_every_bit_is_read_and_one_window_serves_all_channels(name: str) -> None:
    write, values = FILES[name]
    data = write(values)
    pixels = open_pixels(data)
    assert np.array_equal(pixels.values, values)
    assert pixels.values.dtype == np.uint16
    assert (pixels.view.low, pixels.view.high) == (0, values.max())
    for window, limits in (("auto", (0, values.max())), ("full", (0, values.max())), ("1000:3000", (1000, 3000))):
        expected = formula(values, *limits)
        assert np.array_equal(np.asarray(open_image(data, Decoding(window))), expected)
        assert np.array_equal(open_pixels(data, Decoding(window)).to_uint8(), expected)


@pytest.mark.parametrize("write", [png, tiff, lambda v: tiff(v, deflated=True), lambda v: tiff(v.astype(">u2"))])
def test_transparency_is_composited_on_black(write: Callable[[np.ndarray], bytes]) -> None:
    assert np.array_equal(open_pixels(write(CLEAR)).values, on_black(CLEAR))
    assert not np.asarray(open_image(write(CLEAR)))[:4].any()


def test_other_meanings_of_a_fourth_channel() -> None:
    premultiplied = np.concatenate([on_black(CLEAR), CLEAR[..., 3:]], axis=-1)
    assert np.array_equal(open_pixels(tiff(premultiplied, extra=1)).values, on_black(CLEAR))
    assert np.array_equal(open_pixels(tiff(CLEAR, extra=2)).values, on_black(CLEAR))
    assert np.array_equal(open_pixels(tiff(CLEAR, extra=0)).values, CLEAR[..., :3])  # not declared as transparency


def test_a_transparent_color_becomes_black() -> None:
    values = COLORS.copy()
    values[0, 0] = values[5, 5] = 300, 2, 65535
    expected = values.copy()
    expected[0, 0] = expected[5, 5] = 0
    assert np.array_equal(open_pixels(png(values, clear=(300, 2, 65535))).values, expected)


def test_gray_with_transparency() -> None:
    values = np.array([[[65535, 0], [1000, 65535]], [[2000, 65535], [3000, 65535]]], np.uint16)
    pixels = open_pixels(png(values))
    assert (pixels.view.low, pixels.view.high) == (1000, 3000)  # transparent pixels do not count for the range
    assert pixels.to_uint8().tolist() == [[0, 0], [128, 255]]
    assert open_pixels(png(values), Decoding("0:2000")).to_uint8().tolist() == [[0, 128], [255, 255]]
    half = np.stack([np.full((3, 4), 40001), np.full((3, 4), 32768)], axis=-1).astype(np.uint16)
    assert np.array_equal(open_pixels(png(half)).values, on_black(half)[..., 0])


@given(
    arrays(np.uint16, (4, 5, 3), elements=st.integers(0, 65535)),
    st.integers(-1000, 65534),
    st.integers(1, 70000),
    st.sampled_from([png, tiff]),
)
def test_values_outside_a_window_are_clipped_as_in_gray(
    values: np.ndarray, low: int, width: int, write: Callable[[np.ndarray], bytes]
) -> None:
    """Each channel equals the same values in a gray file; nothing wraps around, and order is preserved."""
    window = Decoding(f"{low}:{low + width}")
    shown = np.asarray(open_image(write(values), window))
    assert (shown[values >= low + width] == 255).all()
    assert (shown[values <= low] == 0).all()
    for channel in range(3):
        gray = BytesIO()
        Image.fromarray(np.ascontiguousarray(values[..., channel])).save(gray, "PNG")
        assert np.array_equal(shown[..., channel], np.asarray(open_image(gray.getvalue(), window))[..., 0])
    top = np.asarray(open_image(write(values)))
    assert np.array_equal(top == 255, np.round(255 * (values / max(values.max(), 1))) == 255)  # none but the highest


def test_images_are_upright() -> None:
    turned = tiff(COLORS, orientation=6)
    assert np.array_equal(open_pixels(turned).values, np.rot90(COLORS, -1))


def test_of_several_pages_one_is_read() -> None:
    first, second = tiff(COLORS), bytearray(tiff(SENSOR))
    assert open_pixels(bytes(second)).frames == 1
    stack = _two_pages(first, SENSOR)
    for frame, values in ((0, COLORS), (1, SENSOR)):
        pixels = open_pixels(stack, Decoding(frame=frame))
        assert (pixels.frame, pixels.frames) == (frame, 2)
        assert np.array_equal(pixels.values, values)


def _two_pages(first: bytes, values: np.ndarray) -> bytes:
    """Return a TIFF of two pages: the second directory, its offsets shifted, follows the first."""
    second = bytearray(tiff(values))
    shift = len(first) - 8
    (directory,) = struct.unpack_from("<I", second, 4)
    (count,) = struct.unpack_from("<H", second, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from("<HHI", second, at)
        if tag == 273 or number * (2 if kind == 3 else 4) > 4:
            struct.pack_into("<I", second, at + 8, struct.unpack_from("<I", second, at + 8)[0] + shift)
    return first[:-4] + struct.pack("<I", directory + shift) + bytes(second[8:])


def test_formats_that_would_lose_bits_are_refused() -> None:
    jpeg_2000 = BytesIO()
    Image.fromarray(COLORS.astype(np.uint8)).save(jpeg_2000, "JPEG2000")
    deeper = bytearray(jpeg_2000.getvalue())
    at = deeper.index(b"\xff\x4f\xff\x51") + 42
    deeper[at : at + 9 : 3] = b"\x0f" * 3
    for data, said in (
        (bytes(deeper), "colors of more than 8 bits in JPEG 2000; save it as a PNG or a TIFF"),
        (b"P3 1 1 4095 9 9 4000\n", "colors of more than 8 bits as text"),
        (tiff(CLEAR, photometric=5), "16-bit CMYK colors; save it as RGB"),
        (tiff(COLORS, planar=2), "in separate planes"),
        (png(COLORS)[:-40], "is damaged"),
    ):
        with pytest.raises(UnreadableImage, match=said):
            open_image(data)
    with pytest.raises(UnreadableImage, match=r"16 bits per channel, of which Pillow keeps 8\. Give its path"):
        open_image(Image.open(BytesIO(png(COLORS))))
