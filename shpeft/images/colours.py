"""Colours of more than 8 bits, which Pillow would cut to the upper 8: all bits are read, and one window is applied."""

from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images.decoding import Decoding, to_8_bits
from shpeft.images.pixels import Pixels, View

DEEP_PNG = ("RGB;16B", "RGBA;16B", "LA;16B")
"""What Pillow calls PNGs of 16 bits other than grey alone."""

# TIFF 6.0
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
RGB, STRAIGHT, SEPARATE_PLANES = 2, 2, 2

ORIENTATION = 0x0112
OPAQUE = 65535


def are_deep(image: ImageFile.ImageFile) -> bool:
    """Whether these are colours, or grey with transparency, of 16 bits; asked before the image is loaded."""
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        return tags.get(PHOTOMETRIC) == RGB and set(tags.get(BITS_PER_SAMPLE, ())) == {16}
    return image.format == "PNG" and bool(image.tile) and image.tile[0].args in DEEP_PNG


def pixels(image: ImageFile.ImageFile, file: BinaryIO, decoding: Decoding, name: str) -> Pixels:
    """The image upright: grey with all its bits, or colours of 8 bits through one window for all channels.

    The window is the one that is asked for. Where none is, it begins at 0, so that a colour keeps its hue, and ends at
    the most that so many bits can hold as the largest value needs: 4095 in the file of a camera of 12 bits.

    Raises:
        UnreadableImage: what reads them is not installed.
    """
    values, alpha = _tiff(image, file, name) if isinstance(image, TiffImageFile) else _png(image, file, name)
    turn = image.getexif().get(ORIENTATION)
    values = np.stack([_upright(channel, turn) for channel in np.moveaxis(values, -1, 0)], axis=-1)
    highest = float(2 ** int(values.max(initial=0)).bit_length() - 1)
    if alpha is not None:  # on black, as everywhere
        alpha = _upright(alpha, turn)[..., None]
        values = values * (alpha / OPAQUE)
    if values.shape[-1] == 1:
        grey = values if alpha is None else np.where(alpha > 0, values, np.nan)
        asked = None if decoding.limits is None else View(*decoding.limits)
        return Pixels(grey[..., 0].astype(np.float32), asked=asked)
    return Pixels(to_8_bits(values, decoding.limits or (0.0, highest)))


def _png(image: ImageFile.ImageFile, file: BinaryIO, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Values (H, W, 1 or 3) and transparency (H, W), by libpng."""
    codecs, _ = _libraries(name)
    file.seek(0)
    values: np.ndarray = codecs.png_decode(file.read())
    image.load()  # what stands behind the pixels, EXIF among it, is known only now
    if values.shape[-1] in (2, 4):
        return values[..., :-1], values[..., -1]
    return values, None


def _tiff(image: TiffImageFile, file: BinaryIO, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Values (H, W, 3) and transparency (H, W), by tifffile."""
    _, tifffile = _libraries(name)
    file.seek(0)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[image.tell()]
        values = np.moveaxis(page.asarray(), 0, -1) if page.planarconfig == SEPARATE_PLANES else page.asarray()
        extra = page.extrasamples
    transparent = bool(extra) and extra[0] == STRAIGHT  # with multiplied values the colours are on black already
    return values[..., :3], values[..., 3] if transparent else None


def _libraries(name: str) -> tuple[Any, Any]:
    """imagecodecs, with which tifffile decompresses, too, and tifffile."""
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        raise UnreadableImage(  # one file among others, and not for good
            f"{name} has colours of 16 bits, and what reads all of them is not installed. Install it with: pip install"
            " 'shpeft[deepcolour]', or save the image with 8 bits a channel."
        ) from MissingExtra("deepcolour")
    return imagecodecs, tifffile


def _upright(channel: np.ndarray, turn: int | None) -> np.ndarray:
    """Turned as EXIF says."""
    image = Image.fromarray(channel)
    image.getexif()[ORIENTATION] = turn or 1
    return np.asarray(ImageOps.exif_transpose(image))
