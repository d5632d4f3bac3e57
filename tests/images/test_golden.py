"""Golden images: each kind of file decodes to pixels whose digest is stored here.

The pixel cache of every user holds decoded pixels under ``DECODER_VERSION``. If the decoder changes a pixel and the
constant stays, users keep the old pixels; this test fails before that happens.
"""

import hashlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from shpeft.datasets.duplicates import HASH_VERSION, look
from shpeft.images import DECODER_VERSION, Decoding, InputTransform, open_image, open_pixels
from tests.helpers.dicom_files import dicom_bytes, dicom_of, lookup, scan
from tests.helpers.image_files import png, tiff

VERSIONS = (2, 1)
"""``DECODER_VERSION`` and ``HASH_VERSION`` for which the digests below were recorded."""

CHANGED = (
    "{name} decodes to other pixels than recorded (digest {digest}). If that is intended, raise DECODER_VERSION in "
    "shpeft/images/decoding.py (or HASH_VERSION in shpeft/datasets/duplicates.py), so that no user's cache serves the "
    "old pixels, and record the new version and digests in tests/images/test_golden.py."
)

ROWS, COLUMNS = np.mgrid[:16, :24]
GRAY_8 = (9 * ROWS + 4 * COLUMNS).astype(np.uint8)
GRAY_16 = (2500 * ROWS + 1000 * COLUMNS).astype(np.uint16)
COLOR_8 = np.stack([GRAY_8, GRAY_8[::-1], 255 - GRAY_8], axis=-1)
COLOR_16 = np.stack([GRAY_16, GRAY_16[::-1], GRAY_16[:, ::-1]], axis=-1)
ALPHA_16 = np.concatenate([COLOR_16, GRAY_16[..., None]], axis=-1)
FLAT = np.repeat(np.repeat(np.dstack([GRAY_8[::8, ::8]] * 3), 8, axis=0), 8, axis=1)
"""Blocks of one gray level each, which every JPEG decoder reads exactly."""


def encoded(values: np.ndarray, kind: str, **options: object) -> bytes:
    """Return an image file written by Pillow."""
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    """Return a TIFF whose orientation tag asks for a quarter turn."""
    return tiff(GRAY_16, orientation=6)


def color_dicom() -> bytes:
    """Return a DICOM file in RGB."""
    return dicom_bytes(dicom_of(COLOR_8, "RGB"))


