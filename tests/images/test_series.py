"""Which files are slices of a series, and in which order."""

import random
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from shpeft.errors import UnreadableImage
from shpeft.images.series import SliceHeader, in_order, read_slices, referenced_files
from tests.helpers.dicom_studies import enhanced, slice_of


def index() -> Path:
    path = get_testdata_file("DICOMDIR", download=False)
    assert path is not None
    return Path(str(path))


def test_slices_are_ordered_by_position_and_not_by_number() -> None:
    files = [slice_of(n, InstanceNumber=20 - n) for n in range(8)]
    random.Random(0).shuffle(files)
    headers = [read_slices(file)[0] for file in files]
    along = [headers[i].position[2] for i in in_order(headers)]
    assert along == sorted(along)


def test_oblique_slices_are_ordered_along_their_normal() -> None:
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    headers = [SliceHeader(("", "1"), "", position=(0.0, y, 7.0), orientation=coronal) for y in (3.0, 1.0, 2.0)]
    assert in_order(headers) == [1, 2, 0]


def test_slices_that_are_not_parallel_are_ordered_by_number() -> None:
    first = SliceHeader(("", "1"), "", 0, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 2)
    other = SliceHeader(("", "1"), "", 0, (0.0, 0.0, 9.0), (0.0, 1.0, 0.0, 0.0, 0.0, 1.0), 1)
    assert in_order([first, other]) == [1, 0]


def test_without_position_and_number_the_given_order_stays() -> None:
    assert in_order([SliceHeader(("", "1"), str(n)) for n in range(4)]) == [0, 1, 2, 3]


def test_each_frame_is_a_slice_with_its_position() -> None:
    headers = read_slices(enhanced(4))
    assert [header.frame for header in headers] == [0, 1, 2, 3]
    assert [header.position[2] for header in headers] == [0, 2, 4, 6]


@pytest.mark.parametrize("data", [b"", b"GIF89a", slice_of()[:300], slice_of(SeriesInstanceUID=None)])
def test_files_of_no_series_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImage):
        read_slices(data)


def test_a_dicomdir_lists_files_below_it() -> None:
    names = referenced_files(index().read_bytes())
    assert len(names) == 31
    assert all((index().parent / name).is_file() for name in names)


@pytest.mark.parametrize(
    ("old", "new"), [(b"98892001", b"..\\..\\ab"), (b"98892001", b"../../ab"), (b"98892001", b"C:/12345")]
)
def test_a_dicomdir_leads_nowhere_else(old: bytes, new: bytes) -> None:
    data = index().read_bytes()
    assert old in data
    with pytest.raises(UnreadableImage):
        referenced_files(data.replace(old, new))


@pytest.mark.parametrize("size", [0, 300, 500, 5_000, 11_000])
def test_a_damaged_dicomdir_is_refused(size: int) -> None:
    with pytest.raises(UnreadableImage):
        referenced_files(index().read_bytes()[:size])
