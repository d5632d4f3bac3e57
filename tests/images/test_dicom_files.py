"""DICOM files with or without preamble, name and suffix, damaged files, and malicious ones."""

import logging
import traceback
import tracemalloc
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from shpeft.errors import ConfigError, MissingExtra, UnreadableImage
from shpeft.images import looks_like_image, open_image, reading

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from tests.helpers.dicom_files import PATIENT, dicom_bytes, dicom_of, gray_values, in_syntax, scan  # noqa: E402

NOISE = np.random.default_rng(0).integers(0, 4000, (16, 24), dtype=np.uint16)
UNCOMPRESSED = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def ordered(syntax: UID) -> np.ndarray:
    """The noise in the syntax's byte order."""
    return NOISE.byteswap() if syntax == ExplicitVRBigEndian else NOISE


@pytest.mark.parametrize("syntax", UNCOMPRESSED, ids=lambda syntax: syntax.name)
def test_uncompressed_files(syntax: UID) -> None:
    assert (gray_values(in_syntax(dicom_of(ordered(syntax)), syntax)) == gray_values(dicom_of(NOISE))).all()


@pytest.mark.parametrize("syntax", UNCOMPRESSED, ids=lambda syntax: syntax.name)
def test_files_without_a_preamble(syntax: UID, tmp_path: Path) -> None:
    data = in_syntax(dicom_of(ordered(syntax)), syntax)
    assert (gray_values(data[132:]) == gray_values(dicom_of(NOISE))).all()
    path = tmp_path / "1.2.840.113619"
    path.write_bytes(data[132:])
    assert looks_like_image(path)
    assert (np.asarray(open_image(path))[..., 0] == gray_values(dicom_of(NOISE))).all()


@pytest.mark.parametrize("syntax", UNCOMPRESSED[:3], ids=lambda syntax: syntax.name)
def test_bare_data_sets_without_a_transfer_syntax(syntax: UID) -> None:
    data = in_syntax(dicom_of(ordered(syntax)), syntax)
    order: Literal["big", "little"] = "big" if syntax == ExplicitVRBigEndian else "little"
    assert (
        gray_values(data[data.index((8).to_bytes(2, order) + (0x16).to_bytes(2, order)) :])
        == gray_values(dicom_of(NOISE))
    ).all()


def test_a_file_with_the_wrong_transfer_syntax() -> None:
    data = in_syntax(dicom_of(NOISE), ImplicitVRLittleEndian)
    said = data.index(b"1.2.840.10008.1.2\0")
    length = data.index(b"\x02\x00\x10\x00UI") + 6
    wrong = data[:length] + (20).to_bytes(2, "little") + b"1.2.840.10008.1.2.1\0" + data[said + 18 :]
    assert (gray_values(wrong) == gray_values(dicom_of(NOISE))).all()


def test_other_files_are_not_taken_for_dicom(tmp_path: Path) -> None:
    others = [
        b"",
        b"hello",
        b"\x08\0\x05\0",
        b"\x08\0" * 200,
        b"\x02\0\0\0UL\x04\0",
        np.arange(300, dtype="<u2").tobytes(),
    ]
    others += [b"path,label\n" * 40, b"II*\0" + bytes(300), bytes(600), np.arange(8, 300, dtype="<u4").tobytes()]
    for number, data in enumerate(others):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(data)
        assert not looks_like_image(path), data[:10]
    assert looks_like_image(tmp_path / "missing.PNG")  # by its name
    assert not looks_like_image(tmp_path / "missing")
    assert not looks_like_image(tmp_path)


