"""Read an image of any kind: as RGB with 8 bits, or with all the bits of its file."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import color, dicom, high_bit_depth, jpeg_header
from shpeft.images.decoding import Decoding
from shpeft.images.dicom_header import is_dicom
from shpeft.images.facts import NO_FACTS, Facts
from shpeft.images.pixels import Pixels
from shpeft.support.bounded_files import open_regular_file
from shpeft.support.limits import JPEG_SCANS

ImageSource = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]
"""What is accepted as an image: a path, the bytes of a file, an open file, a PIL image, or an array of uint8 of shape
(H, W) in gray or (H, W, 3) in RGB."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""Formats that Pillow may decode. It knows others, such as EPS, which would run an interpreter on an upload."""

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".jp2"),
    *dicom.SUFFIXES,
)

MAX_PIXELS = 80_000_000
"""Maximum number of pixels, checked before decoding: a few kilobytes can unpack to gigabytes."""

HEAD = 4096
"""Number of leading bytes that determine the kind of a file."""

NEW_SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4
"""TIFF 6.0, section 8."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

DEFAULT_DECODING = Decoding()
"""Show each file as it specifies itself."""


def open_image(source: ImageSource, decoding: Decoding = DEFAULT_DECODING) -> Image.Image:
    """Read an image upright and in RGB: PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM.

    The content determines the kind, never the file name. EXIF orientation is applied, color profiles are not.
    Transparent pixels are blended with black, the background of radiographs and fundus photographs.

    Args:
        source: the image, see :data:`ImageSource`.
        decoding: which frame to read, and how values of more than 8 bits become gray.

    Raises:
        UnreadableImage: not an image, or one that is damaged, too large, of an unsupported kind, or without the frame;
            a TIFF or an animation with several frames, of which none was chosen; or an array of another type or shape.
        MissingExtra: the package that reads DICOM files is not installed.

    Examples:
        >>> open_image(np.zeros((48, 64), np.uint8)).size
        (64, 48)
    """
    content = _read(source, decoding, choose=decoding.frame is None)
    return content.to_image() if isinstance(content, Pixels) else content


def open_pixels(source: ImageSource, decoding: Decoding = DEFAULT_DECODING) -> Pixels:
    """Read an image with all the bits of its file, to be shown with different windows.

    ``open_pixels(x).to_uint8()`` has the same values as ``open_image(x)``. Images of 8 bits are in RGB, or gray if all
    their pixels are.

    Args:
        source: the image, see :data:`ImageSource`.
        decoding: which frame to read, and which window is the default.

    Raises:
        UnreadableImage, MissingExtra: see :func:`open_image`.
    """
    frames: list[int] = []
    content = _read(source, decoding, frames)
    if isinstance(content, Image.Image):
        values = np.asarray(content)
        is_gray = (values == values[..., :1]).all()
        content = Pixels(np.ascontiguousarray(values[..., 0]) if is_gray else values, span=(0, 255))
    return replace(content, frame=frames[0], frames=frames[1]) if frames else content


def _read(
    source: ImageSource, decoding: Decoding, frames: list[int] | None = None, choose: bool = False
) -> Image.Image | Pixels:
    """Return an image in RGB if it has 8 bits, and otherwise with all its bits.

    Args:
        source: the image.
        decoding: the frame and the window.
        frames: receives the frame that was read and the number of frames; counting them reads some files to the end.
        choose: refuse a file with several frames, because none was chosen; of a DICOM the middle one is read.
    """
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    if isinstance(source, Image.Image):
        _check_opened(source)
        return _converted(source, high_bit_depth.Storage(), decoding)
    name = str(source) if isinstance(source, str | Path) else "the uploaded file"
    head = b""
    try:
        with open_regular_file(source) if isinstance(source, str | Path) else nullcontext(_as_file(source)) as file:
            head = file.read(HEAD)
            file.seek(0)
            if is_dicom(head):
                return dicom.read(file, decoding, MAX_PIXELS, name)
            with Image.open(file, formats=FORMATS) as image:
                _check_size(image, name)
                if image.format == "JPEG":
                    _check_scans(file, name)
                if choose:
                    _check_single(image, name)
                _seek(image, decoding.frame, name)
                if frames is not None:
                    frames += [image.tell(), getattr(image, "n_frames", 1)]
                how = high_bit_depth.storage_of(image, head)
                if raw := color.rawmode(image):
                    return color.read(partial(_at_frame, file, image.tell()), raw, decoding)
                return _converted(image, how, decoding)
    except (UnreadableImage, MissingExtra):
        raise
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise UnreadableImage(f"{name} cannot be read as an image: {_reason(error, head)}.") from None


def read_facts(path: Path, frame: int | None = None) -> Facts:
    """Return what a DICOM file states about a frame, or about its middle one; nothing for any other file.

    Only the header is read. An image that cannot be read is reported where it is opened, not here.
    """
    try:
        with open_regular_file(path) as file:
            return dicom.read_facts(file, frame) if is_dicom(file.read(HEAD)) else NO_FACTS
    except Exception:  # pydicom raises anything on damaged files
        return NO_FACTS


def looks_like_image(path: Path) -> bool:
    """Return whether a file seems to be an image, by its suffix or as DICOM by its content."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with open_regular_file(path) as file:
            return is_dicom(file.read(HEAD))
    except (OSError, ValueError):  # a pipe or a device
        return False


