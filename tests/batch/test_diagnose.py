"""Batches: identical bytes after any number of interruptions, and no patient data in the output."""

import csv
import io
import shutil
import zipfile
from pathlib import Path

import pytest

from shpeft import NOTICE
from shpeft.batch import diagnose as running
from shpeft.batch import diagnose_batch, open_source
from shpeft.diagnosis import case_id, diagnose
from shpeft.errors import Cancelled, DiagnosisError
from shpeft.pipeline import LoadedRun
from tests.helpers.batch_files import FILES, IMAGES, images, picture, zipped
from tests.helpers.dicom_files import PATIENT
from tests.helpers.present import present


def test_a_row_equals_a_single_diagnosis(loaded: LoadedRun, image_folder: Path, whole: bytes) -> None:
    rows = rows_of(whole)
    assert [row["id"] for row in rows] == [case_id(FILES[name]) for name in sorted(FILES) if name in images()]
    for name, row in zip(sorted(images()), rows, strict=True):
        assert row["notice"] == NOTICE
        if row["error"]:
            assert name in ("broken.png", "empty.jpg")
            assert row["error"].startswith("The file cannot be read as an image")
            assert row["predicted"] == row["abstain"] == ""
            continue
        diagnosis = diagnose(
            loaded.backbone,
            FILES[name],
            decoding=loaded.decoding,
            reliability=loaded.reliability,
            ood_detector=loaded.ood_detector,
        )
        reliability, ood = diagnosis.reliability, diagnosis.ood
        assert reliability is not None
        assert reliability.decision is not None
        assert ood is not None
        assert [float(row[f"probability:{c}"]) for c in diagnosis.classes] == list(reliability.probabilities)
        answer = diagnosis.answer
        mark = "" if answer.given else "not an answer: "
        assert (row["answer"], row["reasons"]) == (answer.headline, " ".join(answer.reasons))
        assert (row["probability_of"], float(row["probability"])) == (answer.probability_of, answer.probability)
        assert row["test_sensitivity"] == present(answer.rates).sensitivity.counts
        assert (row["predicted"], row["calibrated"]) == (mark + diagnosis.predicted, "yes")
        assert row["prediction_set"] == mark + " | ".join(reliability.prediction_set)
        assert (float(row["coverage"]), float(row["threshold"])) == (
            reliability.coverage,
            reliability.decision.threshold,
        )
        assert (
            row["predicted_at_threshold"] == mark + row["threshold_class"] == f"{mark}exudates"
        ) == reliability.decision.is_positive
        assert row["abstain"] == ("yes" if reliability.abstains else "no")
        assert row["unlike_training"] == ("yes" if ood.reasons else "no")
        assert float(row["novelty_percentile"]) == ood.percentile
        assert (int(row["width"]), int(row["height"])) == diagnosis.image_size
    assert len({row["made_by"] for row in rows}) == 1


def test_the_csv_holds_no_file_name_path_or_metadata(whole: bytes, image_folder: Path) -> None:
    for word in ("DOE", "JANE", "MUELLER", "left", "Ward", str(image_folder), PATIENT, "1970"):
        assert word.encode() not in whole
    assert len({case_id(data) for data in FILES.values()}) == len(FILES) - 1  # the copy has its original's id


def test_a_zip_gives_the_same_bytes_as_the_folder(loaded: LoadedRun, whole: bytes, tmp_path: Path) -> None:
    with open_source([zipped(FILES, compression=zipfile.ZIP_DEFLATED)]) as source:
        assert (len(source.entries), source.others) == (IMAGES, 2)
        result = diagnose_batch(loaded, source, tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_bytes() == whole
    assert [name for name, _ in result.unreadable] == ["broken.png", "empty.jpg"]


def rows_of(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode())))


class StopAt:
    """A progress callback that records its calls and raises at the given image."""

    def __init__(self, number: int, error: type[BaseException] = Cancelled) -> None:
        self.number, self.error = number, error
        self.seen: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.seen.append((stage, done, total))
        if stage == "diagnosing" and done == self.number:
            raise self.error


