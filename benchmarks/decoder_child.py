"""Time compressed DICOM frames decoded in this process and in a child of it, as an app with accounts does."""

import io
import os
import tempfile
from functools import partial
from pathlib import Path

import gdcm
import numpy as np
from harness import arguments, interleaved, publish, table
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from shpeft.images import open_pixels
from shpeft.support.isolation import VARIABLE

SYNTAXES = {"JPEG lossless": "JPEGLosslessProcess14_1", "JPEG-LS": "JPEGLSLossless", "JPEG 2000": "JPEG2000Lossless"}


def scan(size: int) -> bytes:
    """Return a DICOM file of a smooth image of 12 bits with noise."""
    y, x = np.mgrid[:size, :size]
    noise = np.random.default_rng(0).normal(0, 20, (size, size))
    values = ((np.sin(x / 40) * np.cos(y / 55) + 1) * 1500 + noise).clip(0, 4095).astype(np.uint16)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3")
    data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "CT", "MONOCHROME2", 1
    data.Rows = data.Columns = size
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = values.tobytes()
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def compressed(data: bytes, syntax: str) -> bytes:
    """Return the file with its pixels compressed."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.dcm", Path(folder) / "after.dcm"
        before.write_bytes(data)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        return after.read_bytes()


def read(data: bytes, isolated: str) -> None:
    """Read a file, with GDCM in a child or not."""
    os.environ[VARIABLE] = isolated
    open_pixels(data)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048], help="rows and columns")
    options = parser.parse_args()
    rows: list[list[object]] = []
    for size in options.sizes:
        plain = scan(size)
        files = {"none": plain} | {name: compressed(plain, syntax) for name, syntax in SYNTAXES.items()}
        for name, data in files.items():
            arms = {kind: partial(read, data, isolated) for kind, isolated in (("own", ""), ("child", "1"))}
            timings = interleaved(arms, options.repeats)
            own, child = (1e3 * min(timings[kind].seconds) for kind in ("own", "child"))
            rows.append([f"{size} × {size}, {name}", f"{own:.2f}", f"{child:.2f}", f"{child / own:.2f}"])
    header = ["scan, compression", "this process, ms", "a child, ms", "ratio"]
    text = (
        f"The fastest of {options.repeats} turns. Scans without compression, and gray JPEG 2000, which Pillow decodes, "
        "are read in this process in both columns: their ratios show the noise."
    )
    publish("Decoding in a child", f"{text}\n\n{table(header, rows)}", options.write)


if __name__ == "__main__":
    main()
