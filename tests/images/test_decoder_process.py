"""GDCM in a child: the same bits, and a file that ends the child, or fills or stalls it, is refused in a sentence."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from shpeft.errors import UnreadableImage
from shpeft.images import decoder_process, dicom, open_pixels
from shpeft.images.decoder_process import DecoderProcess, DecodingFailed, decode_frame
from shpeft.images.jpeg_header import Codestream
from shpeft.support.isolation import VARIABLE
from tests.helpers.dicom_files import compressed, dicom_bytes, dicom_of

pytest.importorskip("gdcm", reason="needs the dicom extra")

SYNTAXES = {
    "JPEGLosslessProcess14_1": JPEGLosslessSV1,
    "JPEGLSLossless": JPEGLSLossless,
    "JPEG2000Lossless": JPEG2000Lossless,
}
OPTIONS = {
    "rows": 40,
    "columns": 48,
    "samples_per_pixel": 3,
    "bits_allocated": 8,
    "bits_stored": 8,
    "pixel_representation": 0,
    "planar_configuration": 0,
    "photometric_interpretation": "RGB",
    "pixel_keyword": "PixelData",
}


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")


def frame_that_ends_gdcm(folder: Path) -> bytes:
    """Return a frame whose Adobe marker declares three channels as four."""
    values = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data = bytearray(compressed(dicom_of(values, "RGB"), "JPEGLosslessProcess14_1", folder))
    data[data.index(b"Adobe") + 11] = 2
    (folder / "crash.dcm").write_bytes(data)
    return get_frame(pydicom.dcmread(folder / "crash.dcm").PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", ["gray", "color"])
def test_the_child_gives_the_bits_of_the_process_itself(
    syntax: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (16, 24), dtype=np.uint16)
    if kind == "color":
        if syntax == "JPEG2000Lossless":
            pytest.skip("GDCM does not write it")
        values = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    data = compressed(dicom_of(values, "RGB" if kind == "color" else "MONOCHROME2"), syntax, tmp_path)
    monkeypatch.setattr(dicom, "_plugin", lambda *_: "")  # also what Pillow would decode
    isolated = open_pixels(data)
    monkeypatch.delenv(VARIABLE)
    assert np.array_equal(isolated.values, open_pixels(data).values)


def test_a_file_that_ends_gdcm_ends_the_child_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame_that_ends_gdcm(tmp_path)
    monkeypatch.setattr(dicom, "describe", lambda _: Codestream(48, 40, 3, 8))
    with pytest.raises(UnreadableImage, match="is damaged, or its decoder does not support it"):
        open_pixels((tmp_path / "crash.dcm").read_bytes())
    monkeypatch.undo()
    monkeypatch.setenv(VARIABLE, "1")
    values = np.random.default_rng(0).integers(0, 4096, (16, 24), dtype=np.uint16)
    after = open_pixels(compressed(dicom_of(values), "JPEGLSLossless", tmp_path))
    assert np.array_equal(np.asarray(after.values), values)


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    child = DecoderProcess()
    with pytest.raises(DecodingFailed, match="the decoder ended"):
        child.decode({"syntax": str(JPEGLSLossless), "options": OPTIONS}, bytes(100), seconds=0.001)
    assert not child.alive


def test_a_frame_that_states_four_billion_pixels_fills_no_memory(tmp_path: Path) -> None:
    values = np.zeros((16, 24), np.uint16)
    compressed(dicom_of(values), "JPEGLSLossless", tmp_path)
    frame = bytearray(get_frame(pydicom.dcmread(tmp_path / "after.dcm").PixelData, 0, number_of_frames=1))
    at = frame.index(b"\xff\xf7") + 5  # JPEG-LS: marker, length, precision, then lines and columns
    frame[at : at + 4] = b"\xff\xff\xff\xff"
    options = OPTIONS | {"rows": 65535, "columns": 65535, "samples_per_pixel": 1, "bits_allocated": 16}
    with pytest.raises(DecodingFailed):
        decode_frame(JPEGLSLossless, bytes(frame), options | {"photometric_interpretation": "MONOCHROME2"})


def test_threads_share_the_children(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (16, 24), dtype=np.uint16)
    data = compressed(dicom_of(values), "JPEGLSLossless", tmp_path)
    with ThreadPoolExecutor(6) as threads:
        for pixels in threads.map(lambda _: open_pixels(data), range(12)):
            assert np.array_equal(np.asarray(pixels.values), values)
    assert len(decoder_process._idle) <= decoder_process.CHILDREN
    assert threading.active_count() < 20


def run_lengths(size: int, length: int) -> bytes:
    """Return a scan of size × size bytes whose frame is this many bytes of longest runs."""
    data = dicom_of(np.zeros((size, size), np.uint8))
    data.file_meta.TransferSyntaxUID = RLELossless
    header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    data.PixelData = encapsulate([header + bytes((129, 0)) * (length // 2)])
    data["PixelData"].VR = "OB"
    return dicom_bytes(data)


def test_run_lengths_that_unpack_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UnreadableImage, match="has more bytes than its pixels can need"):
        open_pixels(run_lengths(64, 20_000))
    called = list[str]()

    def decoded(*given: object) -> np.ndarray:
        called.append("in the child")
        return decode_frame(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(dicom, "decode_frame", decoded)
    with suppress(UnreadableImage):  # pydicom may cut the surplus off
        open_pixels(run_lengths(2100, dicom.RLE_BYTES + 2))
    assert called == ["in the child"]
