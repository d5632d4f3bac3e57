"""What results repeat of the diagnosed file: patient, study, identity and geometry of the image, and no more."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from shpeft.errors import DiagnosisError, MissingExtra, ShpeftError, UnreadableImage
from shpeft.images.dicom_header import functional_group, is_dicom, parse
from shpeft.images.reading import HEAD

if TYPE_CHECKING:
    from pydicom import Dataset

PATIENT_AND_STUDY = {
    "PatientName": "",
    "PatientID": "",
    "IssuerOfPatientID": None,
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyInstanceUID": None,
    "StudyDate": "",
    "StudyTime": "",
    "StudyID": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
}
"""Tags that file an object under a patient and a study, and their values where the file has none; None: left out."""

IMAGE = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns", "NumberOfFrames"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation", "SamplesPerPixel"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *("BurnedInAnnotation", "PatientOrientation", "Laterality"),
)
"""Tags that identify the image and say how it is shown."""

GEOMETRY = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PixelSpacing", "SliceThickness"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)

DATE, TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}){0,2}|\d{6}\.\d{1,6}")
"""Forms of dates and times (PS3.5, 6.2); other values count as missing."""

REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

HEADER_BYTES = 2**28
"""Bytes that a deflated file may inflate to."""

EXTRA = "Results in DICOM need the package 'highdicom'. Install it with: pip install 'shpeft[dicom]'"


@dataclass(frozen=True, eq=False)
class Geometry:
    """Position of one frame in the patient (PS3.3 C.7.6.2).

    Attributes:
        spacing: between rows and between columns, in mm.
        position: (3,) center of the first pixel, in mm.
        orientation: (6,) direction along a row, then along a column.
        thickness: of the slice, in mm; 0 if unknown.
    """

    spacing: tuple[float, float]
    position: np.ndarray
    orientation: np.ndarray
    thickness: float = 0.0

    def of_grid(self, rows: int, columns: int, shape: tuple[int, int]) -> "Geometry":
        """Return the geometry of a grid of ``shape`` that covers the same rectangle as ``rows`` x ``columns`` pixels.

        Examples:
            >>> whole = Geometry((1.0, 1.0), np.zeros(3), np.array([1.0, 0, 0, 0, 1, 0]))
            >>> half = whole.of_grid(4, 4, (2, 2))
            >>> half.spacing, half.position.tolist()
            ((2.0, 2.0), [0.5, 0.5, 0.0])
        """
        down, along = rows / shape[0], columns / shape[1]
        shift = (along - 1) / 2 * self.spacing[1] * self.orientation[:3]
        shift = shift + (down - 1) / 2 * self.spacing[0] * self.orientation[3:]
        spacing = (self.spacing[0] * down, self.spacing[1] * along)
        return Geometry(spacing, self.position + shift, self.orientation, self.thickness)


@dataclass(frozen=True, eq=False)
class Source:
    """The diagnosed file, reduced to what its results may repeat.

    Attributes:
        tags: the data set, reduced to :data:`PATIENT_AND_STUDY`, :data:`IMAGE` and the frame of reference.
        frame: index of the diagnosed frame, from 0.
        geometry: where that frame is in the patient; None if the file does not say.
    """

    tags: "Dataset"
    frame: int
    geometry: Geometry | None

    @property
    def frames(self) -> int:
        """The number of frames."""
        return int(self.tags.get("NumberOfFrames") or 1)

    @property
    def laterality(self) -> str:
        """``L``, ``R`` or empty."""
        side = str(self.tags.get("Laterality") or "")
        return side if side in ("L", "R") else ""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.tags.Rows), int(self.tags.Columns)


def read_source(data: bytes, frame: int = 0) -> Source:
    """Read what results may repeat of a DICOM file; nothing else of it leaves this function.

    Args:
        data: the file.
        frame: index of the diagnosed frame, from 0.

    Raises:
        DiagnosisError: not a DICOM file, or one that names no study, series or instance, or a kind of image that
            results cannot refer to.
        MissingExtra: highdicom is not installed.
        UnreadableImage: the file is damaged.
    """
    check_available()
    if not is_dicom(data[:HEAD]):
        raise DiagnosisError(
            "Results in DICOM belong to the patient and the study of a DICOM file, and this image is none. Give the "
            "DICOM file, or do without results in DICOM."
        )
    try:
        with quiet():
            tags = parse(BytesIO(data), HEADER_BYTES, "the file", (*PATIENT_AND_STUDY, *IMAGE, *GEOMETRY)).tags
            return Source(_reduced(tags), frame, _geometry(tags, frame))
    except ShpeftError:
        raise
    except Exception as error:  # pydicom raises anything on damaged files, and its messages may quote tags
        raise UnreadableImage(f"The header of the DICOM file is damaged ({type(error).__name__}).") from None


def refusal(data: bytes) -> str:
    """Return why a file can have no results in DICOM, as a sentence; empty if it can."""
    try:
        read_source(data)
    except ShpeftError as error:
        return str(error)
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries from quoting unusual values, such as a patient's name, in warnings and logs."""
    from pydicom.config import disable_value_validation

    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_available() -> None:
    """Raise MissingExtra if highdicom cannot be imported."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise MissingExtra(EXTRA) from None


def _reduced(tags: "Dataset") -> "Dataset":
    """Return the tags that results may repeat, decoded; text is written in UTF-8."""
    from highdicom._standard_utils import get_sop_class_iod_map
    from pydicom import Dataset

    if missing := [keyword for keyword in REQUIRED if not tags.get(keyword)]:
        raise DiagnosisError(
            f"The DICOM file has no {', '.join(missing)}: results cannot refer to it. Export it from the archive again."
        )
    if str(tags.SOPClassUID) not in get_sop_class_iod_map():
        raise DiagnosisError(
            f"The DICOM file is of a kind that results cannot refer to ({tags.SOPClassUID.name}). Convert it to a "
            "current SOP class."
        )
    reduced = Dataset()
    for keyword, default in PATIENT_AND_STUDY.items():
        value = tags.get(keyword)
        if value is not None or default is not None:
            setattr(reduced, keyword, default if value is None else _plain(keyword, value))
    for keyword in (*IMAGE, "FrameOfReferenceUID", "PositionReferenceIndicator"):
        if keyword in tags:
            reduced[keyword] = tags[keyword]
    reduced.SpecificCharacterSet = "ISO_IR 192"
    return reduced


def _plain(keyword: str, value: Any) -> str:
    """Return a value as text, without the encoding that it had; old forms of dates and times become current ones."""
    text = str(value)
    if keyword.endswith(("Date", "Time")):
        digits = text.replace(".", "", 2) if keyword.endswith("Date") else text.replace(":", "")
        return digits if (DATE if keyword.endswith("Date") else TIME).fullmatch(digits) else ""
    if keyword == "PatientSex":
        return text if text in ("M", "F", "O") else ""
    return text


def _geometry(tags: "Dataset", frame: int) -> Geometry | None:
    """Return where a frame is in the patient, or None if the file does not say."""
    measures = functional_group(tags, frame, "PixelMeasuresSequence")
    spacing = measures.get("PixelSpacing")
    position = functional_group(tags, frame, "PlanePositionSequence").get("ImagePositionPatient")
    orientation = functional_group(tags, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
    if not (tags.get("FrameOfReferenceUID") and spacing and position and orientation):
        return None
    if len(spacing) != 2 or len(position) != 3 or len(orientation) != 6 or min(map(float, spacing)) <= 0:
        return None
    return Geometry(
        (float(spacing[0]), float(spacing[1])),
        np.array([float(x) for x in position]),
        np.array([float(x) for x in orientation]),
        float(measures.get("SliceThickness") or 0),
    )