def _as_file(source: bytes | BinaryIO) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source


def _from_array(values: NDArray[Any]) -> Image.Image:
    """Return an array (H, W) or (H, W, 3) of uint8 as an image."""
    if values.dtype != np.uint8 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)):
        raise UnreadableImage(
            f"An array of {values.dtype} with shape {values.shape} is not an image. Give uint8 values of shape (H, W)"
            " or (H, W, 3)."
        )
    if not values.size:
        raise UnreadableImage(f"An array of shape {values.shape} has no pixels. Give one with at least one pixel.")
    return Image.fromarray(values)


def _at_frame(file: BinaryIO, frame: int) -> ImageFile.ImageFile:
    """Open a checked file again, at a frame that exists."""
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    image.seek(frame)
    return image


def _check_opened(image: Image.Image) -> None:
    """Raise if Pillow drops the low 8 bits of the channels of an image that it opened.

    An image that is already loaded no longer shows it.
    """
    try:
        lost = isinstance(image, ImageFile.ImageFile) and color.rawmode(image) != ""
    except high_bit_depth.UnsupportedPixels:
        lost = True
    if lost:
        raise UnreadableImage(
            "This image has 16 bits per channel, of which Pillow keeps 8. Give its path or its bytes instead."
        )


def _check_size(image: Image.Image, name: str) -> None:
    """Raise if the image is too large, before it is decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(
            f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are read. Save a"
            " smaller copy."
        )


def _check_scans(file: BinaryIO, name: str) -> None:
    """Refuse a JPEG that asks for more passes over its pixels than any camera writes."""
    if (scans := jpeg_header.count_scans(file)) > JPEG_SCANS:
        raise UnreadableImage(
            f"{name} asks for {scans:,} passes over its pixels, at most {JPEG_SCANS} are made. Save it again."
        )


def _seek(image: Image.Image, frame: int | None, name: str) -> None:
    """Go to a frame of an animation or a TIFF; an image with a single frame ignores the request."""
    if frame is None or (count := getattr(image, "n_frames", 1)) == 1:
        return
    if not 0 <= frame < count:
        raise UnreadableImage(f"{name} has {count} frames, counted from 0; frame {frame} was asked for.")
    image.seek(frame)
    _check_size(image, name)  # the pages of a TIFF differ


def _check_single(image: Image.Image, name: str) -> None:
    """Raise if a TIFF or an animation has several frames; smaller copies and masks of a TIFF's first page are none."""
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":  # a photograph with its preview
        return
    pages = list(range(count))
    if isinstance(image, TiffImageFile):
        pages = [page for page in pages if not _is_derived(image, page)]
        image.seek(0)
    if pages != [0]:
        raise UnreadableImage(
            f"{name} has {len(pages)} frames, and no frame was chosen. Choose one, counted from 0 (--frame 0), or save "
            "the frames as files."
        )


def _is_derived(image: TiffImageFile, page: int) -> bool:
    """Return whether a page is a reduced copy or a mask of another one, by TIFF's NewSubfileType."""
    image.seek(page)
    return bool(int(image.tag_v2.get(NEW_SUBFILE_TYPE, 0)) & (REDUCED | MASK))


def _reason(error: Exception, head: bytes) -> str:
    """Return a decoder's error as a phrase without paths or object addresses."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError | PermissionError):
        return "it is a folder, or this user may not read it"
    if isinstance(error, high_bit_depth.UnsupportedPixels):
        return f"it has {error}"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if type(error).__name__ == "UnidentifiedImageError" and head.startswith(TIFF):
        return (
            "its header is damaged, or this kind of TIFF is not supported. Save it as gray with 8, 16 or 32 bits"
            " (integers or floating point), or as RGB with 8 or 16 bits"
        )
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not a PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 or DICOM image, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS // 10**6} million pixels"
    return f"it is damaged ({error})"


def _converted(image: Image.Image, how: high_bit_depth.Storage, decoding: Decoding) -> Image.Image | Pixels:
    """Return a loaded, upright copy: in mode RGB, or gray with more than 8 bits."""
    image = high_bit_depth.upright(image)
    if high_bit_depth.is_wide(image):
        return high_bit_depth.pixels(image, how, decoding)
    if how.signed and image.mode == "L":
        image = high_bit_depth.shifted(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image.convert("RGB")
