"""DICOM files of every compressed transfer syntax; what is said where a decoder is missing; damaged codestreams."""

import builtins

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import open_image
from shpeft.images.codestream import describe

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.encaps import encapsulate, get_frame  # noqa: E402
from pydicom.uid import UID, HTJ2KLossless, JPEGExtended12Bit, JPEGLSLossless  # noqa: E402

from .dicom_files import compressed, grey, made, scan, written  # noqa: E402

NOISE = np.random.default_rng(0).integers(0, 4000, (16, 24), dtype=np.uint16)

LOSSLESS = [
    *("JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"),
]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_compression_changes_nothing(syntax, signed, tmp_path):
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    values = NOISE.astype(np.int16) - 1024 if signed else NOISE
    plain = made(values, RescaleSlope=1, RescaleIntercept=0)
    data = compressed(plain, syntax, tmp_path)
    for window in ("auto", "-100:2000"):
        assert (grey(data, window) == grey(plain, window)).all()


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_colour(syntax, tmp_path):
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    values = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data = compressed(made(values, "RGB"), syntax, tmp_path)
    assert np.asarray(open_image(data)).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("syntax", "tolerance"), [("JPEGBaselineProcess1", 6), ("JPEGLSNearLossless", 3), ("JPEG2000", 3)]
)
def test_lossy_compression_changes_little(syntax, tolerance, tmp_path):
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    ramp = np.add.outer(np.arange(32), 2 * np.arange(40)).astype(np.uint8)
    shown = grey(compressed(made(ramp), syntax, tmp_path))
    assert np.abs(shown.astype(int) - ramp).max() <= tolerance


def test_what_is_missing_is_named(monkeypatch):
    data = written(scan())

    def without(name, *args, _import=builtins.__import__, **kwargs):
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return _import(name, *args, **kwargs)

    def broken(name, *args, _import=builtins.__import__, **kwargs):
        if name == "pydicom.pixels":
            raise AttributeError("_ARRAY_API not found")
        return _import(name, *args, **kwargs)

    for loading, said in ((without, r"pip install 'shpeft\[dicom\]'"), (broken, "cannot be loaded .* anew")):
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", loading)
            with pytest.raises(MissingExtra, match=said):
                open_image(data)


def encapsulated(syntax: UID, data: bytes = b"\xff\xd8\xff\xd9", **tags: object) -> bytes:
    """The slice with these bytes as its compressed pixels."""
    image = scan(**tags)
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([data])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    return written(image)


def test_syntaxes_beyond_the_extra():
    with pytest.raises(UnreadableImage, match=r"High-Throughput JPEG 2000.*pip install pylibjpeg pylibjpeg-openjpeg"):
        open_image(encapsulated(HTJ2KLossless))
    with pytest.raises(UnreadableImage, match=r"JPEG Extended.*pip install pylibjpeg pylibjpeg-libjpeg"):
        open_image(encapsulated(JPEGExtended12Bit, BitsStored=12, HighBit=11))
    with pytest.raises(UnreadableImage, match=r"compressed as MPEG-4.*no image"):
        open_image(encapsulated(UID("1.2.840.10008.1.2.4.102")))
    with pytest.raises(UnreadableImage, match="transfer syntax that is not known"):
        open_image(encapsulated(UID("1.2.3.4.5")))


def test_a_file_beyond_the_extra_is_listed_and_asked_for_anew(tmp_path, monkeypatch):
    for name in ("benign", "malignant"):
        for number in range(8):
            path = tmp_path / name / f"{number}.dcm"
            path.parent.mkdir(exist_ok=True)
            values = np.random.default_rng(number + 8 * (name == "benign")).integers(0, 1000, (32, 32))
            path.write_bytes(written(made(values.astype(np.int16))))
    (tmp_path / "benign" / "rare.dcm").write_bytes(encapsulated(HTJ2KLossless))
    [[name, reason]] = load_dataset(tmp_path).card["unreadable"]
    assert name.endswith("rare.dcm")
    assert "pip install pylibjpeg" in reason

    def installed(*_: object) -> None:
        raise UnreadableImage("the decoder was asked")

    monkeypatch.setattr("shpeft.images.dicom._decoder", installed)
    [[_, reason]] = load_dataset(tmp_path).card["unreadable"]
    assert reason == "the decoder was asked"


def test_pixels_that_are_compressed_and_do_not_say_so():
    data = encapsulated(JPEGLSLossless).replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0")
    with pytest.raises(UnreadableImage, match="its pixels are compressed, and its header says that they are not"):
        open_image(data)


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_a_codestream_says_its_size_before_it_is_decoded(syntax, tmp_path):
    """A file of six pixels may hold a codestream of four thousand million: the decoder must not see it."""
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    read = pydicom.dcmread(compressed_path(syntax, tmp_path))
    data = get_frame(read.PixelData, 0, number_of_frames=1)
    assert describe(data)[:3] == (24, 16, 1)
    assert describe(data[:8]) is None
    read.Rows, read.Columns = 8, 48
    with pytest.raises(UnreadableImage, match="not of the size that its header says"):
        open_image(written(read))


def compressed_path(syntax, folder):
    compressed(made(NOISE), syntax, folder)
    return folder / "after.dcm"


@pytest.mark.parametrize("transformation", [2, 3, 255])
def test_a_codestream_on_which_gdcm_would_end_the_process(transformation, tmp_path):
    """It says that its three channels are four, or something that nobody knows."""
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    values = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data = bytearray(compressed(made(values, "RGB"), "JPEGLosslessProcess14_1", tmp_path))
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    data[at] = transformation
    with pytest.raises(UnreadableImage, match="its compressed image has no readable header"):
        open_image(bytes(data))


def test_codestreams_that_are_none():
    for data in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\0\0\0\0",
        b"\xff\x4f\xff\x51\0",
        b"\xff\xd8" + b"\xff" * 50,
    ):
        assert describe(data) is None
