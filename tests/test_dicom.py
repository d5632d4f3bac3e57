"""DICOM files of every kind, made here, against the standard's formulas; no tag of a patient in any message."""

import builtins
from io import BytesIO

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from shpeft.errors import ConfigError, MissingExtra, UnreadableImage
from shpeft.images import Decoding, dicom, open_image, reading

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.pixels import apply_windowing  # noqa: E402
from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

PATIENT = "DOE^JANE"


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
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def written(data: Dataset) -> bytes:
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def grey(data: Dataset, *decoding: object) -> np.ndarray:
    image = open_image(written(data), Decoding(*decoding))
    assert image.mode == "RGB"
    return np.asarray(image)[..., 0]


HOUNSFIELD = np.array([[0, 24], [1024, 1064], [1264, 4000]], dtype=np.uint16)
"""With a rescale intercept of −1024: −1024, −1000, 0, 40, 240, 2976."""


def scan(**tags: object) -> Dataset:
    return made(HOUNSFIELD, RescaleSlope=1, RescaleIntercept=-1024, **tags)


def test_the_modality_lut_comes_before_any_window():
    assert grey(scan(), "-160:240").tolist() == [[0, 0], [102, 128], [255, 255]]
    assert grey(scan(), "full").tolist() == grey(scan()).tolist() == [[0, 2], [65, 68], [81, 255]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_files_own_window_is_the_standards(function):
    data = scan(WindowCenter=[40, 600], WindowWidth=[400, 1500], VOILUTFunction=function)
    values = HOUNSFIELD.astype(np.int32) - 1024
    shown = apply_windowing(values, data)  # the library's own, in the range that the file could hold
    low, high = (shown.min(), shown.max()) if function != "SIGMOID" else (-1024, 64511)
    expected = np.round((shown - low) / (high - low) * 255)
    assert np.abs(grey(data) - expected).max() <= 1
    assert grey(data, "full").tolist() == grey(scan()).tolist()


def test_a_lookup_table_wins_over_the_window():
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table.add_new("LUTData", "US", [255, 100, 50, 0])
    data = made(np.array([[0, 1, 2, 3]], np.uint8), WindowCenter=2, WindowWidth=4, VOILUTSequence=[table])
    assert grey(data).tolist() == [[255, 100, 50, 0]]


def test_signed_values_and_monochrome1():
    values = np.array([[-100, 0, 100]], dtype=np.int16)
    assert grey(made(values)).tolist() == [[0, 128, 255]]
    assert grey(made(values, "MONOCHROME1")).tolist() == [[255, 127, 0]]


def test_colour():
    values = np.array([[[250, 10, 20], [0, 200, 90]]], dtype=np.uint8)
    assert np.asarray(open_image(written(made(values, "RGB")))).tolist() == values.tolist()
    wide = (values.astype(np.uint16) * 257).astype(np.uint16)
    assert np.asarray(open_image(written(made(wide, "RGB")))).tolist() == values.tolist()
    red = np.asarray(open_image(written(made(np.array([[[76, 85, 255]]], np.uint8), "YBR_FULL"))))
    assert np.abs(red - [[[254, 0, 0]]]).max() <= 2


def test_a_palette():
    data = made(np.array([[0, 1]], np.uint8), "PALETTE COLOR")
    for name, values in {"Red": (0, 65535), "Green": (257 * 30, 0), "Blue": (0, 257 * 9)}.items():
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(data, f"{name}PaletteColorLookupTableData", np.array(values, "<u2").tobytes())
    assert np.asarray(open_image(written(data))).tolist() == [[[0, 30, 0], [255, 0, 9]]]


def test_frames():
    frames = np.stack([np.full((2, 2), value, np.uint8) for value in (10, 20, 30, 40)])
    assert grey(made(frames), "0:255").tolist() == [[20, 20], [20, 20]]  # the middle one
    assert grey(made(frames), "0:255", 3)[0, 0] == 40
    with pytest.raises(UnreadableImage, match="has 4 frames, counted from 0; frame 4"):
        grey(made(frames), "auto", 4)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_compressed_files(syntax):
    values = np.random.default_rng(0).integers(0, 4000, (16, 24), dtype=np.uint16)
    plain = made(values)
    expected = grey(plain)
    try:
        plain.compress(syntax)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"nothing here writes {syntax.name}: {type(error).__name__}")
    assert grey(plain).tolist() == expected.tolist()


def test_what_is_missing_is_named(monkeypatch):
    data = written(scan())

    def without(name, *args, _import=builtins.__import__, **kwargs):
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return _import(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingExtra, match=r"pip install 'shpeft\[dicom\]'"):
            open_image(data)
    encoded = made(HOUNSFIELD)
    encoded.compress(RLELossless)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    with pytest.raises(MissingExtra, match=r"RLE Lossless.*pip install 'shpeft\[dicom\]'"):
        open_image(written(encoded))


def test_no_tag_of_a_patient_in_any_message(monkeypatch):
    whole = written(scan())
    empty = scan()
    del empty.PixelData
    broken = [whole[:-5], whole[: len(whole) // 2], written(empty), whole[:140]]
    broken += [written(scan(PhotometricInterpretation="NONE")), written(scan(Rows=3000))]
    said = []
    for data in broken:
        with pytest.raises(UnreadableImage) as error:
            open_image(data)
        said.append(str(error.value))
    monkeypatch.setattr(reading, "MAX_PIXELS", 2)
    with pytest.raises(UnreadableImage, match="more than"):
        open_image(whole)
    assert not any("DOE" in words or "JANE" in words for words in said)
    assert "without an image" in said[2]


def test_the_modality_is_all_that_is_told():
    assert dicom.modality(written(scan())) == "CT"


def test_a_folder_of_dicom_files_is_a_dataset(tmp_path):
    for label, level in (("low", 1000), ("high", 1400)):
        (tmp_path / label).mkdir()
        for number in range(4):
            values = np.random.default_rng(level + number).integers(level, level + 40, (16, 16)).astype(np.uint16)
            data = made(values, RescaleSlope=1, RescaleIntercept=-1024)
            (tmp_path / label / f"{number}.dcm").write_bytes(written(data))
    wide, narrow = (load_dataset(tmp_path, window=window) for window in ("auto", "0:400"))
    assert wide.train.counts() == narrow.train.counts()
    assert set(wide.train.ids).isdisjoint(narrow.train.ids)  # other pixels: never taken from a cache for the same
    row = narrow.train.labels.index(narrow.classes.index("high"))
    shades = np.asarray(narrow.train.image(row))[..., 0]  # 376 to 415 of 0 to 400
    assert (shades.min(), shades.max()) == (240, 255)
    with pytest.raises(ConfigError, match="There is no window"):
        load_dataset(tmp_path, window="wide")