def test_inflating_a_deflated_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 MB of zeros deflate to 60 KB; the limit for the largest image is 3 MB."""
    monkeypatch.setattr(reading, "MAX_PIXELS", 1_000_000)
    bomb = scan()
    bomb.add_new(0x00091001, "OB", bytes(60_000_000))
    data = in_syntax(bomb, DeflatedExplicitVRLittleEndian)
    assert len(data) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImage, match="deflated, and inflates to more than 3 million bytes"):
            open_image(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_absurd_sizes_are_refused_before_anything_is_decoded() -> None:
    with pytest.raises(UnreadableImage, match="60000 x 50000 pixels; at most 80 million are read"):
        open_image(dicom_bytes(scan(Rows=50_000, Columns=60_000)))
    with pytest.raises(UnreadableImage, match="fewer pixels than its header says"):
        open_image(dicom_bytes(scan(Rows=3000)))


def test_a_large_image_takes_little_more_than_its_pixels() -> None:
    """Its four million values are never all held in double precision, which takes 32 MiB per copy."""
    data = dicom_bytes(dicom_of(np.random.default_rng(0).integers(0, 4000, (2048, 2048), dtype=np.uint16)))
    tracemalloc.start()
    try:
        open_image(data)
        assert tracemalloc.get_traced_memory()[1] < 80 * 2**20
    finally:
        tracemalloc.stop()


def tagged(**tags: object) -> Dataset:
    """Return a slice with the name of the patient in many tags, some of them invalid."""
    data = scan(**tags)
    for keyword in ("PatientBirthName", "OtherPatientNames", "ReferringPhysicianName", "InstitutionName"):
        setattr(data, keyword, PATIENT)
    data.PatientComments = data.ImageComments = data.WindowCenterWidthExplanation = PATIENT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.PatientAge = data.StudyDate = data.StudyInstanceUID = PATIENT  # not of their kind
    return data


def damaged(syntax: UID, rng: np.random.Generator) -> list[bytes]:
    """Return copies of such a file that are truncated or have one wrong byte."""
    data = tagged()
    if syntax == RLELossless:
        data.compress(syntax)
    whole = in_syntax(data, syntax)
    cut = [whole[:end] for end in range(140, len(whole) - 1, 7)]
    wrong = [whole[:at] + bytes([rng.integers(256)]) + whole[at + 1 :] for at in rng.integers(132, len(whole), 60)]
    return cut + wrong


def test_no_tag_of_a_patient_in_any_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in errors nor in logs, warnings or output."""
    rng = np.random.default_rng(0)
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless)
    files = [file for syntax in syntaxes for file in damaged(syntax, rng)]
    path = tmp_path / "DOE_JANE.dcm"
    said = []
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    for number, file in enumerate(files):
        path.write_bytes(file)
        opened = path.open("rb") if number % 2 else nullcontext(file)
        with warnings.catch_warnings(record=True) as warned, opened as source:
            warnings.simplefilter("always")
            try:
                open_image(source)
            except (UnreadableImage, MissingExtra) as error:
                said += [str(error), "".join(traceback.format_exception(error))]
            said += [str(warning.message) for warning in warned]
    assert len(said) > 200
    assert [text for text in (*said, caplog.text, *capfd.readouterr()) if "DOE" in text or "JANE" in text] == []


def test_a_folder_of_dicom_files_is_a_dataset(tmp_path: Path) -> None:
    for label, level in (("low", 1000), ("high", 1400)):
        (tmp_path / label).mkdir()
        for number in range(4):
            values = np.random.default_rng(level + number).integers(level, level + 40, (16, 16)).astype(np.uint16)
            data = dicom_of(values, RescaleSlope=1, RescaleIntercept=-1024)
            (tmp_path / label / f"{number}.dcm").write_bytes(dicom_bytes(data))
    wide, narrow = (load_dataset(tmp_path, window=window) for window in ("auto", "0:400"))
    assert wide.train.counts() == narrow.train.counts()
    assert set(wide.train.ids).isdisjoint(narrow.train.ids)  # other pixels: never taken from a cache for the same
    row = narrow.train.labels.index(narrow.classes.index("high"))
    shades = np.asarray(narrow.train.image(row))[..., 0]  # 376 to 415 of 0 to 400
    assert (shades.min(), shades.max()) == (240, 255)
    with pytest.raises(ConfigError, match="There is no window"):
        load_dataset(tmp_path, window="wide")


def test_a_folder_as_clinics_export_it(tmp_path: Path) -> None:
    """Names without a suffix or with a number as suffix, next to a text file."""
    for label, first in (("benign", 0), ("malignant", 100)):
        (tmp_path / label).mkdir()
        for number in range(5):
            data = dicom_of(np.random.default_rng(first + number).integers(0, 4000, (16, 16)).astype(np.uint16))
            file = dicom_bytes(data)[132:] if number % 2 else dicom_bytes(data)
            (tmp_path / label / (f"IM{number:04}" if number % 3 else f"1.2.840.{number}")).write_bytes(file)
        (tmp_path / label / "NOTES").write_text("of the export")
    loaded = load_dataset(tmp_path)
    assert sum(map(len, (loaded.train, loaded.val, loaded.test))) == 10
    assert not loaded.card["unreadable"]
