"""Read the header of a JPEG, JPEG-LS or JPEG 2000 codestream, without decoding it."""

import struct
from struct import unpack_from
from typing import BinaryIO, NamedTuple

JPEG = b"\xff\xd8"
JPEG_2000 = b"\xff\x4f\xff\x51"

FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of the frame header in JPEG (ISO 10918-1, table B.1) and JPEG-LS (ISO 14495-1, table C.1)."""

WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""Markers without a segment."""

LOWEST, START_OF_SCAN, ADOBE, FILL = 0xC0, 0xDA, 0xEE, 0xFF


class Codestream(NamedTuple):
    """Properties of a compressed image.

    Attributes:
        width, height: in pixels.
        channels: number of channels.
        bits: of the first channel.
        signed: whether its values are signed (JPEG 2000 only).
    """

    width: int
    height: int
    channels: int
    bits: int
    signed: bool = False


def count_scans(file: BinaryIO) -> int:
    """Return the number of passes over the pixels that a JPEG file asks for; the file's position changes."""
    file.seek(0)
    marker, count, last = bytes((FILL, START_OF_SCAN)), 0, b""
    while chunk := file.read(2**20):
        count += (last + chunk).count(marker)  # in the coded data, a byte FF is followed by 00
        last = chunk[-1:]
    return count


def describe(data: bytes) -> Codestream | None:
    """Return the properties in the header of a codestream; None if there is no valid header."""
    try:
        if data.startswith(JPEG):
            return _jpeg(data)
        if (offset := data.find(JPEG_2000, 0, 4096)) >= 0:  # a JP2 file has boxes before its codestream
            return _jpeg_2000(data, offset)
    except (struct.error, IndexError):  # cut short
        pass
    return None


def _jpeg(data: bytes) -> Codestream | None:
    """Follow the segments up to the pixels; None if the chain breaks before."""
    at = len(JPEG)
    codestream = None
    while True:
        prefix, marker = unpack_from(">BB", data, at)
        if prefix != FILL or (marker < LOWEST and marker not in WITHOUT_LENGTH):
            return None
        if marker == START_OF_SCAN:
            return codestream
        if marker == FILL or marker in WITHOUT_LENGTH:
            at += 1 if marker == FILL else 2
            continue
        if marker in FRAME_HEADERS:
            length, bits, height, width, channels = unpack_from(">HBHHB", data, at + 2)
            tables = unpack_from(">" + "2xB" * channels, data, at + 10)
            if length != 8 + 3 * channels or max(tables, default=4) > 3:
                return None
            codestream = Codestream(width, height, channels, bits)
        if marker == ADOBE and data[at + 4 : at + 9] == b"Adobe" and data[at + 15] > 1:
            return None  # a color transform of four channels, on which GDCM would end the process
        at += 2 + unpack_from(">H", data, at + 2)[0]


def _jpeg_2000(data: bytes, offset: int) -> Codestream:
    """Read the SIZ segment: ISO 15444-1, A.5.1."""
    right, bottom, left, top = unpack_from(">4I", data, offset + 8)
    channels, depth = unpack_from(">HB", data, offset + 40)
    return Codestream(right - left, bottom - top, channels, (depth & 0x7F) + 1, bool(depth & 0x80))
