"""Colours of 16 bits: no bit is lost before the window is applied, which is one for all channels."""

import sys
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from shpeft.errors import UnreadableImage
from shpeft.images import Decoding, open_image, open_pixels

from .wide_files import png, tiff

VALUES = np.random.default_rng(0).integers(0, 4096, (5, 7, 3)).astype(np.uint16)
VALUES[0, 0, 0] = 4095  # twelve bits, all of them in use


def windowed(values: np.ndarray, low: float, high: float) -> list:
    """The plain arithmetic."""
    return np.round(255 * np.clip((values.astype(float) - low) / (high - low), 0, 1)).astype(int).tolist()


def read(data: bytes, window: str = "auto", frame: int | None = None) -> list:
    return np.asarray(open_image(data, Decoding(window, frame))).tolist()


def by_tifffile(values: np.ndarray, **options: object) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", **options)
    return buffer.getvalue()


EVERY_KIND = {
    "PNG": png(VALUES, 2),
    "TIFF": tiff(VALUES.astype("<u2")),
    "big endian": tiff(VALUES.astype(">u2")),
    "in planes": by_tifffile(VALUES.transpose(2, 0, 1), planarconfig="separate"),
    "LZW": by_tifffile(VALUES, compression="lzw", predictor=True),
    "deflate": by_tifffile(VALUES, compression="zlib"),
    "tiles": by_tifffile(VALUES, tile=(16, 16)),
    "BigTIFF": by_tifffile(VALUES, bigtiff=True),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_all_bits_count(kind):
    """Shown from 0 to 4095, what twelve bits can hold; the upper 8 of 16 bits alone would be nearly black."""
    assert read(EVERY_KIND[kind]) == read(EVERY_KIND[kind], "full") == windowed(VALUES, 0, 4095)
    assert read(EVERY_KIND[kind], "1000:1100") == windowed(VALUES, 1000, 1100)
    assert open_pixels(EVERY_KIND[kind]).shown().tolist() == windowed(VALUES, 0, 4095)


def test_the_bits_in_use_decide_and_not_one_image_s_exposure():
    for highest, top in ((65535, 65535), (32768, 65535), (5000, 8191), (4095, 4095), (255, 255), (3, 3)):
        values = np.array([[[highest, highest // 2, 0]]], np.uint16)
        assert read(png(values, 2)) == windowed(values, 0, top)
    assert read(png(np.zeros((1, 1, 3), np.uint16), 2)) == [[[0, 0, 0]]]


def test_transparency_is_laid_on_black():
    alpha = np.random.default_rng(1).integers(0, 65536, (5, 7, 1))
    alpha[0, :2, 0] = 0, 65535
    straight = np.concatenate([VALUES, alpha], axis=-1)
    wanted = windowed(VALUES * (alpha / 65535), 0, 4095)
    assert wanted[0][0] == [0, 0, 0]
    assert read(png(straight, 6)) == wanted
    assert read(tiff(straight.astype("<u2"), extra=2)) == wanted
    for kind in (0, 1):  # no transparency, and values that are multiplied already
        assert read(tiff(straight.astype("<u2"), extra=kind)) == windowed(VALUES, 0, 4095)


def test_a_colour_that_stands_for_transparency_is_black():
    key = VALUES[2, 3].astype(">u2").tobytes()
    wanted = windowed(VALUES, 0, 4095)
    wanted[2][3] = [0, 0, 0]
    assert read(png(VALUES, 2, tRNS=key)) == wanted


def test_grey_with_transparency_keeps_its_bits():
    grey, alpha = np.array([[1000, 3000, 60000]]), np.array([[65535, 65535, 0]])
    data = png(np.stack([grey, alpha], axis=-1), 4)
    assert open_pixels(data).values.tolist()[0][:2] == [1000, 3000]
    assert [pixel[0] for pixel in read(data)[0]] == [0, 255, 0]  # what cannot be seen is no part of the range
    assert [pixel[0] for pixel in read(data, "0:3000")[0]] == [85, 255, 0]


@pytest.mark.parametrize("turn", range(1, 9))
def test_it_is_turned_as_exif_says(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = np.stack([np.asarray(turned(VALUES[..., c], turn)) for c in range(3)], axis=-1)
    wanted = windowed(upright, 0, 4095)
    assert read(png(VALUES, 2, eXIf=exif.tobytes().removeprefix(b"Exif\0\0"))) == wanted
    assert read(by_tifffile(VALUES, extratags=[(0x0112, 3, 1, turn, True)])) == wanted


def turned(channel: np.ndarray, turn: int) -> Image.Image:
    image = Image.fromarray(channel)
    image.getexif()[0x0112] = turn
    return ImageOps.exif_transpose(image)


def test_a_page_of_several():
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in (VALUES, VALUES[:3]):
            writer.write(page, photometric="rgb", metadata=None)
    assert read(buffer.getvalue(), frame=1) == windowed(VALUES[:3], 0, 4095)
    found = open_pixels(buffer.getvalue(), Decoding(frame=1))
    assert (found.frame, found.frames) == (1, 2)
    with pytest.raises(UnreadableImage, match="frame 2 was asked for"):
        read(buffer.getvalue(), frame=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_what_reads_all_bits_is_an_extra(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(UnreadableImage, match=r"colours of 16 bits.*pip install 'shpeft\[deepcolour\]'"):
        open_image(EVERY_KIND[kind])


def test_a_damaged_file_is_a_sentence():
    for data in (EVERY_KIND["PNG"][:-40], EVERY_KIND["LZW"][:60], tiff(VALUES.astype("<u2"))[:100]):
        with pytest.raises(UnreadableImage, match="cannot be read as an image"):
            open_image(data)
