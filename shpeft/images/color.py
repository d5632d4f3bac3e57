"""Read 16-bit colors, and 16-bit gray with transparency, of which Pillow keeps only the high bytes.

Pillow's decoder runs twice: once for the high bytes and, with swapped byte order, once for the low bytes. So every
compression that Pillow supports is read without loss and without another package; torchvision reads PNG only, and
tifffile needs imagecodecs for LZW.
"""

import sys
from collections.abc import Callable

import numpy as np
from PIL import ImageFile

from shpeft.images.decoding import Decoding
from shpeft.images.high_bit_depth import UnsupportedPixels, upright
from shpeft.images.pixels import Pixels, View

OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The opposite of each byte order in Pillow's notation: big, little and native."""

TOP = 65535
"""The largest 16-bit value."""


def rawmode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's raw mode of 16-bit colors in an opened file that is not loaded; empty for all other images.

    Raises:
        UnsupportedPixels: Pillow would lose bits, and there is no way to read them.
    """
    tile = image.tile[0] if image.tile else None
    if tile is None or not tile.args:
        return ""
    args = (tile.args,) if isinstance(tile.args, str) else tile.args
    raw = str(args[0])
    if tile.codec_name in ("ppm", "ppm_plain") and image.mode == "RGB" and args[-1] > 255:
        if tile.codec_name == "ppm_plain":
            raise UnsupportedPixels("colors of more than 8 bits as text; save it as a PNG or a TIFF")
        return "RGB;16B"
    if not raw.startswith(("RGB", "LA", "CMYK")) or raw[:-1][-3:] != ";16":
        return ""
    if raw.startswith("CMYK"):
        raise UnsupportedPixels("16-bit CMYK colors; save it as RGB")
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise UnsupportedPixels("several frames of 16 bits; save them as a TIFF")
    return raw


def read(opened: Callable[[], ImageFile.ImageFile], raw: str, decoding: Decoding) -> Pixels:
    """Return an upright image; transparent pixels are blended with black.

    One window applies to all channels, so that colors keep their ratios: from 0 to the highest value, unless
    ``decoding`` requests another.

    Args:
        opened: opens the image again, at the requested frame.
        raw: its :func:`rawmode`.
        decoding: the window.
    """
    if raw == "LA;16B":  # two bytes of gray and two of transparency, which Pillow reads as four channels
        high_gray, low_gray, high_alpha, low_alpha = np.moveaxis(_loaded(opened(), "RGBA"), -1, 0)
        return _gray(_joined(high_gray, low_gray), _joined(high_alpha, low_alpha), decoding)
    plain = raw.replace("RGBa", "RGBA")  # premultiplied: Pillow would divide it by its transparency
    high, low = (_loaded(opened(), order) for order in (plain, plain[:-1] + OTHER_ORDER[plain[-1]]))
    values = _joined(high, low)
    if raw.startswith("RGBA"):
        values = _on_black(values[..., :3], values[..., 3:])
    elif (clear := opened().info.get("transparency")) is not None:
        values = np.where((values == clear).all(axis=-1, keepdims=True), np.uint16(0), values)
    return pixels(np.ascontiguousarray(values[..., :3]), decoding)


def pixels(values: np.ndarray, decoding: Decoding, file_views: tuple[View, ...] = ()) -> Pixels:
    """Return colors (H, W, 3): of 8 bits as they are, of 16 bits with the requested window."""
    if values.dtype == np.uint8:
        return Pixels(values, span=(0, 255))
    requested = View(*decoding.limits) if decoding.limits else None
    if decoding.window == "auto" and file_views:
        requested = file_views[0]
    return Pixels(values, span=(0, float(values.max(initial=0))), file_views=file_views, requested=requested)


def _loaded(image: ImageFile.ImageFile, order: str) -> np.ndarray:
    """Return one byte of each channel, uint8 (H, W, C)."""
    tiles = []
    for tile in image.tile:
        if tile.codec_name == "ppm":  # its own decoder rescales; the bytes are stored uncompressed
            tiles.append(tile._replace(codec_name="raw", args=(order, 0, 1)))
        else:
            tiles.append(tile._replace(args=order if isinstance(tile.args, str) else (order, *(tile.args or ())[1:])))
    image.tile = tiles
    return np.asarray(upright(image))


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return np.asarray(high.astype(np.uint16) << 8 | low)


def _on_black(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return values · alpha / 65535, rounded; 65535² + 65535 / 2 fits into 32 bits."""
    return np.asarray((values.astype(np.uint32) * alpha + TOP // 2) // TOP, dtype=np.uint16)


def _gray(values: np.ndarray, alpha: np.ndarray, decoding: Decoding) -> Pixels:
    """Return gray in which fully transparent pixels are black and do not count for the range."""
    shown = _on_black(values, alpha)
    if not alpha.all():
        shown = np.where(alpha == 0, np.float32(np.nan), shown)
    return Pixels(shown, requested=View(*decoding.limits) if decoding.limits else None)