FILES: dict[str, tuple[Callable[[], bytes], Decoding]] = {
    "PNG, 8-bit gray": (lambda: encoded(GRAY_8, "PNG"), Decoding()),
    "PNG, 8-bit color": (lambda: encoded(COLOR_8, "PNG"), Decoding()),
    "PNG, 8-bit color with transparency": (lambda: encoded(np.dstack([COLOR_8, GRAY_8]), "PNG"), Decoding()),
    "PNG, palette": (lambda: palette_png(), Decoding()),
    "PNG, 16-bit gray": (lambda: encoded(GRAY_16, "PNG"), Decoding()),
    "PNG, 16-bit gray, window": (lambda: encoded(GRAY_16, "PNG"), Decoding("5000:30000")),
    "PNG, 16-bit color": (lambda: png(COLOR_16), Decoding()),
    "PNG, 16-bit color, window": (lambda: png(COLOR_16), Decoding("5000:30000")),
    "PNG, 16-bit color with transparency": (lambda: png(ALPHA_16), Decoding()),
    "PNG, 16-bit gray with transparency": (lambda: png(ALPHA_16[..., [0, 3]]), Decoding()),
    "TIFF, 8-bit color": (lambda: encoded(COLOR_8, "TIFF"), Decoding()),
    "TIFF, 16-bit gray": (lambda: tiff(GRAY_16), Decoding()),
    "TIFF, 16-bit gray, white is zero": (lambda: tiff(GRAY_16, photometric=0), Decoding()),
    "TIFF, 16-bit gray, turned": (turned, Decoding()),
    "TIFF, 16-bit color": (lambda: tiff(COLOR_16.astype(">u2"), deflated=True), Decoding()),
    "TIFF, 32-bit unsigned": (lambda: tiff(GRAY_16.astype(np.uint32) * 60000), Decoding()),
    "TIFF, 32-bit float": (lambda: tiff(GRAY_16.astype(np.float32) / 7), Decoding()),
    "JPEG": (lambda: encoded(FLAT, "JPEG", quality=100, subsampling=0), Decoding()),
    "JPEG 2000": (lambda: encoded(COLOR_8, "JPEG2000"), Decoding()),
    "WebP": (lambda: encoded(COLOR_8, "WEBP", lossless=True), Decoding()),
    "BMP": (lambda: encoded(COLOR_8, "BMP"), Decoding()),
    "GIF": (lambda: encoded(GRAY_8, "GIF"), Decoding()),
    "PPM": (lambda: encoded(COLOR_8, "PPM"), Decoding()),
    "DICOM, CT": (lambda: dicom_bytes(scan()), Decoding()),
    "DICOM, CT, its own window": (lambda: dicom_bytes(scan(WindowCenter=40, WindowWidth=400)), Decoding()),
    "DICOM, CT, lung window": (lambda: dicom_bytes(scan()), Decoding("lung")),
    "DICOM, sigmoid window": (
        lambda: dicom_bytes(scan(WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID")),
        Decoding(),
    ),
    "DICOM, lookup table": (
        lambda: dicom_bytes(dicom_of(GRAY_8, VOILUTSequence=lookup([255 - i * i // 255 for i in range(256)]))),
        Decoding(),
    ),
    "DICOM, MONOCHROME1": (lambda: dicom_bytes(dicom_of(GRAY_16, "MONOCHROME1")), Decoding()),
    "DICOM, signed with padding": (
        lambda: dicom_bytes(dicom_of((GRAY_16 // 2).astype(np.int16) - 2000, PixelPaddingValue=-2000)),
        Decoding(),
    ),
    "DICOM, color": (color_dicom, Decoding()),
    "DICOM, 16-bit color": (lambda: dicom_bytes(dicom_of(COLOR_16, "RGB", BitsStored=16)), Decoding()),
    "DICOM, frame 1 of 2": (
        lambda: dicom_bytes(dicom_of(np.stack([GRAY_16, GRAY_16.T.reshape(16, 24)]))),
        Decoding(frame=1),
    ),
}

DIGESTS = {
    "PNG, 8-bit gray": "822b0c57562501f1",
    "PNG, 8-bit color": "e2c1a1afe6472a02",
    "PNG, 8-bit color with transparency": "471ca36636c30648",
    "PNG, palette": "14f5f7f4508b3ee4",
    "PNG, 16-bit gray": "9e7fcf4b6e81008c",
    "PNG, 16-bit gray, window": "cdd5097470f45ab6",
    "PNG, 16-bit color": "16b3c945faf740c6",
    "PNG, 16-bit color, window": "987972d5fc803ffa",
    "PNG, 16-bit color with transparency": "5eccae4fd09b3df6",
    "PNG, 16-bit gray with transparency": "5d8434632baa6176",
    "TIFF, 8-bit color": "e2c1a1afe6472a02",
    "TIFF, 16-bit gray": "9e7fcf4b6e81008c",
    "TIFF, 16-bit gray, white is zero": "d047f9f0919cfd41",
    "TIFF, 16-bit gray, turned": "f75d8b801e775ae1",
    "TIFF, 16-bit color": "16b3c945faf740c6",
    "TIFF, 32-bit unsigned": "9e7fcf4b6e81008c",
    "TIFF, 32-bit float": "9e7fcf4b6e81008c",
    "JPEG": "69a9af3bfb1a1577",
    "JPEG 2000": "e2c1a1afe6472a02",
    "WebP": "e2c1a1afe6472a02",
    "BMP": "e2c1a1afe6472a02",
    "GIF": "822b0c57562501f1",
    "PPM": "e2c1a1afe6472a02",
    "DICOM, CT": "0e671d5da727f82e",
    "DICOM, CT, its own window": "c8758485cf8856af",
    "DICOM, CT, lung window": "1e4ffba0ae98e347",
    "DICOM, sigmoid window": "03f55df00faf4979",
    "DICOM, lookup table": "c436fbde843196c2",
    "DICOM, MONOCHROME1": "d047f9f0919cfd41",
    "DICOM, signed with padding": "68e8f61a4a975805",
    "DICOM, color": "e2c1a1afe6472a02",
    "DICOM, 16-bit color": "f584a2111080a3c1",
    "DICOM, frame 1 of 2": "6b165723278c3b77",
}

RESIZED = {
    "nearest": "81f996f4b5dce121",
    "bilinear": "10c794cb5d81692b",
    "bicubic": "0c0e9c005dd03e1d",
    "lanczos": "d25037fa7fa429c6",
}


def palette_png() -> bytes:
    """Return a PNG with a palette."""
    image = Image.fromarray(GRAY_8 // 16).convert("L")
    image.putpalette([value for level in range(16) for value in (17 * level, 255 - 17 * level, 40)])
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def digest(*arrays: np.ndarray) -> str:
    """Return a digest of types, shapes and values, the same on every machine."""
    parts = hashlib.sha256()
    for array in arrays:
        parts.update(f"{array.dtype.newbyteorder('<').str} {array.shape}".encode())
        parts.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return parts.hexdigest()[:16]


def test_the_digests_are_those_of_the_present_versions() -> None:
    assert (DECODER_VERSION, HASH_VERSION) == VERSIONS


def test_every_file_has_a_digest() -> None:
    assert FILES
    assert set(DIGESTS) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_files_decode_to_the_recorded_pixels(name: str) -> None:
    write, decoding = FILES[name]
    data = write()
    actual = digest(np.asarray(open_image(data, decoding)), open_pixels(data, decoding).to_uint8())
    assert actual == DIGESTS[name], CHANGED.format(name=name, digest=actual)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_resizing_and_the_perceptual_hash_give_the_recorded_values(interpolation: str) -> None:
    image = open_image(encoded(COLOR_8, "PNG"))
    transform = InputTransform(11, (0.5,) * 3, (0.25,) * 3, interpolation)
    actual = digest(transform.pixels(image).numpy(), look(image))
    assert actual == RESIZED[interpolation], CHANGED.format(name=interpolation, digest=actual)
