"""DICOM files as pixels, through pydicom: one frame, uncompressed or compressed, as grey of all bits or as RGB."""

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import colours, dicom_grey
from shpeft.images.codestream import Codestream, describe
from shpeft.images.decoding import Decoding
from shpeft.images.dicom_header import UNDEFINED, Header, parse
from shpeft.images.pixels import Pixels, View

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

SUFFIXES = (".dcm", ".dicom")
EXTRA = "Install it with: pip install 'shpeft[dicom]'"

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

BYTES_PER_PIXEL = 3
"""Of a deflated file, for each pixel of the largest image: RGB, or grey of 16 bits and its header."""


def read(file: BinaryIO, decoding: Decoding, max_pixels: int, name: str) -> Pixels:
    """One frame, grey with all its bits or RGB. Only this frame is read, whatever the number of them.

    Raises:
        MissingExtra: pydicom is not installed, or cannot be loaded.
        UnreadableImage: no pixels, damaged ones, too many, of a kind that is not read, or no such frame; or what
            decodes this file's compression is not installed, which is then its cause.
    """
    try:
        import pydicom.pixels  # noqa: F401
    except ImportError:
        raise MissingExtra(f"DICOM files need the package 'pydicom', which is not installed. {EXTRA}") from None
    except Exception as error:  # a decoder that was built for another NumPy or another system, which pydicom imports
        raise MissingExtra(
            f"DICOM files need the package 'pydicom', which cannot be loaded ({type(error).__name__}). Install it anew "
            "with: pip install --force-reinstall 'shpeft[dicom]'"
        ) from None
    try:
        header = parse(file, BYTES_PER_PIXEL * max_pixels, name)
        frame = _frame(header, decoding.frame, name)
        _check_size(header, max_pixels, name)
        found = _described(_pixels(header, frame, name), header, frame, decoding)
        return replace(found, frame=frame, frames=header.frames)
    except (UnreadableImage, MissingExtra):
        raise
    except MemoryError:
        raise UnreadableImage(f"{name} cannot be read as an image: there is not enough memory for it.") from None
    except Exception as error:  # pydicom raises anything on damaged files; its words may quote tags
        raise UnreadableImage(
            f"{name} cannot be read as an image: it is a damaged DICOM file ({type(error).__name__})."
        ) from None


def _frame(header: Header, wanted: int | None, name: str) -> int:
    count = header.frames
    if wanted is None:
        return (count - 1) // 2
    if not 0 <= wanted < count:
        raise UnreadableImage(f"{name} has {count} frames, counted from 0; frame {wanted} was asked for.")
    return wanted


def _check_size(header: Header, max_pixels: int, name: str) -> None:
    """Before anything is decoded."""
    if header.tags.Rows * header.tags.Columns > max_pixels:
        raise UnreadableImage(
            f"{name} has {header.tags.Columns} x {header.tags.Rows} pixels; at most {max_pixels // 10**6} million are"
            " read. Save a smaller copy."
        )
    kind = header.tags.PhotometricInterpretation
    if kind not in (*MONOCHROME, *COLOUR, PALETTE):
        raise UnreadableImage(
            f"{name} keeps its pixels in a way that is not read; {', '.join((*MONOCHROME, PALETTE, *COLOUR))} are."
        )


def _pixels(header: Header, frame: int, name: str) -> np.ndarray:
    """The stored values of one frame, (H, W), or (H, W, 3) in RGB."""
    from pydicom.pixels import as_pixel_options, get_decoder

    options = as_pixel_options(header.tags, pixel_keyword=header.keyword, pixel_vr=header.vr)
    options["planar_configuration"] = options.get("planar_configuration") or 0
    plugin = ""
    if header.syntax.is_compressed:
        decoder = _decoder(header, name)
        plugin = _plugin(decoder, _codestream(header, frame, options, name))
    else:
        decoder = get_decoder(header.syntax)
        _check_length(header, options, name)
        if header.tags.BitsAllocated == 1:
            return _bits(header, frame)
    header.stream.seek(header.start)
    try:
        return decoder.as_array(header.stream, index=frame, decoding_plugin=plugin, **options)[0]
    except MemoryError:
        raise
    except Exception as error:  # decoders in C raise anything
        if not header.syntax.is_compressed:
            raise
        raise UnreadableImage(
            f"{name} is damaged, or of a kind that its decoder does not know: it is compressed as {header.syntax.name},"
            f" and decoding it failed ({type(error).__name__})."
        ) from None


