"""Read one frame of a DICOM file through pydicom, as gray with all its bits or as RGB."""

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import color, dicom_pixels
from shpeft.images.decoder_process import DecodingFailed, decode_frame
from shpeft.images.decoding import Decoding
from shpeft.images.dicom_header import TAGS, UNDEFINED, Header, parse
from shpeft.images.facts import KEYWORDS, Facts
from shpeft.images.jpeg_header import Codestream, describe
from shpeft.images.pixels import Pixels, View
from shpeft.support.isolation import is_isolated

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

SUFFIXES = (".dcm", ".dicom")
EXTRA = "Install it with: pip install 'shpeft[dicom]'"

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

HEADER_BYTES = 2**28
"""Bytes that a deflated file may inflate to where only its header is read."""

RLE_HEADER = 128
"""Bytes of run lengths beside those of the pixels: the header, and padding of 15 segments."""

RLE_BYTES = 2**23
"""Bytes of run lengths up to which they are decoded in this process: at most 512 MiB come of them."""

BYTES_PER_PIXEL = 3
"""Bytes that a deflated file may inflate to, per pixel of the largest image: RGB, or 16-bit gray with its header."""


def read(file: BinaryIO, decoding: Decoding, max_pixels: int, name: str) -> Pixels:
    """Read one frame, gray with all its bits or RGB; the other frames are not read.

    Args:
        file: the open file.
        decoding: which frame, and which window is the default.
        max_pixels: larger images are refused.
        name: of the file, for messages.

    Raises:
        MissingExtra: pydicom is not installed, or cannot be loaded.
        UnreadableImage: the pixels are missing, damaged, too many or of an unsupported kind; there is no such frame; or
            the decoder of this compression is not installed (the cause is then a MissingExtra).
    """
    try:
        import pydicom.pixels  # noqa: F401
    except ImportError:
        raise MissingExtra(f"DICOM files need the package 'pydicom', which is not installed. {EXTRA}") from None
    except Exception as error:  # pydicom imports decoders, which may be built for another NumPy or system
        raise MissingExtra(
            f"DICOM files need the package 'pydicom', which cannot be loaded ({type(error).__name__}). Reinstall it "
            "with: pip install --force-reinstall 'shpeft[dicom]'"
        ) from None
    try:
        header = parse(file, BYTES_PER_PIXEL * max_pixels, name, (*TAGS, *KEYWORDS))
        frame = _frame(header, decoding.frame, name)
        _check_size(header, max_pixels, name)
        pixels = _described(_pixels(header, frame, name), header, frame, decoding)
        return replace(pixels, frame=frame, frames=header.frames, facts=Facts.of_tags(header.tags, frame))
    except (UnreadableImage, MissingExtra):
        raise
    except MemoryError:
        raise UnreadableImage(f"{name} cannot be read as an image: there is not enough memory for it.") from None
    except Exception as error:  # pydicom raises anything on damaged files, and its messages may quote tags
        raise UnreadableImage(
            f"{name} cannot be read as an image: it is a damaged DICOM file ({type(error).__name__})."
        ) from None


def read_facts(file: BinaryIO, frame: int | None) -> Facts:
    """Return the facts of a frame, or of the middle one; only the header is read."""
    header = parse(file, HEADER_BYTES, "the file", (*TAGS, *KEYWORDS))
    return Facts.of_tags(header.tags, _frame(header, frame, "the file"))


def _frame(header: Header, requested: int | None, name: str) -> int:
    """Return the requested frame, or the middle one."""
    count = header.frames
    if requested is None:
        return (count - 1) // 2
    if not 0 <= requested < count:
        raise UnreadableImage(f"{name} has {count} frames, counted from 0; frame {requested} was asked for.")
    return requested


def _check_size(header: Header, max_pixels: int, name: str) -> None:
    """Raise if the image is too large or of an unsupported kind, before anything is decoded."""
    if header.tags.Rows * header.tags.Columns > max_pixels:
        raise UnreadableImage(
            f"{name} has {header.tags.Columns} x {header.tags.Rows} pixels; at most {max_pixels // 10**6} million are"
            " read. Save a smaller copy."
        )
    kind = header.tags.PhotometricInterpretation
    if kind not in (*MONOCHROME, *COLOR, PALETTE):
        raise UnreadableImage(
            f"{name} stores its pixels in an unsupported way; {', '.join((*MONOCHROME, PALETTE, *COLOR))} are read."
        )


