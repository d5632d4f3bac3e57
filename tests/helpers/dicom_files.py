"""DICOM files for the tests, made in memory; every one names a patient, whom no message may name."""

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from shpeft.images import Decoding, open_image

PATIENT = "DOE^JANE"

HOUNSFIELD = np.array([[0, 24], [1024, 1064], [1264, 4000]], dtype=np.uint16)
"""With a rescale intercept of −1024: −1024, −1000, 0, 40, 240, 2976."""


def made(values: np.ndarray, kind: str = "MONOCHROME2", **tags: object) -> Dataset:
    """A DICOM data set of grey (H, W), several frames (F, H, W) or colour (H, W, 3) values."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.PatientName, data.PatientID, data.Modality = PATIENT, PATIENT, "CT"
    colour = kind in ("RGB", "YBR_FULL")
    if values.ndim == 3 and not colour:
        data.NumberOfFrames = len(values)
    data.Rows, data.Columns = values.shape[:2] if colour else values.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    if colour:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = kind
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def scan(**tags: object) -> Dataset:
    """A slice of computed tomography of six pixels."""
    return made(HOUNSFIELD, RescaleSlope=1, RescaleIntercept=-1024, **tags)


def items(**tags: object) -> list[Dataset]:
    """A sequence of one item."""
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return [item]


def lookup(entries: list[int], first: int = 0, bits: int = 8) -> list[Dataset]:
    """A sequence that holds a lookup table."""
    table = Dataset()
    table.LUTDescriptor = [len(entries), first, bits]
    table.add_new("LUTData", "US", entries)
    return [table]


def in_syntax(data: Dataset, syntax: UID) -> bytes:
    """The file in an uncompressed or a deflated transfer syntax."""
    data.file_meta.TransferSyntaxUID = syntax
    return written(data)


def written(data: Dataset) -> bytes:
    """The file."""
    buffer = BytesIO()
    syntax = data.file_meta.TransferSyntaxUID
    told = {"implicit_vr": False, "little_endian": True} if syntax.is_private else {}
    data.save_as(buffer, enforce_file_format=True, **told)
    return buffer.getvalue()


def compressed(data: Dataset, syntax: str, folder: Path) -> bytes:
    """The file, its pixels compressed by GDCM; ``syntax`` is a name of ``gdcm.TransferSyntax``."""
    import gdcm

    before, after = folder / "before.dcm", folder / "after.dcm"
    before.write_bytes(written(data))
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


def grey(data: Dataset | bytes, *decoding: object) -> np.ndarray:
    """The file's grey, (H, W)."""
    image = open_image(data if isinstance(data, bytes) else written(data), Decoding(*decoding))
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]
