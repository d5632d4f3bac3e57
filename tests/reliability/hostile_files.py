"""Files that try to do harm, of twelve kinds, and how each kind is read."""

import io
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.dicom_files import dicom_of

Make = Callable[[Path], Path]
"""Writes a hostile file under a folder; returns its path."""


def _bytes(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


# -- documents

SCALARS: tuple[str, ...] = (
    "!!float x",
    "!!python/object/apply:os.system [id]",
    "2024-01-01",
    ".inf",
    "-.inf",
    ".nan",
    "!!binary eA==",
)
SCALARS += ("!!set {a}", "1e999", "0x" + "f" * 4000, "9" * 5000, "!!int x", "&a [*a]", "? [x] : y", "\x00", "\udc80")


def configurations() -> Iterator[tuple[str, Make]]:
    """Configurations: aliases, odd scalars, depth, length, encodings."""
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    yield "a billion laughs", _bytes("c.yaml", laughs.encode())
    for number, scalar in enumerate(SCALARS):
        text = f"seed: {scalar}\n".encode("utf-8", "surrogatepass")
        yield f"scalar {number}", _bytes("c.yaml", text)
    for depth in (1_000, 100_000):
        yield f"{depth} levels", _bytes("c.yaml", b"[" * depth)
        yield f"{depth} maps", _bytes("c.yaml", b"{a: " * depth)
    yield "a long text", _bytes("c.yaml", b"name: " + b"x" * 2_000_000)
    yield "many keys", _bytes("c.yaml", b"".join(b"k%d: 1\n" % n for n in range(100_000)))
    yield "merge keys", _bytes("c.yaml", b"a: &a {b: 1}\nc: {<<: *a}\n")
    yield "UTF-16", _bytes("c.yaml", "seed: 1".encode("utf-16"))
    yield "no YAML", _bytes("c.yaml", os.urandom(4096))


def run_documents(name: str) -> Iterator[tuple[str, Make]]:
    """A file of a run that is damaged in many ways."""
    documents = {
        "Infinity": b'{"loss": Infinity}',
        "NaN": b'{"loss": NaN}',
        "1e999": b'{"a": 1e999}',
        "a key twice": b'{"a": 1, "a": 2}',
        "levels": b"[" * 100_000,
        "maps": b'{"a":' * 100_000,
        "a number": b"9" * 100_000,
        "a list": b"[1]",
        "null": b"null",
        "text": b'"x"',
        "empty": b"",
        "binary": bytes(range(256)) * 16,
        "surrogates": b'{"a": "\\ud800"}',
        "large": b'{"a": "' + b"x" * (2 * 2**20) + b'"}',
        "control characters": b'{"message": "\\u0000\\u001b[31m"}',
    }
    for kind, data in documents.items():
        yield f"{name}: {kind}", _bytes(name, data)


# -- tensors


def _safetensors(header: bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + payload


def tensor_files(name: str) -> Iterator[tuple[str, Make]]:
    """safetensors whose header lies."""
    tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    valid = json.dumps({"a": tensor}).encode()
    cases = {
        "a header of 2^63 bytes": _safetensors(b"{}", length=2**63),
        "a header of 100 MB": _safetensors(b"{}", length=100_000_000),
        "a key twice": _safetensors(valid[:-1] + b"," + valid[1:], bytes(16)),
        "a shape of 10^18": _safetensors(json.dumps({"a": tensor | {"shape": [10**9, 10**9]}}).encode(), bytes(16)),
        "offsets outside": _safetensors(json.dumps({"a": tensor | {"data_offsets": [0, 10**12]}}).encode(), bytes(16)),
        "offsets backwards": _safetensors(json.dumps({"a": tensor | {"data_offsets": [16, 0]}}).encode(), bytes(16)),
        "an unknown type": _safetensors(json.dumps({"a": tensor | {"dtype": "F77"}}).encode(), bytes(16)),
        "levels": _safetensors(b"[" * 100_000),
        "a header that is no JSON": _safetensors(b"x" * 100),
        "metadata that are no texts": _safetensors(
            json.dumps({"__metadata__": {"a": 1}, "a": tensor}).encode(), bytes(16)
        ),
        "metadata of other things": _safetensors(
            json.dumps({"__metadata__": {"format": "shpeft", "shpeft": "[" * 50_000}, "a": tensor}).encode(), bytes(16)
        ),
        "no tensors": _safetensors(b"{}"),
        "cut off": _safetensors(valid, bytes(3)),
        "empty": b"",
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
    }
    for kind, data in cases.items():
        yield kind, _bytes(name, data)


def arrays() -> Iterator[tuple[str, Make]]:
    """npz files: objects, labels of 10^9, shapes that lie."""

    def npz(**changes: Any) -> bytes:
        rng = np.random.default_rng(0)
        parts: dict[str, Any] = {}
        for split in ("train", "val", "test"):
            parts[f"{split}_images"] = rng.integers(0, 255, (8, 8, 8), dtype=np.uint8)
            parts[f"{split}_labels"] = np.arange(8).reshape(-1, 1) % 2
        parts |= changes
        out = io.BytesIO()
        np.savez_compressed(out, **{name: value for name, value in parts.items() if value is not None})
        return out.getvalue()

    def lying(shape: str) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
            archive.writestr(
                "train_images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
            )
        return out.getvalue()

    labels = np.zeros((8, 1), np.int64)
    for value in (10**9, 2**62, -1, -(2**62)):
        labels = np.array([[0], [value]] * 4)
        yield f"label {value}", _bytes("d.npz", npz(train_labels=labels))
    yield "objects", _bytes("d.npz", npz(train_labels=np.array([[object()]] * 8, dtype=object)))
    yield "floats", _bytes("d.npz", npz(train_labels=np.full((8, 1), np.nan)))
    yield "zeros that unpack", _bytes("d.npz", npz(train_images=np.zeros((8, 4_000, 4_000), np.uint8)))
    yield "no labels", _bytes("d.npz", npz(train_labels=None))
    yield "five axes", _bytes("d.npz", npz(train_images=np.zeros((8, 2, 2, 2, 2), np.uint8)))
    yield "no images", _bytes("d.npz", npz(train_images=np.zeros((0, 8, 8), np.uint8), train_labels=np.zeros((0, 1))))
    for shape in ("(10**9,)", "(1000000000000, 8, 8)", "(-1, 8, 8)", "('x',)", "(" * 500 + ")" * 500):
        yield f"shape {shape[:20]}", _bytes("d.npz", lying(shape))


# -- tables


def tables() -> Iterator[tuple[str, Make]]:
    """Tables: Parquet that unpacks, NUL, names that lead out, endless lines."""
    import pyarrow as pa
    from pyarrow import parquet

    def repeated(text: str, rows: int) -> Make:
        def make(folder: Path) -> Path:
            values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text])
            parquet.write_table(pa.table({"path": values, "label": values}), folder / "t.parquet")
            return folder / "t.parquet"

        return make

    yield "Parquet of 10^8 rows", repeated("a.png", 100_000_000)
    yield "Parquet of long texts", repeated("x" * 100_000, 200_000)
    yield "Parquet that is cut off", _bytes("t.parquet", b"PAR1" + bytes(100) + b"PAR1")
    names = (
        "../../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "a\x00b.png",
        "a\udc80.png",
        "x" * 5000,
        "CON",
        "\\\\h\\s",
    )
    for number, name in enumerate(names):
        text = f"path,label\n{name},a\n{name}2,b\n".encode("utf-8", "surrogateescape")
        yield f"name {number}", _bytes("t.csv", text)
    yield "one line of 20 MB", _bytes("t.csv", b"path,label\n" + b"x" * 20_000_000)
    yield "a quote that never ends", _bytes("t.csv", b'path,label\n"' + b"a,b\n" * 1_000_000)
    yield "100000 columns", _bytes("t.csv", b",".join(b"c%d" % n for n in range(100_000)) + b"\n")
    yield "NUL", _bytes("t.csv", bytes(100_000))
    yield "UTF-16", _bytes("t.csv", "path,label\na.png,x\n".encode("utf-16"))
    yield "empty", _bytes("t.csv", b"")
    yield "JSON lines of depth", _bytes("t.jsonl", b'{"path": ' + b"[" * 100_000 + b"\n")
    yield "JSON lines with NaN", _bytes("t.jsonl", b'{"path": NaN, "label": Infinity}\n')
    yield "JSON lines that are lists", _bytes("t.jsonl", b"[1, 2]\n[3]\n")


