"""DICOM files of every compressed transfer syntax, errors for missing decoders, and damaged codestreams."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from shpeft.errors import MissingExtra, UnreadableImage
from shpeft.images import open_image
from shpeft.images.jpeg_header import describe

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.encaps import encapsulate, get_frame  # noqa: E402
from pydicom.uid import UID, HTJ2KLossless, JPEGExtended12Bit, JPEGLSLossless  # noqa: E402

from tests.helpers.dicom_files import compressed, dicom_bytes, dicom_of, gray_values, scan  # noqa: E402

NOISE = np.random.default_rng(0).integers(0, 4000, (16, 24), dtype=np.uint16)

LOSSLESS = [
    *("JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"),
]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_compression_changes_nothing(syntax: str, signed: bool, tmp_path: Path) -> None:
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    values = NOISE.astype(np.int16) - 1024 if signed else NOISE
    plain = dicom_of(values, RescaleSlope=1, RescaleIntercept=0)
    data = compressed(plain, syntax, tmp_path)
    for window in ("auto", "-100:2000"):
        assert (gray_values(data, window) == gray_values(plain, window)).all()


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_color(syntax: str, tmp_path: Path) -> None:
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    values = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data = compressed(dicom_of(values, "RGB"), syntax, tmp_path)
    assert np.asarray(open_image(data)).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("syntax", "tolerance"), [("JPEGBaselineProcess1", 6), ("JPEGLSNearLossless", 3), ("JPEG2000", 3)]
)
def test_lossy_compression_changes_little(syntax: str, tolerance: int, tmp_path: Path) -> None:
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    ramp = np.add.outer(np.arange(32), 2 * np.arange(40)).astype(np.uint8)
    shown = gray_values(compressed(dicom_of(ramp), syntax, tmp_path))
    assert np.abs(shown.astype(int) - ramp).max() <= tolerance


def test_missing_and_broken_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom_bytes(scan())

    def without(name: str, *args: Any, _import: Any = builtins.__import__, **kwargs: Any) -> Any:
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return _import(name, *args, **kwargs)

    def broken(name: str, *args: Any, _import: Any = builtins.__import__, **kwargs: Any) -> Any:
        if name == "pydicom.pixels":
            raise AttributeError("_ARRAY_API not found")
        return _import(name, *args, **kwargs)

    for loading, said in ((without, r"pip install 'shpeft\[dicom\]'"), (broken, "cannot be loaded .* Reinstall it")):
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", loading)
            with pytest.raises(MissingExtra, match=said):
                open_image(data)


def encapsulated(syntax: UID, data: bytes = b"\xff\xd8\xff\xd9", **tags: object) -> bytes:
    """Return the slice with these bytes as its compressed pixels."""
    image = scan(**tags)
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([data])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    return dicom_bytes(image)


def test_syntaxes_beyond_the_extra() -> None:
    with pytest.raises(UnreadableImage, match=r"High-Throughput JPEG 2000.*pip install pylibjpeg pylibjpeg-openjpeg"):
        open_image(encapsulated(HTJ2KLossless))
    with pytest.raises(UnreadableImage, match=r"JPEG Extended.*pip install pylibjpeg pylibjpeg-libjpeg"):
        open_image(encapsulated(JPEGExtended12Bit, BitsStored=12, HighBit=11))
    with pytest.raises(UnreadableImage, match=r"compressed as MPEG-4.*not supported"):
        open_image(encapsulated(UID("1.2.840.10008.1.2.4.102")))
    with pytest.raises(UnreadableImage, match="unknown transfer syntax"):
        open_image(encapsulated(UID("1.2.3.4.5")))


def test_a_file_without_a_decoder_is_listed_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("benign", "malignant"):
        for number in range(8):
            path = tmp_path / name / f"{number}.dcm"
            path.parent.mkdir(exist_ok=True)
            values = np.random.default_rng(number + 8 * (name == "benign")).integers(0, 1000, (32, 32))
            path.write_bytes(dicom_bytes(dicom_of(values.astype(np.int16))))
    (tmp_path / "benign" / "rare.dcm").write_bytes(encapsulated(HTJ2KLossless))
    [[name, reason]] = load_dataset(tmp_path).card["unreadable"]
    assert name.endswith("rare.dcm")
    assert "pip install pylibjpeg" in reason

    def installed(*_: object) -> None:
        raise UnreadableImage("the decoder was asked")

    monkeypatch.setattr("shpeft.images.dicom._decoder", installed)
    [[_, reason]] = load_dataset(tmp_path).card["unreadable"]
    assert reason == "the decoder was asked"


def test_compressed_pixels_in_an_uncompressed_syntax_are_refused() -> None:
    data = encapsulated(JPEGLSLossless).replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0")
    with pytest.raises(UnreadableImage, match="its pixels are compressed, but its header says that they are not"):
        open_image(data)


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_the_size_of_a_codestream_is_checked_before_decoding(syntax: str, tmp_path: Path) -> None:
    """A file of six pixels may hold a codestream of four billion, which must not reach the decoder."""
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    read = pydicom.dcmread(compressed_path(syntax, tmp_path))
    data = get_frame(read.PixelData, 0, number_of_frames=1)
    codestream = describe(data)
    assert codestream is not None
    assert codestream[:3] == (24, 16, 1)
    assert describe(data[:8]) is None
    read.Rows, read.Columns = 8, 48
    with pytest.raises(UnreadableImage, match="has another size than its header says"):
        open_image(dicom_bytes(read))


def compressed_path(syntax: str, folder: Path) -> Path:
    compressed(dicom_of(NOISE), syntax, folder)
    return folder / "after.dcm"


@pytest.mark.parametrize("transformation", [2, 3, 255])
def test_a_codestream_that_would_crash_gdcm_is_refused(transformation: int, tmp_path: Path) -> None:
    """Its Adobe marker declares three channels as four, or an unknown color transform."""
    pytest.importorskip("gdcm", reason="needs the dicom extra")
    values = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data = bytearray(compressed(dicom_of(values, "RGB"), "JPEGLosslessProcess14_1", tmp_path))
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    data[at] = transformation
    with pytest.raises(UnreadableImage, match="its compressed image has no readable header"):
        open_image(bytes(data))


def test_other_bytes_are_not_codestreams() -> None:
    for data in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\0\0\0\0",
        b"\xff\x4f\xff\x51\0",
        b"\xff\xd8" + b"\xff" * 50,
    ):
        assert describe(data) is None
