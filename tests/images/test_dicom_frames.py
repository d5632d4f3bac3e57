"""Which frame of a DICOM file is shown, and in which units and window: enhanced files keep these with their frames."""

import numpy as np
import pytest

from shpeft.errors import UnreadableImage
from shpeft.images import Decoding, open_image

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import ImplicitVRLittleEndian, RLELossless  # noqa: E402

from .dicom_files import HOUNSFIELD, grey, in_syntax, items, made, written  # noqa: E402

FRAMES = np.stack([np.full((2, 2), value, np.uint8) for value in (10, 20, 30, 40)])


def units(slope: float, intercept: float) -> list[Dataset]:
    return items(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")


def view(centre: float, width: float, **tags: object) -> list[Dataset]:
    return items(WindowCenter=centre, WindowWidth=width, **tags)


def enhanced(shared: list[Dataset], *frames: Dataset, **tags: object) -> Dataset:
    """Two frames: the slice, and the slice with every value doubled."""
    data = made(np.stack([HOUNSFIELD, 2 * HOUNSFIELD]), SharedFunctionalGroupsSequence=shared, **tags)
    data.PerFrameFunctionalGroupsSequence = list(frames)
    return data


def test_the_middle_one_or_the_chosen_one():
    assert grey(made(FRAMES)).tolist() == [[20, 20], [20, 20]]  # the middle one
    assert grey(made(FRAMES), "auto", 3)[0, 0] == 40
    with pytest.raises(UnreadableImage, match="has 4 frames, counted from 0; frame 4"):
        grey(made(FRAMES), "auto", 4)


def test_frames_that_do_not_begin_with_a_byte():
    """15 pixels of one bit: the second frame begins with the last bit of a byte."""
    bits = np.random.default_rng(0).integers(0, 2, (3, 3, 5)).astype(np.uint8)
    data = made(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    data.PixelData = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    for frame in range(3):
        assert (grey(data, "auto", frame) == 255 * bits[frame]).all()


def test_frames_of_colour_and_of_compressed_pixels():
    colours = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    data = made(colours[0], "RGB", NumberOfFrames=2, PixelData=colours.tobytes())
    assert np.asarray(open_image(written(data), Decoding(frame=1))).tolist() == colours[1].tolist()
    packed = made(FRAMES)
    packed.compress(RLELossless)
    assert [grey(packed, "auto", frame)[0, 0] for frame in range(4)] == [10, 20, 30, 40]


@pytest.mark.parametrize("place", ["shared", "frame"])
def test_units_and_window_are_found_with_the_frames(place):
    groups = Dataset()
    groups.PixelValueTransformationSequence = units(1, -1024)
    groups.FrameVOILUTSequence = view(40.5, 401)
    data = enhanced([groups]) if place == "shared" else enhanced([Dataset()], groups, groups)
    assert grey(data, "-160:240", 0).tolist() == [[0, 0], [102, 128], [255, 255]]
    assert grey(data, "auto", 0).tolist() == [[0, 0], [102, 128], [255, 255]]
    assert grey(in_syntax(data, ImplicitVRLittleEndian), "auto", 0).tolist() == [[0, 0], [102, 128], [255, 255]]


def test_each_frame_has_its_own():
    first, second = Dataset(), Dataset()
    first.PixelValueTransformationSequence, first.FrameVOILUTSequence = units(1, -1024), view(40.5, 401)
    second.PixelValueTransformationSequence, second.FrameVOILUTSequence = units(0.5, -1024), view(140, 200)
    second.FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"
    data = enhanced([Dataset()], first, second)
    assert grey(data, "-160:240", 0).tolist() == grey(data, "-160:240", 1).tolist()
    assert grey(data, "auto", 0).tolist() == [[0, 0], [102, 128], [255, 255]]
    assert grey(data, "auto", 1).tolist() == [[0, 0], [0, 0], [255, 255]]


def test_what_stands_with_the_frames_wins_over_the_top_and_the_frame_over_all():
    shared, own = Dataset(), Dataset()
    shared.PixelValueTransformationSequence = units(1, -1024)
    own.PixelValueTransformationSequence = units(1, -2048)
    data = enhanced([shared], Dataset(), own, RescaleSlope=1, RescaleIntercept=0, WindowCenter=40.5, WindowWidth=401)
    assert grey(data, "auto", 0).tolist() == [[0, 0], [102, 128], [255, 255]]  # the top's window, the shared units
    assert grey(data, "0:80", 1).tolist() == [[0, 0], [0, 255], [255, 255]]


def test_fewer_groups_than_frames_and_empty_ones():
    shared = Dataset()
    shared.PixelValueTransformationSequence, shared.FrameVOILUTSequence = units(1, -1024), []
    data = enhanced([shared], Dataset())
    assert grey(data, "0:80", 1).tolist() == [[0, 0], [255, 255], [255, 255]]


def test_only_the_frame_is_read(monkeypatch, tmp_path):
    """Half a gigabyte of frames, in a file with a hole: the last one takes what one takes."""
    import tracemalloc

    frames, side = 1000, 512
    data = made(np.zeros((1, side, side), np.uint16), NumberOfFrames=frames)
    head = written(data)[: -2 * side * side]
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
