"""Which frame of a DICOM file is shown, and in which units and window: enhanced files keep these with their frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft.errors import UnreadableImage
from shpeft.images import Decoding, open_image

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import ImplicitVRLittleEndian, RLELossless  # noqa: E402

from tests.helpers.dicom_files import HOUNSFIELD, dicom_bytes, dicom_of, gray_values, in_syntax, items  # noqa: E402

FRAMES = np.stack([np.full((2, 2), value, np.uint8) for value in (10, 20, 30, 40)])


def units(slope: float, intercept: float) -> list[Dataset]:
    return items(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")


def view(center: float, width: float, **tags: Any) -> list[Dataset]:
    return items(WindowCenter=center, WindowWidth=width, **tags)


def enhanced(shared: list[Dataset], *frames: Dataset, **tags: Any) -> Dataset:
    """Return two frames: the slice, and the slice with every value doubled."""
    data = dicom_of(np.stack([HOUNSFIELD, 2 * HOUNSFIELD]), SharedFunctionalGroupsSequence=shared, **tags)
    data.PerFrameFunctionalGroupsSequence = list(frames)
    return data


def test_the_middle_frame_is_the_default() -> None:
    assert gray_values(dicom_of(FRAMES)).tolist() == [[20, 20], [20, 20]]
    assert gray_values(dicom_of(FRAMES), "auto", 3)[0, 0] == 40
    with pytest.raises(UnreadableImage, match="has 4 frames, counted from 0; frame 4"):
        gray_values(dicom_of(FRAMES), "auto", 4)


def test_frames_that_do_not_align_with_bytes() -> None:
    """15 pixels of one bit: the second frame begins with the last bit of a byte."""
    bits = np.random.default_rng(0).integers(0, 2, (3, 3, 5)).astype(np.uint8)
    data = dicom_of(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    data.PixelData = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    for frame in range(3):
        assert (gray_values(data, "auto", frame) == 255 * bits[frame]).all()


def test_frames_of_color_and_of_compressed_pixels() -> None:
    colors = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    data = dicom_of(colors[0], "RGB", NumberOfFrames=2, PixelData=colors.tobytes())
    assert np.asarray(open_image(dicom_bytes(data), Decoding(frame=1))).tolist() == colors[1].tolist()
    packed = dicom_of(FRAMES)
    packed.compress(RLELossless)
    assert [gray_values(packed, "auto", frame)[0, 0] for frame in range(4)] == [10, 20, 30, 40]


@pytest.mark.parametrize("level", ["shared", "frame"])
def test_units_and_window_are_read_from_the_functional_groups(level: str) -> None:
    groups = Dataset()
    groups.PixelValueTransformationSequence = units(1, -1024)
    groups.FrameVOILUTSequence = view(40.5, 401)
    data = enhanced([groups]) if level == "shared" else enhanced([Dataset()], groups, groups)
    assert gray_values(data, "-160:240", 0).tolist() == [[0, 0], [102, 128], [255, 255]]
    assert gray_values(data, "auto", 0).tolist() == [[0, 0], [102, 128], [255, 255]]
    assert gray_values(in_syntax(data, ImplicitVRLittleEndian), "auto", 0).tolist() == [[0, 0], [102, 128], [255, 255]]


def test_each_frame_has_its_own_units_and_window() -> None:
    first, second = Dataset(), Dataset()
    first.PixelValueTransformationSequence, first.FrameVOILUTSequence = units(1, -1024), view(40.5, 401)
    second.PixelValueTransformationSequence, second.FrameVOILUTSequence = units(0.5, -1024), view(140, 200)
    second.FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"
    data = enhanced([Dataset()], first, second)
    assert gray_values(data, "-160:240", 0).tolist() == gray_values(data, "-160:240", 1).tolist()
    assert gray_values(data, "auto", 0).tolist() == [[0, 0], [102, 128], [255, 255]]
    assert gray_values(data, "auto", 1).tolist() == [[0, 0], [0, 0], [255, 255]]


def test_frame_groups_override_shared_groups_and_these_the_top_level() -> None:
    shared, own = Dataset(), Dataset()
    shared.PixelValueTransformationSequence = units(1, -1024)
    own.PixelValueTransformationSequence = units(1, -2048)
    data = enhanced([shared], Dataset(), own, RescaleSlope=1, RescaleIntercept=0, WindowCenter=40.5, WindowWidth=401)
    assert gray_values(data, "auto", 0).tolist() == [
        [0, 0],
        [102, 128],
        [255, 255],
    ]  # the top's window, the shared units
    assert gray_values(data, "0:80", 1).tolist() == [[0, 0], [0, 255], [255, 255]]


def test_fewer_groups_than_frames_and_empty_ones() -> None:
    shared = Dataset()
    shared.PixelValueTransformationSequence, shared.FrameVOILUTSequence = units(1, -1024), []
    data = enhanced([shared], Dataset())
    assert gray_values(data, "0:80", 1).tolist() == [[0, 0], [255, 255], [255, 255]]


def test_only_the_frame_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a sparse file of half a gigabyte the last frame takes the memory of a single one."""
    import tracemalloc

    frames, side = 1000, 512
    data = dicom_of(np.zeros((1, side, side), np.uint16), NumberOfFrames=frames)
    head = dicom_bytes(data)[: -2 * side * side]
    path = tmp_path / "series.dcm"
    with path.open("wb") as file:
        file.write(head[:-4] + (2 * side * side * frames).to_bytes(4, "little"))
        file.seek(2 * side * side * (frames - 1), 1)
        file.write(np.arange(side * side, dtype=np.uint16).tobytes())
    tracemalloc.start()
    try:
        shown = open_image(path, Decoding(frame=frames - 1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.asarray(shown)[..., 0].max() == 255
    assert peak < 32 * 2**20
