"""Correct Pillow's values of gray images with more than 8 bits: signs, scale, and which end is white."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from shpeft.images import jpeg_header
from shpeft.images.decoding import Decoding, in_units
from shpeft.images.pixels import Pixels, View

# TIFF 6.0
BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262
PLANAR_CONFIGURATION = 284
SAMPLE_FORMAT = 339
WHITE_IS_ZERO, SEPARATE_PLANES, UNSIGNED, SIGNED = 0, 2, 1, 2


class UnsupportedPixels(Exception):
    """A kind of pixels that Pillow would decode wrongly."""


@dataclass(frozen=True)
class Storage:
    """Properties of a file's values that Pillow ignores.

    Attributes:
        white_is_zero: the lowest value is white.
        unsigned: values of 32 bits are unsigned, but Pillow reads them as signed.
        signed: values of 8 bits are signed, but Pillow reads them as unsigned.
        scale, offset: Pillow multiplies the values by ``scale`` and then adds ``offset``.
    """

    white_is_zero: bool = False
    unsigned: bool = False
    signed: bool = False
    scale: float = 1.0
    offset: float = 0.0


def storage_of(image: ImageFile.ImageFile, head: bytes) -> Storage:
    """Return how an opened file stores its values.

    Args:
        image: the opened image, not loaded yet.
        head: the first bytes of the file.

    Raises:
        UnsupportedPixels: Pillow would lose or mix up values.
    """
    tile = image.tile[0] if image.tile else None
    if isinstance(image, TiffImageFile):
        return _tiff(image)
    if image.format == "PPM" and tile is not None and tile.codec_name in ("ppm", "ppm_plain"):
        assert isinstance(tile.args, tuple)
        return Storage(scale=65535 / tile.args[-1])
    if image.format == "JPEG2000" and (codestream := jpeg_header.describe(head)) is not None and codestream.bits <= 16:
        bits = codestream.bits
        if codestream.channels > 1 and bits > 8:
            raise UnsupportedPixels("colors of more than 8 bits in JPEG 2000; save it as a PNG or a TIFF")
        scale = 2 ** (16 - bits)
        return Storage(scale=scale, offset=scale * 2 ** (bits - 1) if codestream.signed else 0)
    return Storage()


def _tiff(image: TiffImageFile) -> Storage:
    tags = image.tag_v2
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    if tags.get(PLANAR_CONFIGURATION) == SEPARATE_PLANES and len(bits) > 1 and max(bits) > 8:
        raise UnsupportedPixels("colors of more than 8 bits in separate planes; save them pixel by pixel")
    kind = tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
    return Storage(
        white_is_zero=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO,
        unsigned=kind == UNSIGNED and bits == (32,),
        signed=kind == SIGNED and max(bits) == 8,
    )


def is_wide(image: Image.Image) -> bool:
    """Return whether an image holds gray values of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def pixels(image: Image.Image, how: Storage, decoding: Decoding) -> Pixels:
    """Return gray values of more than 8 bits; the value that means transparency is blank."""
    values = np.asarray(image)
    if how.unsigned:
        values = values.view(np.uint32)
    if (how.scale, how.offset) != (1, 0):
        values = in_units(values, lambda block: np.rint((block.astype(np.float64) - how.offset) / how.scale))
    clear = image.info.get("transparency")
    return Pixels(
        values,
        blank=None if clear is None else (clear, clear),
        inverted=how.white_is_zero,
        requested=None if decoding.limits is None else View(*decoding.limits),
    )


def upright(image: Image.Image) -> Image.Image:
    """Return an image in its EXIF orientation; unreadable EXIF data are ignored."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF data may hold anything
        return image


def shifted(image: Image.Image) -> Image.Image:
    """Return signed gray of 8 bits, which Pillow reads as unsigned: −128 becomes black and 127 white."""
    return image.point([(value + 128) % 256 for value in range(256)])
