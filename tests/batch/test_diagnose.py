"""Batches: the same bytes however often they stop, and nothing of a patient in what is kept."""

import csv
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shpeft import NOTICE
from shpeft.batch import (
    diagnose_batch,
    open_source,
    running,
)
from shpeft.diagnosis import case_id, diagnose
from shpeft.errors import Cancelled, DiagnosisError
from shpeft.pipeline import choose_trust, load_run
from shpeft.runs import RunFolder
from shpeft.trust import Choices, ThresholdRule
from tests.conftest import tiny_run  # noqa: F401 (a fixture)
from tests.dicom_files import PATIENT, scan, written


@pytest.fixture(scope="module")
def folder(tiny_run) -> RunFolder:  # noqa: F811
    run = RunFolder.open(tiny_run)
    choose_trust(run, Choices(ThresholdRule("exudates")))
    return run


@pytest.fixture(scope="module")
def loaded(folder):
    return load_run(folder, "cpu")


def picture(seed: int, size: tuple[int, int] = (24, 20)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "DOE_JANE_1970.png": picture(0),
    "MUELLER/left.png": picture(1),
    "MUELLER/right.png": picture(2, (30, 18)),
    "MUELLER/slice": written(scan()),
    "broken.png": picture(3)[:60],
    "copy of left.png": picture(1),
    "empty.jpg": b"",
    "notes.txt": b"Jane Doe, born 1970",
    ".DS_Store": b"hidden",
    "DICOMDIR": b"\0" * 128 + b"DICM",
}
IMAGES = 7