# -- images


def _png(width: int, height: int, bits: int, color: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def _saved(kind: str, size: tuple[int, int] = (64, 64), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind, **options)
    return out.getvalue()


def rasters() -> Iterator[tuple[str, Make]]:
    """PNG, GIF, BMP, PPM: sizes that lie, decompression, text chunks, extreme aspects."""
    yield "16 bits, 79 megapixels", _bytes("i.png", _png(8_900, 8_900, 16, 0, bytes(8_900 * (2 * 8_900 + 1))))
    yield "RGBA of 16 bits, 79 megapixels", _bytes("i.png", _png(8_900, 8_900, 16, 6, bytes(1000)))
    yield "RGB, 79 megapixels", _bytes("i.png", _png(8_900, 8_900, 8, 2, bytes(8_900 * (3 * 8_900 + 1))))
    yield "2^31 pixels wide", _bytes("i.png", _png(2**31 - 1, 1, 8, 0, b""))
    yield "2^31 × 2^31", _bytes("i.png", _png(2**31 - 1, 2**31 - 1, 8, 0, b""))
    yield "0 × 0", _bytes("i.png", _png(0, 0, 8, 0, b""))
    yield "1 × 70 million", _bytes("i.png", _png(1, 70_000_000, 8, 0, b""))
    text = struct.pack(">I", 10**6) + b"zTXt"
    bomb = zlib.compress(bytes(300_000_000), 9)
    chunk = struct.pack(">I", len(bomb) + 3) + b"zTXta\0\0" + bomb
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    png = _saved("PNG")
    yield "a text that unpacks to 300 MB", _bytes("i.png", png[:33] + chunk + png[33:])
    yield "a chunk that is cut off", _bytes("i.png", png[:33] + text)
    gif = _saved("GIF", mode="P")
    yield "GIF of 65535 × 65535", _bytes("i.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:])
    yield "GIF cut off", _bytes("i.gif", gif[:30])
    frames = [Image.new("P", (16, 16), n % 256) for n in range(2_000)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    yield "GIF of 2000 frames", _bytes("i.gif", out.getvalue())
    bmp = _saved("BMP")
    yield "BMP of 2^30 pixels", _bytes("i.bmp", bmp[:18] + struct.pack("<ii", 2**15, 2**15) + bmp[26:])
    yield "BMP upside down without end", _bytes("i.bmp", bmp[:18] + struct.pack("<ii", 64, -(2**31)) + bmp[26:])
    yield "PPM of 10^12 pixels", _bytes("i.ppm", b"P6 1000000 1000000 255\n")
    yield "PPM with a long comment", _bytes("i.ppm", b"P6 #" + b"x" * 5_000_000 + b"\n4 4 255\n")
    yield "PPM in text", _bytes("i.ppm", b"P3 4 4 255\n" + b"9" * 1_000_000)


def photographs() -> Iterator[tuple[str, Make]]:
    """JPEG, TIFF, WebP, JPEG 2000: many scans, loops of directories, damaged streams."""
    jpeg, tiff = _saved("JPEG", progressive=True), _saved("TIFF")
    scan = jpeg.find(b"\xff\xda")
    yield "JPEG of 65500 × 65500", _bytes("i.jpg", _jpeg_of(jpeg, 65_500, 65_500))
    yield "JPEG of 8900 × 8900", _bytes("i.jpg", _jpeg_of(jpeg, 8_900, 8_900))
    yield "JPEG of 5000 scans", _bytes("i.jpg", _jpeg_of(jpeg, 6_000, 6_000)[:-2] + jpeg[scan:-2] * 5_000 + b"\xff\xd9")
    yield "JPEG cut off", _bytes("i.jpg", jpeg[:-40])
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    yield "JPEG with long EXIF", _bytes("i.jpg", _saved("JPEG", exif=exif))
    yield (
        "JPEG with EXIF that loops",
        _bytes("i.jpg", jpeg[:2] + b"\xff\xe1\x00\x16Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x08\0\0\0" + jpeg[2:]),
    )
    loop = b"II*\0\x08\0\0\0" + b"\0\0" + struct.pack("<I", 8)
    yield "TIFF whose directories loop", _bytes("i.tif", loop)
    yield "TIFF of 65535 tags", _bytes("i.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65_535))
    yield "TIFF cut off", _bytes("i.tif", tiff[: len(tiff) // 2])
    pages = [Image.new("L", (8, 8))] * 500
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    yield "TIFF of 500 pages", _bytes("i.tif", out.getvalue())
    large = _saved("TIFF", (8_900, 8_900), "I;16", compression="tiff_adobe_deflate")
    yield "TIFF of 16 bits, 79 megapixels", _bytes("i.tif", large)
    wide = _saved("TIFF", (8_000, 8_000), "F", compression="tiff_lzw")
    yield "TIFF of floats, 64 megapixels", _bytes("i.tif", wide)
    webp = _saved("WEBP")
    yield "WebP cut off", _bytes("i.webp", webp[: len(webp) // 2])
    yield "WebP of 16383 × 16383", _bytes("i.webp", webp[:26] + b"\xff\x3f\xff\x3f" + webp[30:])
    jp2 = _saved("JPEG2000")
    at = jp2.find(b"\xff\x51")
    yield "JPEG 2000 of 2^32", _bytes("i.jp2", jp2[: at + 6] + b"\xff" * 8 + jp2[at + 14 :])
    yield "JPEG 2000 cut off", _bytes("i.jp2", jp2[: len(jp2) // 2])
    for name in ("i.eps", "i.pdf", "i.svg", "i.html", "i.exe"):
        data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop" if name == "i.eps" else b"<svg onload='x'/>"
        yield f"{name[2:]}", _bytes(name, data)


def _jpeg_of(jpeg: bytes, width: int, height: int) -> bytes:
    at = next(jpeg.find(marker) for marker in (b"\xff\xc2", b"\xff\xc0") if marker in jpeg)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def scans() -> Iterator[tuple[str, Make]]:
    """DICOM: sizes that lie, sequences without end, deflated data that unpacks."""
    stored = io.BytesIO()
    dicom_of(np.zeros((16, 16), np.uint16)).save_as(stored, enforce_file_format=True)
    good = stored.getvalue()

    def changed(**values: Any) -> bytes:
        from pydicom import dcmread

        dataset = dcmread(io.BytesIO(good))
        for name, value in values.items():
            setattr(dataset, name, value)
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=True)
        return out.getvalue()

    yield "65535 × 65535", _bytes("s.dcm", changed(Rows=65_535, Columns=65_535))
    yield "8900 × 8900", _bytes("s.dcm", changed(Rows=8_900, Columns=8_900))
    yield "2^31 frames", _bytes("s.dcm", changed(NumberOfFrames=2**31 - 1))
    yield "-1 frames", _bytes("s.dcm", changed(NumberOfFrames=-1))
    yield "0 rows", _bytes("s.dcm", changed(Rows=0))
    yield "64 bits", _bytes("s.dcm", changed(BitsAllocated=64))
    yield "bits stored 99", _bytes("s.dcm", changed(BitsStored=99))
    yield "a slope of NaN", _bytes("s.dcm", changed(RescaleSlope="nan", RescaleIntercept="0"))
    yield "a slope of 1e300", _bytes("s.dcm", changed(RescaleSlope="1e300", RescaleIntercept="1e300"))
    yield "a window of 0", _bytes("s.dcm", changed(WindowWidth=0, WindowCenter=0))
    yield "a strange color", _bytes("s.dcm", changed(PhotometricInterpretation="PALETTE COLOR"))
    yield "four samples", _bytes("s.dcm", changed(SamplesPerPixel=4))
    yield "cut off", _bytes("s.dcm", good[:-100])
    yield "only the preamble", _bytes("s.dcm", bytes(128) + b"DICM")
    item = struct.pack("<HH", 0x0008, 0x1140) + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    yield "sequences in sequences", _bytes("s.dcm", good[:132] + item * 20_000)
    yield "an element of 4 GB", _bytes("s.dcm", good + struct.pack("<HH", 0x0010, 0x4000) + b"UT\0\0\xfe\xff\xff\xff")
    head = good[: good.find(b"\x08\x00")]
    bomb = zlib.compressobj(9, wbits=-15)
    deflated = bomb.compress(struct.pack("<HH", 0x0010, 0x4000) + b"UT\0\0" + struct.pack("<I", 2**30) + bytes(2**30))
    deflated += bomb.flush()
    yield "deflated data that unpack to 1 GB", _bytes("s.dcm", _deflated(head, deflated))
    yield "deflated data that are none", _bytes("s.dcm", _deflated(head, b"\xff" * 1000))
    yield from compressed_scans()


def compressed_scans() -> Iterator[tuple[str, Make]]:
    """DICOM: compressed frames whose own size lies, and run lengths that unpack."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    def scan(frame: bytes, syntax: str, size: int = 64) -> bytes:
        data = dicom_of(np.zeros((size, size), np.uint8))
        data.file_meta.TransferSyntaxUID = UID(f"1.2.840.10008.1.2.{syntax}")
        data.PixelData = encapsulate([frame])
        data["PixelData"].VR = "OB"
        out = io.BytesIO()
        data.save_as(out, enforce_file_format=True)
        return out.getvalue()

    jpeg, jp2 = _saved("JPEG", mode="L"), _saved("JPEG2000", mode="L", no_jp2=True)
    at = jp2.find(b"\xff\x51")
    for size in (65_500, 8_900):
        yield f"JPEG of {size} × {size} in 64 × 64", _bytes("s.dcm", scan(_jpeg_of(jpeg, size, size), "4.50"))
    yield "JPEG of 8900 × 8900 in as many", _bytes("s.dcm", scan(_jpeg_of(jpeg, 8_900, 8_900), "4.50", 8_900))
    yield "JPEG 2000 of 2^32 in 64 × 64", _bytes("s.dcm", scan(jp2[: at + 6] + b"\xff" * 8 + jp2[at + 14 :], "4.90"))
    yield "JPEG 2000 cut off in DICOM", _bytes("s.dcm", scan(jp2[: len(jp2) // 2], "4.90"))
    yield "JPEG lossless that is none", _bytes("s.dcm", scan(jpeg, "4.70"))
    yield "JPEG-LS that is none", _bytes("s.dcm", scan(b"\xff\xd8\xff\xf7" + bytes(100), "4.80"))
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    for size, length in ((64, 30_000_000), (2_000, 7_900_000), (8_900, 10_000_000)):
        frame = header + b"\x81\x00" * (length // 2)
        yield f"run lengths of {length} bytes in {size} × {size}", _bytes("s.dcm", scan(frame, "5", size))


def _deflated(head: bytes, data: bytes) -> bytes:
    syntax = b"1.2.840.10008.1.2.1.99"
    meta = struct.pack("<HH", 2, 0x10) + b"UI" + struct.pack("<H", len(syntax)) + syntax
    length = struct.pack("<HH", 2, 0) + b"UL" + struct.pack("<HI", 4, len(meta))
    return bytes(128) + b"DICM" + length + meta + data


# -- archives


def _zip(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change:
                change(info)
            archive.writestr(info, data)
    return out.getvalue()


def _with_size(data: bytes, size: int) -> bytes:
    """Return a zip whose headers state another size of each member."""
    at, changed = data.find(b"PK\x01\x02"), bytearray(data)
    changed[at + 24 : at + 28] = struct.pack("<I", size)
    changed[22:26] = struct.pack("<I", size)
    return bytes(changed)


def archives(member: str) -> Iterator[tuple[str, Make]]:
    """Zips: bombs, links, names that lead out, overlaps, sizes that lie."""
    bomb = _zip({member: bytes(400_000_000)})

    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = 0o120777 << 16

    cases = {
        "400 MB of zeros": bomb,
        "400 MB that claim to be 10": _with_size(bomb, 10),
        "10 that claim to be 4 GB": _with_size(_zip({member: bytes(10)}), 2**32 - 2),
        "a name that leads out": _zip({"../../evil": b"x"}),
        "an absolute name": _zip({"/tmp/evil": b"x"}),
        "a drive": _zip({"C:\\evil": b"x"}),
        "a link": _zip({member: b"/etc/passwd"}, link),
        "a name with NUL": _zip({"a\0b.png": b"x"}),
        "one name twice": _zip({member: b"x"}) + _zip({member: b"y"}),
        "50000 members": _zip({f"{n}.png": b"" for n in range(50_000)}),
        "a zip in a zip": _zip({"inner.zip": bomb}),
        "a long name": _zip({"x" * 60_000: b"x"}),
        "cut off": bomb[: len(bomb) // 2],
        "no zip": b"PK\x03\x04" + os.urandom(1000),
        "empty": _zip({}),
        "a manifest of depth": _zip({"manifest.json": b"[" * 100_000}),
        "a manifest of NaN": _zip({"manifest.json": b'{"format": NaN}'}),
    }
    for kind, data in cases.items():
        yield kind, _bytes("a.zip", data)


# -- things that are no files


def things() -> Iterator[tuple[str, Make]]:
    """Pipes, devices, sockets, links, sparse giants and folders, in the place of a file."""

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "t.png")
        return folder / "t.png"

    def device(folder: Path, target: str = "/dev/zero") -> Path:
        (folder / "t.png").symlink_to(target)
        return folder / "t.png"

    def server(folder: Path) -> Path:
        before = os.getcwd()
        os.chdir(folder)  # an address of a socket is short
        try:
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind("t.png")
        finally:
            os.chdir(before)
        return folder / "t.png"

    def sparse(folder: Path) -> Path:
        with (folder / "t.png").open("wb") as file:
            file.truncate(2**40)
        return folder / "t.png"

    def folder_itself(folder: Path) -> Path:
        (folder / "t.png").mkdir()
        return folder / "t.png"

    yield "a pipe", pipe
    yield "zeros without end", device
    yield "random bytes without end", lambda folder: device(folder, "/dev/urandom")
    yield "a terminal", lambda folder: device(folder, "/dev/tty")
    yield "memory", lambda folder: device(folder, "/proc/self/mem")
    yield "a link to itself", lambda folder: device(folder, "t.png")
    yield "a link to nothing", lambda folder: device(folder, "nowhere")
    yield "a socket", server
    yield "a sparse terabyte", sparse
    yield "a folder", folder_itself
