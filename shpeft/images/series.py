"""Which DICOM files belong to one series, and the order of its slices in the patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from shpeft.errors import UnreadableImage
from shpeft.images.dicom_header import functional_group, is_dicom, parse
from shpeft.images.reading import HEAD

if TYPE_CHECKING:
    from pydicom import Dataset

KEYWORDS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)

HEADER_BYTES = 2**28
"""Bytes that a deflated file may inflate to."""

SAME_DIRECTION = 1e-3
"""Largest difference between direction cosines of slices that are parallel."""


@dataclass(frozen=True)
class SliceHeader:
    """What orders one frame among the slices of its series.

    Attributes:
        series: identifies study and series.
        instance: identifies the file.
        frame: index in the file, from 0.
        position: (3,) of the first pixel, in mm; empty if unknown.
        orientation: (6,) direction cosines of rows and columns; empty if unknown.
        number: the file's number in its series; None if unknown.
    """

    series: tuple[str, str]
    instance: str
    frame: int = 0
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    number: int | None = None


def read_slices(data: bytes) -> tuple[SliceHeader, ...]:
    """Return the header of each frame of a DICOM image.

    Raises:
        UnreadableImage: not a DICOM image, a damaged one, or one that belongs to no series.
    """
    if not is_dicom(data[:HEAD]):
        raise UnreadableImage("The file is not DICOM, so it belongs to no series.")
    try:
        tags = parse(BytesIO(data), HEADER_BYTES, "The file", KEYWORDS).tags
        series = (str(tags.get("StudyInstanceUID") or ""), str(tags.get("SeriesInstanceUID") or ""))
        frames = int(tags.get("NumberOfFrames") or 1)
        headers = tuple(_header(tags, series, frame) for frame in range(frames))
    except UnreadableImage:
        raise
    except Exception as error:  # pydicom raises anything on damaged files, and its messages may quote tags
        raise UnreadableImage(f"The file is a damaged DICOM file ({type(error).__name__}).") from None
    if not series[1]:
        raise UnreadableImage("The DICOM file names no series.")
    return headers


def in_order(headers: Sequence[SliceHeader]) -> list[int]:
    """Return the positions of slices in their order in the patient.

    Parallel slices are sorted along their normal, from feet to head where they are axial; others by the numbers of
    their files and frames.

    Examples:
        >>> axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        >>> slices = [SliceHeader(("", "1"), "", position=(0.0, 0.0, z), orientation=axial) for z in (5.0, -2.0, 1.0)]
        >>> in_order(slices)
        [1, 2, 0]
    """
    rank = list(range(len(headers)))
    numbers = [(header.number is None, header.number or 0, header.frame) for header in headers]
    directions = np.array([header.orientation for header in headers if len(header.orientation) == 6])
    placed = len(directions) == len(headers) and all(len(header.position) == 3 for header in headers)
    if placed and np.abs(directions - directions[:1]).max(initial=0) <= SAME_DIRECTION:
        normal = np.cross(directions[0][:3], directions[0][3:])
        along = [round(float(normal @ np.array(header.position)), 4) for header in headers]
        return sorted(rank, key=lambda i: (along[i], numbers[i]))
    return sorted(rank, key=lambda i: numbers[i])


def referenced_files(data: bytes) -> tuple[str, ...]:
    """Return the files that a DICOMDIR lists, as paths below its folder.

    Raises:
        UnreadableImage: it is damaged, or leads out of its folder.
    """
    try:
        tags = parse(BytesIO(data), HEADER_BYTES, "The DICOMDIR", ("DirectoryRecordSequence",), image=False).tags
        raw: Any = tags.get_item("DirectoryRecordSequence")  # has a length where it is not parsed yet
        if raw is None or (isinstance(raw.value, bytes) and len(raw.value) < raw.length):
            raise UnreadableImage("The DICOMDIR is truncated.")
        records = tags.DirectoryRecordSequence
        paths = [_path(record.ReferencedFileID) for record in records if record.get("ReferencedFileID")]
    except UnreadableImage:
        raise
    except Exception as error:  # pydicom raises anything on damaged files
        raise UnreadableImage(f"The DICOMDIR is damaged ({type(error).__name__}).") from None
    return tuple(dict.fromkeys(paths))


def _path(parts: object) -> str:
    names = [parts] if isinstance(parts, str) else [str(part) for part in parts]  # type: ignore[attr-defined]
    if any(name in ("", ".", "..") or "/" in name or "\\" in name or ":" in name for name in names):
        raise UnreadableImage("The DICOMDIR leads out of its folder.")
    return PurePosixPath(*names).as_posix()


def _header(tags: "Dataset", series: tuple[str, str], frame: int) -> SliceHeader:
    position = functional_group(tags, frame, "PlanePositionSequence").get("ImagePositionPatient")
    orientation = functional_group(tags, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
    number = tags.get("InstanceNumber")
    return SliceHeader(
        series,
        str(tags.get("SOPInstanceUID") or ""),
        frame,
        tuple(float(x) for x in position or ()),
        tuple(float(x) for x in orientation or ()),
        None if number is None or number == "" else int(number),
    )
