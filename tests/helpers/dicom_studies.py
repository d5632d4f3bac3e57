"""DICOM studies for the tests, and the validator of dicom3tools."""

import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage

from tests.helpers.dicom_files import dicom_bytes, dicom_of, items

STUDY = {
    "StudyInstanceUID": "2.25.1001",
    "SeriesInstanceUID": "2.25.1002",
    "FrameOfReferenceUID": "2.25.1003",
    "PatientID": "PID-4711",
    "PatientBirthDate": "19700131",
    "PatientSex": "F",
    "StudyDate": "20260102",
    "StudyTime": "10:15:30",
    "StudyID": "S1",
    "AccessionNumber": "ACC-0815",
    "ReferringPhysicianName": "HOUSE^GREG",
}
"""What results repeat, so that the archive files them under the patient and the study."""

PLANTED = {
    "PatientAddress": "12 Planted Lane",
    "OtherPatientIDs": "PLANT-1",
    "PatientComments": "planted comment",
    "InstitutionName": "Planted Clinic",
    "InstitutionAddress": "Planted Street",
    "StationName": "PLANTSTATION",
    "OperatorsName": "PLANTED^OPERATOR",
    "PerformingPhysicianName": "PLANTED^PERFORMER",
    "StudyDescription": "planted description",
    "SeriesDescription": "planted series",
    "ProtocolName": "planted protocol",
    "ImageComments": "planted image comment",
    "DeviceSerialNumber": "PLANT-SN",
    "RequestingPhysician": "PLANTED^REQUESTER",
}
"""What no result repeats."""

GEOMETRY = {
    "PixelSpacing": [0.5, 0.7],
    "ImagePositionPatient": [-10.0, -20.0, 30.0],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "SliceThickness": 3,
}


def slice_of(number: int = 0, shape: tuple[int, int] = (48, 64), **tags: Any) -> bytes:
    """Return a CT slice of a study with planted identifiers; other numbers are 3 mm apart and have other values."""
    values = np.random.default_rng(number).integers(0, 2000, shape).astype(np.uint16)
    position = {"ImagePositionPatient": [-10.0, -20.0, 30.0 + 3 * number], "SOPInstanceUID": f"2.25.2{number:04}"}
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    tags = {**STUDY, **PLANTED, **GEOMETRY, **position, **rescale, "InstanceNumber": number + 1, **tags}
    return dicom_bytes(dicom_of(values, **{name: value for name, value in tags.items() if value is not None}))


def enhanced(frames: int = 5) -> bytes:
    """Return an enhanced MR file whose frames are 2 mm apart."""
    values = np.random.default_rng(1).integers(0, 2000, (frames, 48, 64)).astype(np.uint16)
    data: Dataset = dicom_of(values, **STUDY, **PLANTED, SOPInstanceUID="2.25.3001")
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.Modality = "MR"
    measures = items(PixelSpacing=[0.5, 0.5], SliceThickness=2)
    orientation = items(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    data.SharedFunctionalGroupsSequence = items(PixelMeasuresSequence=measures, PlaneOrientationSequence=orientation)
    data.PerFrameFunctionalGroupsSequence = [
        items(PlanePositionSequence=items(ImagePositionPatient=[0, 0, 2 * n]))[0] for n in range(frames)
    ]
    return dicom_bytes(data)


def photograph(**tags: Any) -> bytes:
    """Return a color image without a geometry."""
    values = np.random.default_rng(2).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    study = {name: value for name, value in STUDY.items() if name != "FrameOfReferenceUID"}
    return dicom_bytes(
        dicom_of(values, "RGB", **{**study, **PLANTED, "Modality": "OP", "SOPInstanceUID": "2.25.4001", **tags})
    )


def errors_of(path: object) -> list[str]:
    """Return what dciodvfy (Debian's dicom3tools) calls an error in a file, or skip the test without it."""
    if (validator := shutil.which("dciodvfy")) is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    checked = subprocess.run([validator, "-new", str(path)], capture_output=True, text=True, errors="replace")
    return [line for line in checked.stderr.splitlines() if line.startswith("Error")]
