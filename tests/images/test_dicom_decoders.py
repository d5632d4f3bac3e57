"""Decoders that are missing or fail: the file is listed with a sentence, and the others are read."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shpeft.batch import diagnose_batch, open_source
from shpeft.datasets import load_dataset
from shpeft.errors import EmptyDataset, UnreadableImage, notes_of
from shpeft.images import open_image, open_pixels
from shpeft.pipeline import load_run
from shpeft.runs import RunFolder
from tests.helpers.command_line import shpeft

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.pixels import get_decoder  # noqa: E402
from pydicom.uid import RLELossless  # noqa: E402

from tests.helpers.dicom_files import PATIENT, dicom_bytes, dicom_of  # noqa: E402

ERRORS = [
    *(RuntimeError, ValueError, NotImplementedError, AttributeError, KeyError, IndexError, TypeError),
    *(SystemError, OSError, OverflowError, AssertionError, UnicodeDecodeError),
]

FAILED = "it is compressed as RLE Lossless, and decoding it failed"
MISSING = "is compressed as RLE Lossless, whose decoder is not installed. Install it with: pip install 'shpeft"


def slice_of(seed: int, *, compressed: bool = False) -> bytes:
    """Return a slice of noise."""
    data = dicom_of(np.random.default_rng(seed).integers(0, 1000, (32, 32)).astype(np.int16))
    if compressed:
        data.compress(RLELossless)
    return dicom_bytes(data)


def fails(error: type[Exception]) -> Callable[..., bytes]:
    """Return a decoder that raises the error with the name of the patient, which no message may repeat."""

    def decode(*_: object, **__: object) -> bytes:
        raise error("ascii", PATIENT.encode(), 0, 1, PATIENT) if error is UnicodeDecodeError else error(PATIENT)

    return decode


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Exception]], None]:
    """Replace every decoder of RLE by one that raises the error."""

    def replace(error: type[Exception]) -> None:
        monkeypatch.setattr(get_decoder(RLELossless), "_available", {"pydicom": fails(error)})

    return replace


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_decoder(RLELossless), "_available", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Slices of two classes, and one more that is compressed."""
    for label, first in (("benign", 0), ("malignant", 8)):
        for number in range(8):
            path = tmp_path / "slices" / label / f"{number}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(slice_of(first + number))
    (tmp_path / "slices" / "benign" / "compressed.dcm").write_bytes(slice_of(99, compressed=True))
    return tmp_path / "slices"


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_of_a_decoder_becomes_one_sentence(
    error: type[Exception], failing: Callable[[type[Exception]], None]
) -> None:
    failing(error)
    for opened in (open_image, open_pixels):
        with pytest.raises(UnreadableImage, match=f"is damaged, or its decoder does not support it: {FAILED}"):
            opened(slice_of(0, compressed=True))


@pytest.mark.parametrize("error", [*ERRORS, MemoryError])
def test_every_error_of_pydicom_becomes_one_sentence(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as those of a decoder's availability check, or of pydicom reshaping the result."""
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", fails(error))
    said = "not enough memory" if error is MemoryError else FAILED
    with pytest.raises(UnreadableImage, match=said) as caught:
        open_image(slice_of(0, compressed=True))
    assert PATIENT not in str(caught.value)
    with pytest.raises(UnreadableImage, match="not enough memory" if error is MemoryError else "a damaged DICOM file"):
        open_image(slice_of(0))  # not compressed: not a decoder's fault


def test_a_folder_lists_the_file_and_reads_the_others(folder: Path, failing: Callable[[type[Exception]], None]) -> None:
    failing(SystemError)
    data = load_dataset(folder)
    [[name, reason]] = data.card["unreadable"]
    assert name.endswith("compressed.dcm")
    assert FAILED in reason
    assert PATIENT not in reason
    assert sum(len(split) for split in data.splits) == 16


def test_a_folder_lists_files_without_a_decoder_until_it_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(get_decoder(RLELossless), "_available", {})
        [[_, reason]] = load_dataset(folder).card["unreadable"]
        assert MISSING in reason
        for path in folder.glob("*/?.dcm"):
            path.write_bytes(slice_of(int(path.stem), compressed=True))
        with pytest.raises(EmptyDataset, match="None of the 17 image files of 'slices' can be read") as caught:
            load_dataset(folder)
        assert all(MISSING in note for note in notes_of(caught.value))
    assert load_dataset(folder).card["unreadable"] == []


def test_a_decoder_failure_is_not_cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause may be missing memory or another decoder, so the file is tried again."""
    for error in (MemoryError, ValueError):
        with monkeypatch.context() as patch:
            patch.setattr(get_decoder(RLELossless), "_available", {"pydicom": fails(error)})
            assert len(load_dataset(folder).card["unreadable"]) == 1
    assert load_dataset(folder).card["unreadable"] == []


def test_a_batch_has_a_row_for_the_file_and_continues(
    folder: Path,
    failing: Callable[[type[Exception]], None],
    tiny_run: Path,
    tmp_path: Path,
) -> None:
    failing(SystemError)
    out = tmp_path / "out.csv"
    with open_source([folder]) as source:
        result = diagnose_batch(load_run(RunFolder.open(tiny_run), "cpu"), source, out)
    [(name, reason)] = result.unreadable
    assert name.endswith("compressed.dcm")
    assert reason.startswith("The file is damaged, or its decoder does not support it")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert (len(rows), sum(bool(row["predicted"]) for row in rows)) == (17, 16)
    assert PATIENT not in out.read_text()


def test_the_command_line_reports_the_file_and_diagnoses_the_others(
    folder: Path,
    missing: None,
    tiny_run: Path,
    tmp_path: Path,
) -> None:
    alone = shpeft("diagnose", tiny_run, folder / "benign" / "compressed.dcm", code=2).output
    assert "pip install 'shpeft[dicom]'" in " ".join(alone.split())
    out = tmp_path / "out.csv"
    shpeft("diagnose", tiny_run, folder, "--csv", out, "--device", "cpu")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["error"] for row in rows if not row["predicted"]] == [
        next(row["error"] for row in rows if row["error"])
    ]
    assert MISSING in next(row["error"] for row in rows if row["error"])
