"""An image file becomes RGB pixels, whatever its kind."""

from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import dicom
from shpeft.images.decoding import Decoding, to_8_bits

ImageSource = str | Path | bytes | BinaryIO | Image.Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""What is decoded. Pillow knows more, among them EPS, which would start an interpreter on an upload."""

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".jp2"),
    *dicom.SUFFIXES,
)

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded: a few kilobytes can unpack to gigabytes."""


AS_FILED = Decoding()
"""What the file itself asks for."""


def open_image(source: ImageSource, decoding: Decoding = AS_FILED) -> Image.Image:
    """Read an image, upright and in RGB, whatever its kind: PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000, DICOM.

    EXIF orientation is applied, and transparency is laid on black. Which of several frames is taken, and how values of
    more than 8 bits become grey, is the ``decoding``'s business.

    Raises:
        UnreadableImage: not an image, a damaged one, one that is too large, or one without the frame.
        MissingExtra: what reads a DICOM file is not installed.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, decoding)
    name = str(source) if isinstance(source, str | Path) else "the uploaded file"
    try:
        with open(source, "rb") if isinstance(source, str | Path) else nullcontext(_as_file(source)) as file:
            head = file.read(132)
            file.seek(0)
            if dicom.is_dicom(head):
                return dicom.read(file, decoding, MAX_PIXELS, name).convert("RGB")
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UnreadableImage(
                        f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are"
                        " read. Save a smaller copy."
                    )
                _seek(image, decoding.frame, name)
                return _to_rgb(image, decoding)
    except (UnreadableImage, MissingExtra):
        raise
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise UnreadableImage(f"{name} cannot be read as an image: {_reason(error)}.") from None


def _as_file(source: bytes | BinaryIO) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source


def _seek(image: Image.Image, frame: int | None, name: str) -> None:
    """Go to a frame of an animation or of a TIFF; an ordinary image has one whatever is asked."""
    count = getattr(image, "n_frames", 1)
    if frame is None or count == 1:
        return
    if not 0 <= frame < count:
        raise UnreadableImage(f"{name} has {count} frames, counted from 0; frame {frame} was asked for.")
    image.seek(frame)


def _reason(error: Exception) -> str:
    """A decoder's error as a phrase without paths or object addresses."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError | PermissionError):
        return "it is a folder or may not be read"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not a PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM image, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS // 10**6} million pixels"
    return f"it is damaged ({error})"


def _to_rgb(image: Image.Image, decoding: Decoding) -> Image.Image:
    """A loaded copy in mode RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(to_8_bits(np.asarray(image), decoding.limits))
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image.convert("RGB")
