"""What Pillow gives for images of more than 8 bits, put right: values in the file's units, which end is white."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from shpeft.images import codestream
from shpeft.images.decoding import Decoding, in_units
from shpeft.images.pixels import Pixels, View

# TIFF 6.0
BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262
PLANAR_CONFIGURATION = 284
SAMPLE_FORMAT = 339
WHITE_IS_ZERO, SEPARATE_PLANES, UNSIGNED, SIGNED = 0, 2, 1, 2


class NotRead(Exception):
    """A kind of pixels that Pillow would show wrongly."""


@dataclass(frozen=True)
class Stored:
    """How a file keeps its values, where Pillow does not heed it.

    Attributes:
        white_is_zero: the lowest value is white.
        unsigned: 32 bits that Pillow takes for signed.
        signed: 8 bits that Pillow takes for unsigned.
        scale, offset: what Pillow has multiplied the values by, and then added.
    """

    white_is_zero: bool = False
    unsigned: bool = False
    signed: bool = False
    scale: float = 1.0
    offset: float = 0.0


def stored(image: ImageFile.ImageFile, head: bytes) -> Stored:
    """Read it from an opened image, before it is loaded, and from the file's first bytes.

    Raises:
        NotRead: Pillow would lose or mix up values.
    """
    tile = image.tile[0] if image.tile else None
    if isinstance(image, TiffImageFile):
        return _tiff(image)
    if image.format == "PPM" and tile is not None and tile.codec_name in ("ppm", "ppm_plain"):
        assert isinstance(tile.args, tuple)
        return Stored(scale=65535 / tile.args[-1])
    if image.format == "JPEG2000" and (told := codestream.describe(head)) is not None and told.bits <= 16:
        if told.channels > 1 and told.bits > 8:
            raise NotRead("colours of more than 8 bits in JPEG 2000; save it as a PNG or a TIFF")
        scale = 2 ** (16 - told.bits)
        return Stored(scale=scale, offset=scale * 2 ** (told.bits - 1) if told.signed else 0)
    return Stored()


def _tiff(image: TiffImageFile) -> Stored:
    tags = image.tag_v2
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    if tags.get(PLANAR_CONFIGURATION) == SEPARATE_PLANES and len(bits) > 1 and max(bits) > 8:
        raise NotRead("colours of more than 8 bits, each in a plane of its own; save them pixel by pixel")
    kind = tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
    return Stored(
        white_is_zero=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO,
        unsigned=kind == UNSIGNED and bits == (32,),
        signed=kind == SIGNED and max(bits) == 8,
    )


def is_wide(image: Image.Image) -> bool:
    """Whether these are grey values of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def pixels(image: Image.Image, how: Stored, decoding: Decoding) -> Pixels:
    """Grey values of more than 8 bits; a value that stands for transparency is blank."""
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
        asked=None if decoding.limits is None else View(*decoding.limits),
    )


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; EXIF that cannot be read says nothing."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # what is in there may be anything
        return image


def shifted(image: Image.Image) -> Image.Image:
    """Signed grey of 8 bits, which Pillow takes for unsigned: −128 is black, 127 is white."""
    return image.point([(value + 128) % 256 for value in range(256)])