@pytest.mark.parametrize("stops", [(0,), (1, 2), (3, 5, 6), tuple(range(7))])
def test_a_resumed_batch_gives_the_same_bytes(
    loaded: LoadedRun, image_folder: Path, whole: bytes, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    out = tmp_path / "results.csv"
    with open_source([image_folder]) as source:
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


def test_a_partial_row_is_written_again(loaded: LoadedRun, image_folder: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    with open_source([image_folder]) as source:
        for size in (0, 5, len(whole) // 2, len(whole) - 1, len(whole)):
            out.write_bytes(whole[:size])
            diagnose_batch(loaded, source, out)
            assert out.read_bytes() == whole, size


@pytest.mark.parametrize("stops", [(), (1, 2), (3, 5, 6)])
def test_images_that_pass_together_give_the_same_bytes_after_an_interruption(
    loaded: LoadedRun, image_folder: Path, whole: bytes, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    with open_source([image_folder]) as source:
        diagnose_batch(loaded, source, tmp_path / "once.csv", batch_size=3)
        for number in stops:
            with pytest.raises(Cancelled):
                diagnose_batch(loaded, source, tmp_path / "again.csv", batch_size=3, progress=StopAt(number))
        result = diagnose_batch(loaded, source, tmp_path / "again.csv", batch_size=3)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "once.csv").read_bytes()
    assert [name for name, _ in result.unreadable] == ["broken.png", "empty.jpg"]
    for row, alone in zip(rows_of((tmp_path / "once.csv").read_bytes()), rows_of(whole), strict=True):
        assert row.pop("made_by") == alone.pop("made_by") + "/3"
        for name in row:
            if row[name] != alone[name]:  # the last digits of a float32 computation
                assert float(row[name]) == pytest.approx(float(alone[name]), abs=1e-5), name


def test_a_row_of_a_batch_does_not_depend_on_the_other_images(loaded: LoadedRun, tmp_path: Path) -> None:
    made = []
    for seeds in ((1, 2, 3, 4), (9, 2, 8, 7)):
        folder = tmp_path / str(seeds[0])
        folder.mkdir()
        for position, seed in enumerate(seeds):
            (folder / f"{position}.png").write_bytes(picture(seed))
        with open_source([folder]) as source:
            diagnose_batch(loaded, source, folder / "rows.csv", batch_size=4)
        made.append((folder / "rows.csv").read_bytes().split(b"\n"))
    assert made[0][2] == made[1][2]
    assert made[0][1] != made[1][1]


def test_another_batch_size_does_not_continue_a_csv(
    loaded: LoadedRun, image_folder: Path, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    out.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 1])
    with open_source([image_folder]) as source, pytest.raises(DiagnosisError, match="with other settings"):
        diagnose_batch(loaded, source, out, batch_size=2)


def test_resuming_with_other_files_another_model_or_another_csv_is_refused(
    loaded: LoadedRun, image_folder: Path, whole: bytes, tmp_path: Path
) -> None:
    out, half = tmp_path / "results.csv", whole[: whole.index(b"\n", len(whole) // 2) + 1]
    other = tmp_path / "other"
    shutil.copytree(image_folder, other)
    (other / "DOE_JANE_1970.png").write_bytes(picture(9))
    changed = half.replace(half.split(b"\n")[1].split(b",")[-2], b"0123456789ab")
    tries = [
        ([other], half, "Row 1 of the CSV belongs to a file that is not number 1"),
        ([image_folder / "DOE_JANE_1970.png"], whole, "7 rows, but 1 image was given"),
        ([image_folder], b"name,diagnosis\nJane,healthy\n", "is not the CSV of a batch"),
        ([image_folder], changed, "written by another model"),
    ]
    for inputs, content, message in tries:
        out.write_bytes(content)
        with open_source(inputs) as source, pytest.raises(DiagnosisError, match=message):
            diagnose_batch(loaded, source, out)
        assert out.read_bytes() == content


def test_a_full_disk_is_reported_and_the_rows_stay(
    loaded: LoadedRun, image_folder: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, append = tmp_path / "results.csv", running._append
    lines: list[bytes] = []

    def full(file: io.FileIO, line: bytes) -> None:
        lines.append(line)
        append(file, line[:10] if len(lines) == 4 else line)
        if len(lines) == 4:
            raise OSError(28, "No space left on device")

    with open_source([image_folder]) as source:
        monkeypatch.setattr(running, "_append", full)
        with pytest.raises(Exception, match=r"No space left on device\. Free some space"):
            diagnose_batch(loaded, source, out)
        monkeypatch.setattr(running, "_append", append)
        diagnose_batch(loaded, source, out)
    assert out.read_bytes() == whole


def test_two_processes_cannot_write_the_same_csv(loaded: LoadedRun, image_folder: Path, tmp_path: Path) -> None:
    def again(stage: str, done: int, total: int) -> None:
        if stage == "diagnosing":
            with open_source([image_folder]) as other:
                diagnose_batch(loaded, other, tmp_path / "results.csv")

    with open_source([image_folder]) as source, pytest.raises(DiagnosisError, match="written by another process"):
        diagnose_batch(loaded, source, tmp_path / "results.csv", progress=again)