def _decoder(header: Header, name: str) -> "Decoder":
    """What decodes a compressed transfer syntax."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL, JPEGExtended12Bit

    syntax = header.syntax
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableImage(f"{name} is compressed as {syntax.name}, which is no image that can be read.") from None
    twelve_bits = syntax == JPEGExtended12Bit and header.tags.BitsStored > 8
    if decoder.is_available and (not twelve_bits or "pylibjpeg" in decoder.available_plugins):
        return decoder
    extra = EXTRA
    if twelve_bits or syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):  # beyond the extra: rare files among others
        extra = f"Install it with: pip install pylibjpeg pylibjpeg-{'libjpeg' if twelve_bits else 'openjpeg'}"
    sentence = f"{name} is compressed as {syntax.name}, and what decodes that is not installed. {extra}"
    raise UnreadableImage(sentence) from MissingExtra(extra)


def _codestream(header: Header, frame: int, options: dict[str, Any], name: str) -> Codestream | None:
    """What the compressed image says of itself; None for RLE, which says nothing.

    A decoder makes room for what it reads there, so that must be what the header says, whose size was checked. GDCM
    moreover ends the whole process on some that are damaged, most of which do not get past here.
    """
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    if header.syntax == RLELossless:
        return None
    header.stream.seek(header.start)
    offsets = options.get("extended_offsets")
    told = describe(get_frame(header.stream, frame, number_of_frames=header.frames, extended_offsets=offsets))
    if told is None:
        raise UnreadableImage(f"{name} is damaged: its compressed image has no readable header.")
    expected = (header.tags.Columns, header.tags.Rows, header.tags.SamplesPerPixel)
    if told[:3] != expected or not 0 < told.bits <= header.tags.BitsAllocated:
        raise UnreadableImage(f"{name} is damaged: its compressed image is not of the size that its header says.")
    return told


def _plugin(decoder: "Decoder", told: Codestream | None) -> str:
    """Pillow, which outlives damage, wherever it decodes all bits; otherwise pydicom's choice."""
    whole = told is not None and (told.channels == 1 or told.bits <= 8)
    return "pillow" if whole and "pillow" in decoder.available_plugins else ""


def _check_length(header: Header, options: dict[str, Any], name: str) -> None:
    """There must be as many bytes as all frames need; subsampled colours may turn out not to be so."""
    tags = header.tags
    if header.length == UNDEFINED:
        raise UnreadableImage(f"{name} is damaged: its pixels are compressed, and its header says that they are not.")
    needed = tags.Rows * tags.Columns * tags.SamplesPerPixel * tags.BitsAllocated * header.frames / 8
    if tags.PhotometricInterpretation == "YBR_FULL_422":
        if header.length >= needed:
            options["photometric_interpretation"] = "YBR_FULL"
        else:
            needed = needed * 2 / 3
    if header.length < ceil(needed):
        raise UnreadableImage(f"{name} is damaged: it holds fewer pixels than its header says.")


def _bits(header: Header, frame: int) -> np.ndarray:
    """Pixels of one bit, packed: a frame may begin within a byte, and pydicom then reads too few."""
    shape = header.tags.Rows, header.tags.Columns
    first, offset = divmod(frame * shape[0] * shape[1], 8)
    header.stream.seek(header.start + first)
    packed = np.frombuffer(header.stream.read(ceil((offset + shape[0] * shape[1]) / 8)), np.uint8)
    return np.unpackbits(packed, bitorder="little")[offset : offset + shape[0] * shape[1]].reshape(shape)


def _described(values: np.ndarray, header: Header, frame: int, decoding: Decoding) -> Pixels:
    """Stored values with what the header says of them; colours of 8 bits as they are shown."""
    if header.tags.PhotometricInterpretation == PALETTE:
        return colours.pixels(dicom_grey.palette(values, header.tags), decoding)
    if values.ndim == 3:  # full intensity is that of all stored bits: PS3.3 C.7.6.3.1.2
        return colours.pixels(values, decoding, filed=(View(0, 2 ** int(header.tags.BitsStored) - 1),))
    return dicom_grey.grey(values, header.tags, frame, decoding)
