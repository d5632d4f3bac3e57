"""Files of more than 8 bits, written tag by tag and chunk by chunk where Pillow writes none."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **tags: int) -> bytes:
    """A TIFF of one strip, little or big endian as the values are, written tag by tag."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    channels = values.shape[2] if values.ndim == 3 else 1
    bits = 8 * values.dtype.itemsize
    entries = {
        256: ("H", [values.shape[1]]),
        257: ("H", [values.shape[0]]),
        258: ("H", [bits] * channels),
        259: ("H", [1]),
        262: ("H", [tags.get("photometric", 1 if channels == 1 else 2)]),
        273: ("I", [8]),
        277: ("H", [channels]),
        278: ("H", [values.shape[0]]),
        279: ("I", [values.nbytes]),
        284: ("H", [tags.get("planar", 1)]),
        338: ("H", [tags.get("extra", 0)] * (channels - 3)),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels),
    }
    more = 8 + values.nbytes
    entries = {tag: found for tag, found in entries.items() if found[1]}
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
    return head + values.tobytes() + extra + struct.pack(f"{order}H", len(entries)) + body + bytes(4)


def png(values: np.ndarray, kind: int, **more: bytes) -> bytes:
    """A PNG of 16 bits, with more chunks by name; kind 2 is RGB, 4 grey and 6 RGB with transparency."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    between = [(name.encode(), body) for name, body in more.items()]
    chunks = [(b"IHDR", header), *between, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
