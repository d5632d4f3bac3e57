"""TIFF and PNG files for the tests, written byte by byte where Pillow cannot write them."""

import struct
import zlib

import numpy as np


def tiff(values: np.ndarray, *, deflated: bool = False, predictor: int = 1, **tags: int) -> bytes:
    """A TIFF of one strip, little or big endian as the values are, written tag by tag."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    channels = values.shape[2] if values.ndim == 3 else 1
    bits = 8 * values.dtype.itemsize
    strip = values
    if predictor == 2:  # each pixel as the difference from the one before it
        strip = np.diff(values, axis=1, prepend=np.zeros_like(values[:, :1])).astype(values.dtype)
    data = zlib.compress(strip.tobytes()) if deflated else strip.tobytes()
    entries = {
        256: ("H", [values.shape[1]]),
        257: ("H", [values.shape[0]]),
        258: ("H", [bits] * channels),
        259: ("H", [8 if deflated else 1]),
        262: ("H", [tags.get("photometric", 1 if channels == 1 else 2)]),
        273: ("I", [8]),
        274: ("H", [tags.get("orientation", 1)]),
        277: ("H", [channels]),
        278: ("H", [values.shape[0]]),
        279: ("I", [len(data)]),
        284: ("H", [tags.get("planar", 1)]),
        317: ("H", [predictor]),
        338: ("H", [tags["extra"]] if "extra" in tags else []),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels),
    }
    entries = {tag: entry for tag, entry in entries.items() if entry[1]}
    more = 8 + len(data)
    body, extra = b"", b""
    for tag, (kind, numbers) in entries.items():
        value = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        body += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(numbers))
        if len(value) > 4:
            body += struct.pack(f"{order}I", more + len(extra))
            extra += value
        else:
            body += value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", more + len(extra))
    return head + data + extra + struct.pack(f"{order}H", len(entries)) + body + bytes(4)


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
"""First row, first column, and steps down and along of each pass of an interlaced PNG."""


def png(values: np.ndarray, *, interlaced: bool = False, clear: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits: gray and transparency, colors, or colors and transparency.

    ``clear`` is the color that stands for transparency.
    """
    kind = {2: 4, 3: 2, 4: 6}[values.shape[2]]
    passes = [values[top::down, left::along] for top, left, down, along in ADAM7] if interlaced else [values]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if clear:
        chunks.insert(1, (b"tRNS", struct.pack(">3H", *clear)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