def zipped(files: dict[str, bytes], **how: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("Ward 7")
    for name, data in FILES.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(data)
    return place


@pytest.fixture(scope="module")
def whole(loaded, place, tmp_path_factory) -> bytes:
    """The CSV of a batch that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "results.csv"
    with open_source([place]) as source:
        diagnose_batch(loaded, source, out)
    assert [path.name for path in out.parent.iterdir()] == ["results.csv"]
    return out.read_bytes()


def test_a_row_says_what_a_single_diagnosis_says(loaded, place, whole):
    rows = list(csv.DictReader(io.StringIO(whole.decode())))
    assert [row["id"] for row in rows] == [case_id(FILES[name]) for name in sorted(FILES) if name in images()]
    for name, row in zip(sorted(images()), rows, strict=True):
        assert row["notice"] == NOTICE
        if row["error"]:
            assert name in ("broken.png", "empty.jpg")
            assert row["error"].startswith("The file cannot be read as an image")
            assert row["predicted"] == row["abstain"] == ""
            continue
        found = diagnose(
            loaded.backbone, FILES[name], decoding=loaded.decoding, trust=loaded.trust, novelty=loaded.novelty
        )
        told = found.judgement
        assert [float(row[f"probability:{c}"]) for c in found.classes] == list(told.probabilities)
        assert (row["predicted"], row["calibrated"]) == (found.predicted, "yes")
        assert row["prediction_set"].split(" | ") == list(told.members)
        assert (float(row["coverage"]), float(row["threshold"])) == (told.coverage, told.call.threshold)
        assert (row["predicted_at_threshold"] == row["threshold_class"] == "exudates") == told.call.called
        assert row["abstain"] == ("yes" if told.abstains else "no")
        assert row["unlike_training"] == ("yes" if found.novelty.alarm else "no")
        assert float(row["novelty_percentile"]) == found.novelty.percentile
        assert (int(row["width"]), int(row["height"])) == found.image_size
    assert len({row["made_by"] for row in rows}) == 1


def images() -> list[str]:
    return [name for name in FILES if name not in ("notes.txt", ".DS_Store", "DICOMDIR")]


def test_nothing_of_a_file_but_its_pixels_is_in_the_csv(whole, place):
    for word in ("DOE", "JANE", "MUELLER", "left", "Ward", str(place), PATIENT, "1970"):
        assert word.encode() not in whole
    assert len({case_id(data) for data in FILES.values()}) == len(FILES) - 1  # the copy has its original's id


def test_a_zip_gives_the_same_bytes_as_the_folder(loaded, whole, tmp_path):
    with open_source([zipped(FILES, compression=zipfile.ZIP_DEFLATED)]) as source:
        assert (len(source.entries), source.others) == (IMAGES, 2)
        result = diagnose_batch(loaded, source, tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_bytes() == whole
    assert [name for name, _ in result.unreadable] == ["broken.png", "empty.jpg"]


class StopAt:
    """A progress that raises when the batch comes to an image, or is gone back over what is there."""

    def __init__(self, number: int, error: type[BaseException] = Cancelled):
        self.number, self.error, self.seen = number, error, []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.seen.append((stage, done, total))
        if stage == "diagnosing" and done == self.number:
            raise self.error


@pytest.mark.parametrize("stops", [(0,), (1, 2), (3, 5, 6), tuple(range(7))])
def test_a_batch_that_stops_goes_on_to_the_same_bytes(loaded, place, whole, tmp_path, stops):
    out = tmp_path / "results.csv"
    with open_source([place]) as source:
        for number in stops:
            with pytest.raises(Cancelled):
                diagnose_batch(loaded, source, out, progress=StopAt(number))
            assert whole.startswith(out.read_bytes())
            assert out.read_bytes().count(b"\n") == 1 + number
        last = StopAt(-1)
        result = diagnose_batch(loaded, source, out, progress=last)
    assert out.read_bytes() == whole
    assert min(done for stage, done, _ in last.seen if stage == "diagnosing") == stops[-1]
    assert [name for name, _ in result.unreadable] == ["broken.png", "empty.jpg"]
    assert len(result.names) == IMAGES


def test_half_a_row_of_a_process_that_died_is_made_again(loaded, place, whole, tmp_path):
    out = tmp_path / "results.csv"
    with open_source([place]) as source:
        for size in (0, 5, len(whole) // 2, len(whole) - 1, len(whole)):
            out.write_bytes(whole[:size])
            diagnose_batch(loaded, source, out)
            assert out.read_bytes() == whole, size


def test_other_files_another_model_or_another_csv_are_refused(loaded, place, whole, tmp_path):
    out, half = tmp_path / "results.csv", whole[: whole.index(b"\n", len(whole) // 2) + 1]
    other = tmp_path / "other"
    shutil.copytree(place, other)
    (other / "DOE_JANE_1970.png").write_bytes(picture(9))
    changed = half.replace(half.split(b"\n")[1].split(b",")[-2], b"0123456789ab")
    tries = [
        ([other], half, "Row 1 of the CSV is of another file"),
        ([place / "DOE_JANE_1970.png"], whole, "7 rows and 1 images were given"),
        ([place], b"name,diagnosis\nJane,healthy\n", "holds something else"),
        ([place], changed, "begun by another model"),
    ]
    for places, there, said in tries:
        out.write_bytes(there)
        with open_source(places) as source, pytest.raises(DiagnosisError, match=said):
            diagnose_batch(loaded, source, out)
        assert out.read_bytes() == there


def test_a_full_disk_is_a_sentence_and_the_rows_stay(loaded, place, whole, tmp_path, monkeypatch):
    out, append, written = tmp_path / "results.csv", running._append, []

    def full(file, line):
        written.append(line)
        append(file, line[:10] if len(written) == 4 else line)
        if len(written) == 4:
            raise OSError(28, "No space left on device")

    with open_source([place]) as source:
        monkeypatch.setattr(running, "_append", full)
        with pytest.raises(Exception, match=r"No space left on device\. Make room"):
            diagnose_batch(loaded, source, out)
        monkeypatch.setattr(running, "_append", append)
        diagnose_batch(loaded, source, out)
    assert out.read_bytes() == whole


def test_two_cannot_write_one_csv(loaded, place, tmp_path):
    def again(stage: str, done: int, total: int) -> None:
        if stage == "diagnosing":
            with open_source([place]) as other:
                diagnose_batch(loaded, other, tmp_path / "results.csv")

    with open_source([place]) as source, pytest.raises(DiagnosisError, match="written by another process"):
        diagnose_batch(loaded, source, tmp_path / "results.csv", progress=again)


# -- what is given


# -- the command line


# -- in the background
