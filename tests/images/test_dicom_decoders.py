"""Decoders that are missing or fail: the file is listed with a sentence, and the others are read."""

import csv
import io

import numpy as np
import pytest

from shpeft.batch import diagnose_batch, open_source
from shpeft.datasets import load_dataset
from shpeft.errors import EmptyDataset, UnreadableImage, notes
from shpeft.images import open_image, open_pixels
from shpeft.pipeline import load_run
from shpeft.runs import RunFolder
from tests.commands import shpeft
from tests.conftest import tiny_run  # noqa: F401 (a fixture)

pydicom = pytest.importorskip("pydicom", reason="needs the dicom extra")

from pydicom.pixels import get_decoder  # noqa: E402
from pydicom.uid import RLELossless  # noqa: E402

from .dicom_files import PATIENT, made, written  # noqa: E402

ERRORS = [
    *(RuntimeError, ValueError, NotImplementedError, AttributeError, KeyError, IndexError, TypeError),
    *(SystemError, OSError, OverflowError, AssertionError, UnicodeDecodeError),
]

FAILED = "it is compressed as RLE Lossless, and decoding it failed"
MISSING = "is compressed as RLE Lossless, and what decodes that is not installed. Install it with: pip install 'shpeft"


def slice_of(seed: int, *, compressed: bool = False) -> bytes:
    """A slice of noise."""
    data = made(np.random.default_rng(seed).integers(0, 1000, (32, 32)).astype(np.int16))
    if compressed:
        data.compress(RLELossless)
    return written(data)


def fails(error):
    """A decoder that raises, in words that no message may repeat."""

    def decode(*_: object, **__: object) -> bytes:
        raise error("ascii", PATIENT.encode(), 0, 1, PATIENT) if error is UnicodeDecodeError else error(PATIENT)

    return decode


@pytest.fixture
def failing(monkeypatch):
    """Replaces every decoder of RLE by one that raises the error."""

    def replace(error: type[Exception]) -> None:
        monkeypatch.setattr(get_decoder(RLELossless), "_available", {"pydicom": fails(error)})

    return replace


@pytest.fixture
def missing(monkeypatch):
    monkeypatch.setattr(get_decoder(RLELossless), "_available", {})


@pytest.fixture
def folder(tmp_path):
    """Slices of two classes, and one more that is compressed."""
    for label, first in (("benign", 0), ("malignant", 8)):
        for number in range(8):
            path = tmp_path / "slices" / label / f"{number}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(slice_of(first + number))
    (tmp_path / "slices" / "benign" / "compressed.dcm").write_bytes(slice_of(99, compressed=True))
    return tmp_path / "slices"


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_decoder_raises_is_one_sentence(error, failing):
    failing(error)
    for opened in (open_image, open_pixels):
        with pytest.raises(UnreadableImage, match=f"is damaged, or of a kind that its decoder does not know: {FAILED}"):
            opened(slice_of(0, compressed=True))


@pytest.mark.parametrize("error", [*ERRORS, MemoryError])
def test_what_is_raised_past_pydicom_is_one_sentence(error, monkeypatch):
    """As a decoder may when it is asked whether it can, or pydicom when it shapes what came out."""
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", fails(error))
    said = "not enough memory" if error is MemoryError else FAILED
    with pytest.raises(UnreadableImage, match=said) as caught:
        open_image(slice_of(0, compressed=True))
    assert PATIENT not in str(caught.value)
    with pytest.raises(UnreadableImage, match="not enough memory" if error is MemoryError else "a damaged DICOM file"):
        open_image(slice_of(0))  # not compressed: not a decoder's fault


def test_a_folder_lists_the_file_and_reads_the_others(folder, failing):
    failing(SystemError)
    data = load_dataset(folder)
    [[name, reason]] = data.card["unreadable"]
    assert name.endswith("compressed.dcm")
    assert FAILED in reason
    assert PATIENT not in reason
    assert sum(len(split) for split in data.splits) == 16


def test_a_folder_lists_what_has_no_decoder_until_it_has_one(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(get_decoder(RLELossless), "_available", {})
        [[_, reason]] = load_dataset(folder).card["unreadable"]
        assert MISSING in reason
        for path in folder.glob("*/?.dcm"):
            path.write_bytes(slice_of(int(path.stem), compressed=True))
        with pytest.raises(EmptyDataset, match="None of the 17 image files of 'slices' can be read") as caught:
            load_dataset(folder)
        assert all(MISSING in note for note in notes(caught.value))
    assert load_dataset(folder).card["unreadable"] == []


def test_a_failure_is_not_taken_for_the_files_own(folder, monkeypatch):
    """For want of memory or of another decoder, perhaps: it is tried again."""
    for error in (MemoryError, ValueError):
        with monkeypatch.context() as patch:
            patch.setattr(get_decoder(RLELossless), "_available", {"pydicom": fails(error)})
            assert len(load_dataset(folder).card["unreadable"]) == 1
    assert load_dataset(folder).card["unreadable"] == []


def test_a_batch_has_a_row_for_the_file_and_goes_on(folder, failing, tiny_run, tmp_path):  # noqa: F811
    failing(SystemError)
    out = tmp_path / "out.csv"
    with open_source([folder]) as source:
        result = diagnose_batch(load_run(RunFolder.open(tiny_run), "cpu"), source, out)
    [(name, reason)] = result.unreadable
    assert name.endswith("compressed.dcm")
    assert reason.startswith("The file is damaged, or of a kind that its decoder does not know")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert (len(rows), sum(bool(row["predicted"]) for row in rows)) == (17, 16)
    assert PATIENT not in out.read_text()


def test_the_command_line_says_it_and_diagnoses_the_others(folder, missing, tiny_run, tmp_path):  # noqa: F811
    alone = shpeft("diagnose", tiny_run, folder / "benign" / "compressed.dcm", code=2).output
    assert "pip install 'shpeft[dicom]'" in " ".join(alone.split())
    out = tmp_path / "out.csv"
    shpeft("diagnose", tiny_run, folder, "--csv", out, "--device", "cpu")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["error"] for row in rows if not row["predicted"]] == [
        next(row["error"] for row in rows if row["error"])
    ]
    assert MISSING in next(row["error"] for row in rows if row["error"])