def _pixels(header: Header, frame: int, name: str) -> np.ndarray:
    """Return the stored values of one frame, (H, W), or (H, W, 3) in RGB."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import as_pixel_options

    options = as_pixel_options(header.tags, pixel_keyword=header.keyword, pixel_vr=header.vr)
    options["planar_configuration"] = options.get("planar_configuration") or 0
    plugin, compressed = "", b""
    if header.syntax.is_compressed:
        decoder = _decoder(header, name)
        codestream, compressed = _codestream(header, frame, options, name)
        plugin = _plugin(decoder, codestream)
    else:
        decoder = get_decoder(header.syntax)
        _check_length(header, options, name)
        if header.tags.BitsAllocated == 1:
            return _bits(header, frame)
    in_child = _needs_child(header, len(compressed), plugin, name)
    header.stream.seek(header.offset)
    try:
        if in_child:
            return decode_frame(header.syntax, compressed, options)
        return decoder.as_array(header.stream, index=frame, decoding_plugin=plugin, **options)[0]
    except MemoryError:
        raise
    except Exception as error:  # decoders in C raise anything
        if not header.syntax.is_compressed:
            raise
        raise UnreadableImage(
            f"{name} is damaged, or its decoder does not support it: it is compressed as {header.syntax.name}, and"
            f" decoding it failed ({error if isinstance(error, DecodingFailed) else type(error).__name__})."
        ) from None


def _decoder(header: Header, name: str) -> "Decoder":
    """Return the decoder of a compressed transfer syntax."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL, JPEGExtended12Bit

    syntax = header.syntax
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableImage(f"{name} is compressed as {syntax.name}, which is not supported.") from None
    twelve_bits = syntax == JPEGExtended12Bit and header.tags.BitsStored > 8
    if decoder.is_available and (not twelve_bits or "pylibjpeg" in decoder.available_plugins):
        return decoder
    extra = EXTRA
    if twelve_bits or syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):  # rare, so not part of the extra
        extra = f"Install it with: pip install pylibjpeg pylibjpeg-{'libjpeg' if twelve_bits else 'openjpeg'}"
    sentence = f"{name} is compressed as {syntax.name}, whose decoder is not installed. {extra}"
    raise UnreadableImage(sentence) from MissingExtra(extra)


def _codestream(header: Header, frame: int, options: dict[str, Any], name: str) -> tuple[Codestream | None, bytes]:
    """Return the properties in the compressed image's own header, None for RLE, which has none, and its bytes.

    They must agree with the DICOM header, whose size was checked, because a decoder allocates what the codestream says.
    GDCM moreover aborts the process on some damaged codestreams; this check stops most of them, and a child the rest
    where it matters (:mod:`shpeft.images.decoder_process`).
    """
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    header.stream.seek(header.offset)
    offsets = options.get("extended_offsets")
    data = get_frame(header.stream, frame, number_of_frames=header.frames, extended_offsets=offsets)
    if header.syntax == RLELossless:
        return None, data
    codestream = describe(data)
    if codestream is None:
        raise UnreadableImage(f"{name} is damaged: its compressed image has no readable header.")
    expected = (header.tags.Columns, header.tags.Rows, header.tags.SamplesPerPixel)
    if codestream[:3] != expected or not 0 < codestream.bits <= header.tags.BitsAllocated:
        raise UnreadableImage(f"{name} is damaged: its compressed image has another size than its header says.")
    return codestream, data


def _needs_child(header: Header, length: int, plugin: str, name: str) -> bool:
    """Return whether a compressed frame is decoded in a child; refuse run lengths that are too many for the image.

    One byte of run lengths can stand for 64. No encoder needs more than two bytes for one.
    """
    from pydicom.uid import RLELossless

    if header.syntax == RLELossless:
        tags = header.tags
        size = tags.Rows * tags.Columns * tags.SamplesPerPixel * ceil(tags.BitsAllocated / 8)
        if length > 2 * size + RLE_HEADER:
            raise UnreadableImage(f"{name} is damaged: its compressed image has more bytes than its pixels can need.")
        return length > RLE_BYTES
    return bool(length and not plugin and is_isolated())


def _plugin(decoder: "Decoder", codestream: Codestream | None) -> str:
    """Return Pillow, which survives damaged files, if it decodes all bits; otherwise pydicom's choice."""
    lossless = codestream is not None and (codestream.channels == 1 or codestream.bits <= 8)
    return "pillow" if lossless and "pillow" in decoder.available_plugins else ""


def _check_length(header: Header, options: dict[str, Any], name: str) -> None:
    """Raise if there are fewer bytes than the frames need; correct colors that are wrongly marked as subsampled."""
    tags = header.tags
    if header.length == UNDEFINED:
        raise UnreadableImage(f"{name} is damaged: its pixels are compressed, but its header says that they are not.")
    needed = tags.Rows * tags.Columns * tags.SamplesPerPixel * tags.BitsAllocated * header.frames / 8
    if tags.PhotometricInterpretation == "YBR_FULL_422":
        if header.length >= needed:
            options["photometric_interpretation"] = "YBR_FULL"
        else:
            needed = needed * 2 / 3
    if header.length < ceil(needed):
        raise UnreadableImage(f"{name} is damaged: it has fewer pixels than its header says.")


def _bits(header: Header, frame: int) -> np.ndarray:
    """Return pixels of one bit each; pydicom reads too few if a frame begins within a byte."""
    shape = header.tags.Rows, header.tags.Columns
    first, offset = divmod(frame * shape[0] * shape[1], 8)
    header.stream.seek(header.offset + first)
    packed = np.frombuffer(header.stream.read(ceil((offset + shape[0] * shape[1]) / 8)), np.uint8)
    return np.unpackbits(packed, bitorder="little")[offset : offset + shape[0] * shape[1]].reshape(shape)


def _described(values: np.ndarray, header: Header, frame: int, decoding: Decoding) -> Pixels:
    """Return the stored values with the properties in the header; palette colors as RGB of 8 bits."""
    if header.tags.PhotometricInterpretation == PALETTE:
        return color.pixels(dicom_pixels.palette(values, header.tags), decoding)
    if values.ndim == 3:  # full intensity means all stored bits: PS3.3 C.7.6.3.1.2
        return color.pixels(values, decoding, file_views=(View(0, 2 ** int(header.tags.BitsStored) - 1),))
    return dicom_pixels.gray(values, header.tags, frame, decoding)
