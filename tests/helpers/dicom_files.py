"""DICOM files for the tests, made in memory; each names a patient, whose name no message may contain."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from shpeft.images import Decoding, open_image

PATIENT = "DOE^JANE"

HOUNSFIELD = np.array([[0, 24], [1024, 1064], [1264, 4000]], dtype=np.uint16)
"""With a rescale intercept of −1024: −1024, −1000, 0, 40, 240, 2976."""


def dicom_of(values: np.ndarray, kind: str = "MONOCHROME2", **tags: Any) -> Dataset:
    """Return a DICOM data set of gray (H, W), multi-frame (F, H, W) or color (H, W, 3) values."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3")
    data.PatientName, data.PatientID, data.Modality = PATIENT, PATIENT, "CT"
    color = kind in ("RGB", "YBR_FULL")
    if values.ndim == 3 and not color:
        data.NumberOfFrames = len(values)
    data.Rows, data.Columns = values.shape[:2] if color else values.shape[-2:]
    data.SamplesPerPixel = 3 if color else 1
    if color:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = kind
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def scan(**tags: Any) -> Dataset:
    """Return a CT slice of six pixels."""
    return dicom_of(HOUNSFIELD, RescaleSlope=1, RescaleIntercept=-1024, **tags)


def items(**tags: object) -> list[Dataset]:
    """Return a sequence of one item."""
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return [item]


def lookup(entries: list[int], first: int = 0, bits: int = 8) -> list[Dataset]:
    """Return a sequence that holds a lookup table."""
    table = Dataset()
    table.LUTDescriptor = [len(entries), first, bits]
    table.add_new("LUTData", "US", entries)
    return [table]


def in_syntax(data: Dataset, syntax: UID) -> bytes:
    """Return the file in an uncompressed or a deflated transfer syntax."""
    data.file_meta.TransferSyntaxUID = syntax
    return dicom_bytes(data)


def dicom_bytes(data: Dataset) -> bytes:
    """Return the bytes of the file."""
    buffer = BytesIO()
    syntax = data.file_meta.TransferSyntaxUID
    encoding = {"implicit_vr": False, "little_endian": True} if syntax.is_private else {}
    data.save_as(buffer, enforce_file_format=True, **encoding)
    return buffer.getvalue()


def compressed(data: Dataset, syntax: str, folder: Path) -> bytes:
    """Return the file with its pixels compressed by GDCM; ``syntax`` is a name of ``gdcm.TransferSyntax``."""
    import gdcm

    before, after = folder / "before.dcm", folder / "after.dcm"
    before.write_bytes(dicom_bytes(data))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(before))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(after))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return after.read_bytes()


def gray_values(data: Dataset | bytes, *decoding: Any) -> np.ndarray:
    """Return the gray values of the decoded file, (H, W)."""
    image = open_image(data if isinstance(data, bytes) else dicom_bytes(data), Decoding(*decoding))
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]
