"""Files of a batch: images, damaged and other files, under names that no output may contain."""

import io
import zipfile

import numpy as np
from PIL import Image

from tests.helpers.dicom_files import dicom_bytes, scan


def picture(seed: int, size: tuple[int, int] = (24, 20)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "DOE_JANE_1970.png": picture(0),
    "MUELLER/left.png": picture(1),
    "MUELLER/right.png": picture(2, (30, 18)),
    "MUELLER/slice": dicom_bytes(scan()),
    "broken.png": picture(3)[:60],
    "copy of left.png": picture(1),
    "empty.jpg": b"",
    "notes.txt": b"Jane Doe, born 1970",
    ".DS_Store": b"hidden",
    "DICOMDIR": b"\0" * 128 + b"DICM",
}
IMAGES = 7


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def images() -> list[str]:
    return [name for name in FILES if name not in ("notes.txt", ".DS_Store", "DICOMDIR")]
