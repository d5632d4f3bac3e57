"""An image file becomes pixels, whatever its kind: RGB, or grey with all its bits."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import colours, dicom, wide
from shpeft.images.decoding import Decoding
from shpeft.images.dicom_header import is_dicom
from shpeft.images.pixels import Pixels

ImageSource = str | Path | bytes | BinaryIO | Image.Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""What is decoded. Pillow knows more, among them EPS, which would start an interpreter on an upload."""

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".jp2"),
    *dicom.SUFFIXES,
)

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded: a few kilobytes can unpack to gigabytes."""

HEAD = 4096
"""Bytes that tell a file's kind."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

AS_FILED = Decoding()
"""What the file itself asks for."""


def open_image(source: ImageSource, decoding: Decoding = AS_FILED) -> Image.Image:
    """Read an image, upright and in RGB, whatever its kind: PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000, DICOM.

    The kind is told by the content, never by the name. EXIF orientation is applied. Transparency is laid on black, the
    ground of a radiograph and of what surrounds a fundus. Colour profiles are not applied. Which of several frames is
    taken, and how values of more than 8 bits become grey, is the ``decoding``'s business.

    Raises:
        UnreadableImage: not an image, a damaged one, one that is too large, of a kind that is not read, or one without
            the frame.
        MissingExtra: what reads a DICOM file is not installed.
    """
    found = _opened(source, decoding)
    return Image.fromarray(found.shown()).convert("RGB") if isinstance(found, Pixels) else found


def open_pixels(source: ImageSource, decoding: Decoding = AS_FILED) -> Pixels:
    """The same image with all the bits that its file has, to be shown through one window or another.

    As it comes, ``open_pixels(x).shown()``, it is ``open_image``'s, bit for bit. Images of 8 bits that are not DICOM
    files are those of ``open_image``; as grey, where all their colours are.

    Raises:
        UnreadableImage, MissingExtra: as ``open_image``.
    """
    frames: list[int] = []
    found = _opened(source, decoding, frames)
    if isinstance(found, Image.Image):
        values = np.asarray(found)
        grey = (values == values[..., :1]).all()
        found = Pixels(np.ascontiguousarray(values[..., 0]) if grey else values, span=(0, 255))
    return replace(found, frame=frames[0], frames=frames[1]) if frames else found


def _opened(source: ImageSource, decoding: Decoding, frames: list[int] | None = None) -> Image.Image | Pixels:
    """In RGB where 8 bits are all there are, and with all its bits otherwise.

    Args:
        frames: is given the frame that was taken and their number, for which some files are read to the end.
    """
    if isinstance(source, Image.Image):
        _check_opened(source)
        return _converted(source, wide.Stored(), decoding)
    name = str(source) if isinstance(source, str | Path) else "the uploaded file"
    head = b""
    try:
        with open(source, "rb") if isinstance(source, str | Path) else nullcontext(_as_file(source)) as file:
            head = file.read(HEAD)
            file.seek(0)
            if is_dicom(head):
                return dicom.read(file, decoding, MAX_PIXELS, name)
            with Image.open(file, formats=FORMATS) as image:
                _check_size(image, name)
                _seek(image, decoding.frame, name)
                if frames is not None:
                    frames += [image.tell(), getattr(image, "n_frames", 1)]
                how = wide.stored(image, head)
                if raw := colours.rawmode(image):
                    return colours.read(partial(_at_frame, file, image.tell()), raw, decoding)
                return _converted(image, how, decoding)
    except (UnreadableImage, MissingExtra):
        raise
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise UnreadableImage(f"{name} cannot be read as an image: {_reason(error, head)}.") from None


def looks_like_image(path: Path) -> bool:
    """Whether a file is to be taken for an image: by its suffix, or as DICOM by its content, which often has none."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(HEAD))
    except OSError:
        return False


def _as_file(source: bytes | BinaryIO) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source


def _at_frame(file: BinaryIO, frame: int) -> ImageFile.ImageFile:
    """A file that was opened before, and its frame checked."""
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    image.seek(frame)
    return image


def _check_opened(image: Image.Image) -> None:
    """Pillow keeps 8 bits of each channel of what it opens; one that is loaded already does not tell."""
    try:
        lost = isinstance(image, ImageFile.ImageFile) and colours.rawmode(image) != ""
    except wide.NotRead:
        lost = True
    if lost:
        raise UnreadableImage(
            "This image has 16 bits a channel, of which Pillow keeps 8. Give its path or its bytes instead."
        )


def _check_size(image: Image.Image, name: str) -> None:
    """Before the image is decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(
            f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are read. Save a"
            " smaller copy."
        )


def _seek(image: Image.Image, frame: int | None, name: str) -> None:
    """Go to a frame of an animation or of a TIFF; an ordinary image has one whatever is asked."""
    if frame is None or (count := getattr(image, "n_frames", 1)) == 1:
        return
    if not 0 <= frame < count:
        raise UnreadableImage(f"{name} has {count} frames, counted from 0; frame {frame} was asked for.")
    image.seek(frame)
    _check_size(image, name)  # the pages of a TIFF differ


def _reason(error: Exception, head: bytes) -> str:
    """A decoder's error as a phrase without paths or object addresses."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError | PermissionError):
        return "it is a folder or may not be read"
    if isinstance(error, wide.NotRead):
        return f"it has {error}"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if type(error).__name__ == "UnidentifiedImageError" and head.startswith(TIFF):
        return (
            "its header is damaged, or it is of a kind of TIFF that is not read. Save it as grey of 8 or 16 bits, of 32"
            " bits (whole numbers or floating point), or as colours of 8 or 16 bits"
        )
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not a PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM image, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS // 10**6} million pixels"
    return f"it is damaged ({error})"


def _converted(image: Image.Image, how: wide.Stored, decoding: Decoding) -> Image.Image | Pixels:
    """A loaded copy, upright: in mode RGB, or grey of more than 8 bits."""
    image = wide.upright(image)
    if wide.is_wide(image):
        return wide.pixels(image, how, decoding)
    if how.signed and image.mode == "L":
        image = wide.shifted(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image.convert("RGB")
