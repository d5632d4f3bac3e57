"""What a compressed image says of itself, read from its first bytes: nothing is decoded."""

import struct
from struct import unpack_from
from typing import NamedTuple

JPEG = b"\xff\xd8"
JPEG_2000 = b"\xff\x4f\xff\x51"

FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG (ISO 10918-1, table B.1) and JPEG-LS (ISO 14495-1, table C.1) that begin the size of the image."""

WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""Markers that no segment follows."""

LOWEST, START_OF_SCAN, ADOBE, FILL = 0xC0, 0xDA, 0xEE, 0xFF


class Codestream(NamedTuple):
    """Width and height in pixels, channels, and bits of the first channel, which may be signed in JPEG 2000."""

    width: int
    height: int
    channels: int
    bits: int
    signed: bool = False


def describe(data: bytes) -> Codestream | None:
    """The header of a JPEG, JPEG-LS or JPEG 2000 codestream; None where there is none."""
    try:
        if data.startswith(JPEG):
            return _jpeg(data)
        if (start := data.find(JPEG_2000, 0, 4096)) >= 0:  # a JP2 file has boxes before its codestream
            return _jpeg_2000(data, start)
    except (struct.error, IndexError):  # cut short
        pass
    return None


def _jpeg(data: bytes) -> Codestream | None:
    """Segment by segment up to the pixels: a chain that breaks before is no codestream."""
    at = len(JPEG)
    found = None
    while True:
        prefix, marker = unpack_from(">BB", data, at)
        if prefix != FILL or (marker < LOWEST and marker not in WITHOUT_LENGTH):
            return None
        if marker == START_OF_SCAN:
            return found
        if marker == FILL or marker in WITHOUT_LENGTH:
            at += 1 if marker == FILL else 2
            continue
        if marker in FRAME_HEADERS:
            length, bits, height, width, channels = unpack_from(">HBHHB", data, at + 2)
            tables = unpack_from(">" + "2xB" * channels, data, at + 10)
            if length != 8 + 3 * channels or max(tables, default=4) > 3:
                return None
            found = Codestream(width, height, channels, bits)
        if marker == ADOBE and data[at + 4 : at + 9] == b"Adobe" and data[at + 15] > 1:
            return None  # a colour transformation of four channels, or none: GDCM would end the process
        at += 2 + unpack_from(">H", data, at + 2)[0]


def _jpeg_2000(data: bytes, start: int) -> Codestream:
    """The SIZ segment: ISO 15444-1, A.5.1."""
    right, bottom, left, top = unpack_from(">4I", data, start + 8)
    channels, depth = unpack_from(">HB", data, start + 40)
    return Codestream(right - left, bottom - top, channels, (depth & 0x7F) + 1, bool(depth & 0x80))
