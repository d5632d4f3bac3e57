"""Colours of 16 bits, and grey of 16 bits with transparency, of which Pillow keeps the high bytes only.

Its decoder is run twice, for the high bytes and, with the order of bytes exchanged, for the low ones. So the base
install reads every compression that Pillow does, without a loss and without another package: torchvision reads PNG
only, tifffile needs imagecodecs for LZW.
"""

import sys
from collections.abc import Callable

import numpy as np
from PIL import ImageFile

from shpeft.images.decoding import Decoding
from shpeft.images.pixels import Pixels, View
from shpeft.images.wide import NotRead, upright

OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Orders of bytes as Pillow calls them: big, little and the computer's own."""

TOP = 65535


def rawmode(image: ImageFile.ImageFile) -> str:
    """How colours of 16 bits lie in a file that is opened and not loaded; empty for everything else.

    Raises:
        NotRead: Pillow would lose bits and cannot be brought to give them.
    """
    tile = image.tile[0] if image.tile else None
    if tile is None or not tile.args:
        return ""
    args = (tile.args,) if isinstance(tile.args, str) else tile.args
    raw = str(args[0])
    if tile.codec_name in ("ppm", "ppm_plain") and image.mode == "RGB" and args[-1] > 255:
        if tile.codec_name == "ppm_plain":
            raise NotRead("colours of more than 8 bits as text; save it as a PNG or a TIFF")
        return "RGB;16B"
    if not raw.startswith(("RGB", "LA", "CMYK")) or raw[:-1][-3:] != ";16":
        return ""
    if raw.startswith("CMYK"):
        raise NotRead("inks (CMYK) of 16 bits; save it as RGB")
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise NotRead("several frames of 16 bits; save them as a TIFF")
    return raw


def read(opened: Callable[[], ImageFile.ImageFile], raw: str, decoding: Decoding) -> Pixels:
    """An image, upright; transparency is laid on black.

    One window serves all channels, so that colours keep their ratios: from 0 to the highest value, unless another is
    asked for.

    Args:
        opened: opens the image anew, at the frame that is wanted.
        raw: its :func:`rawmode`.
    """
    if raw == "LA;16B":  # two bytes of grey and two of transparency: four channels to Pillow
        high_grey, low_grey, high_alpha, low_alpha = np.moveaxis(_loaded(opened(), "RGBA"), -1, 0)
        return _grey(_joined(high_grey, low_grey), _joined(high_alpha, low_alpha), decoding)
    plain = raw.replace("RGBa", "RGBA")  # on black already: Pillow would divide it by its transparency
    high, low = (_loaded(opened(), order) for order in (plain, plain[:-1] + OTHER_ORDER[plain[-1]]))
    values = _joined(high, low)
    if raw.startswith("RGBA"):
        values = _on_black(values[..., :3], values[..., 3:])
    elif (clear := opened().info.get("transparency")) is not None:
        values = np.where((values == clear).all(axis=-1, keepdims=True), np.uint16(0), values)
    return pixels(np.ascontiguousarray(values[..., :3]), decoding)


def pixels(values: np.ndarray, decoding: Decoding, filed: tuple[View, ...] = ()) -> Pixels:
    """Colours (H, W, 3) of 8 bits as they are, of more with the window that is asked for."""
    if values.dtype == np.uint8:
        return Pixels(values, span=(0, 255))
    asked = View(*decoding.limits) if decoding.limits else None
    if decoding.window == "auto" and filed:
        asked = filed[0]
    return Pixels(values, span=(0, float(values.max(initial=0))), filed=filed, asked=asked)


def _loaded(image: ImageFile.ImageFile, order: str) -> np.ndarray:
    """One byte of each channel, uint8 (H, W, C)."""
    tiles = []
    for tile in image.tile:
        if tile.codec_name == "ppm":  # its own decoder scales; the bytes are as they are
            tiles.append(tile._replace(codec_name="raw", args=(order, 0, 1)))
        else:
            tiles.append(tile._replace(args=order if isinstance(tile.args, str) else (order, *(tile.args or ())[1:])))
    image.tile = tiles
    return np.asarray(upright(image))


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return high.astype(np.uint16) << 8 | low


def _on_black(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """values · alpha / 65535, rounded: 65535² and its half fit into 32 bits."""
    return ((values.astype(np.uint32) * alpha + TOP // 2) // TOP).astype(np.uint16)


def _grey(values: np.ndarray, alpha: np.ndarray, decoding: Decoding) -> Pixels:
    """What is fully transparent is black and no part of the range."""
    shown = _on_black(values, alpha)
    if not alpha.all():
        shown = np.where(alpha == 0, np.float32(np.nan), shown)
    return Pixels(shown, asked=View(*decoding.limits) if decoding.limits else None)
