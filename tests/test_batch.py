"""Batches: the same bytes however often they stop, and nothing of a patient in what is kept."""

import csv
import io
import shutil
import stat
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shpeft import NOTICE
from shpeft.batch import (
    BatchWorker,
    diagnose_batch,
    list_batches,
    names_csv,
    open_source,
    running,
    sources,
    summary,
)
from shpeft.diagnosis import case_id, diagnose
from shpeft.errors import Cancelled, DiagnosisError, RunError, notes
from shpeft.pipeline import choose_trust, load_run
from shpeft.runs import RunFolder
from shpeft.trust import Choices, ThresholdRule
from tests.commands import shpeft
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


def linked() -> bytes:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped({"a.png": picture(0)}))
    data[6] |= 1  # the local header's and the directory's flag
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (zipped({"a.png": b"", "../up.png": b""}), "names that lead out"),
        (zipped({"/etc/up.png": b""}), "names that lead out"),
        (zipped({"C:\\up.png": b""}), "names that lead out"),
        (zipped({"a\\..\\..\\up.png": b""}), "names that lead out"),
        (linked(), "links"),
        (encrypted(), "encrypted files"),
        (zipped({"a.png": b"", "inner.ZIP": b""}), "archives within"),
        (zipped({"a.png": b"", "inner.tar.gz": b""}), "archives within"),
        (b"PK no zip at all", "damaged, or it is no zip"),
        (zipped({"a.txt": b"", "b": b"words"}), "no image among the 2 files"),
    ],
)
def test_a_zip_that_no_honest_person_made_is_refused_whole(data, said):
    with pytest.raises(DiagnosisError, match=said) as caught, open_source([data]):
        pass
    assert "up.png" not in str(caught.value)
    assert ("up.png" in "".join(notes(caught.value))) == (said == "names that lead out")


def test_sizes_and_counts_have_bounds(monkeypatch, place):
    data = zipped({f"{n}.png": picture(n) for n in range(3)})
    with monkeypatch.context() as patch:
        patch.setattr(sources, "MOST_FILES", 2)
        for where in (data, place):
            with pytest.raises(DiagnosisError, match="more than 2 files"), open_source([where]):
                pass
    with monkeypatch.context() as patch:
        patch.setattr(sources, "MOST_BYTES_TOGETHER", 100)
        with pytest.raises(DiagnosisError, match="unpacks to more than"), open_source([data]):
            pass
    monkeypatch.setattr(sources, "MOST_BYTES", 50)
    for where in (data, place):
        with open_source([where]) as source, pytest.raises(Exception, match="more than 0 MiB"):
            source.entries[0].read()


def test_a_damaged_member_is_a_row_and_the_others_are_read(loaded, tmp_path):
    data = bytearray(zipped({"a.png": picture(0), "b.png": picture(1)}))
    data[60] ^= 255  # within the first member's bytes: its checksum fails
    with open_source([bytes(data)]) as source:
        result = diagnose_batch(loaded, source, tmp_path / "results.csv")
    assert [name for name, _ in result.unreadable] == ["a.png"]
    assert "damaged in the zip" in result.unreadable[0][1]
    counts = summary((tmp_path / "results.csv").read_text())
    assert (counts.done, counts.unreadable, sum(counts.predicted.values())) == (2, 1, 1)


def test_several_places_keep_their_names_apart(place):
    with open_source([place / "MUELLER", place / "DOE_JANE_1970.png"]) as source:
        names = [entry.name for entry in source.entries]
    inside = [f"{place / 'MUELLER'}/{name}" for name in ("left.png", "right.png", "slice")]
    assert names == [*inside, str(place / "DOE_JANE_1970.png")]
    with pytest.raises(DiagnosisError, match="does not exist") as caught, open_source([place / "none"]):
        pass
    assert "none" in notes(caught.value)[0]


# -- the command line


def test_the_command_line_writes_the_csv_and_the_list_of_names_when_asked(folder, place, whole, tmp_path):
    out = tmp_path / "results.csv"
    done = shpeft("diagnose", folder.path, place, "--csv", out, "--device", "cpu")
    assert out.read_bytes() == whole
    assert "7 files, 2 of them unreadable; 2 others are no images." in done.stdout
    assert NOTICE in done.stdout
    assert "broken.png: The file cannot be read" in done.stderr
    assert "MUELLER" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    shpeft("diagnose", folder.path, place, "--csv", out, "--names", tmp_path / "names.csv", "--device", "cpu")
    assert out.read_bytes() == whole
    listed = {row["file"]: row["id"] for row in csv.DictReader((tmp_path / "names.csv").open())}
    assert listed == {f"./{name}": case_id(FILES[name]) for name in images()}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--csv FILE"),
        (["--names", "n.csv"], "--csv FILE"),
        (["--csv", "r.csv", "--saliency", "saliency"], "--saliency is for single ones"),
        (["--csv", "r.csv", "--names", "r.csv"], "two places"),
        (["--csv", "no/such/place/r.csv"], "cannot be written"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(folder, place, flags, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in shpeft("diagnose", folder.path, place, *flags, code=2).stderr
    assert not list(tmp_path.iterdir())


# -- in the background


@pytest.fixture
def worker():
    worker = BatchWorker()
    yield worker
    worker.shutdown(10)


def until(worker, batch, *wanted: str):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        snapshot = worker.snapshot(batch)
        if snapshot.status in wanted:
            return snapshot
        time.sleep(0.01)
    raise AssertionError(f"still {snapshot}")


def test_a_batch_in_the_background_is_stopped_and_goes_on_to_the_same_bytes(folder, place, whole, worker, monkeypatch):
    reached, held = threading.Event(), threading.Event()
    row = running._row

    def slow(run, entry, made_by, progress):
        if entry.name == "MUELLER/slice" and not held.is_set():
            reached.set()
            while True:  # a long image: the batch is stopped within
                progress("", 0, 0)
                time.sleep(0.01)
        return row(run, entry, made_by, progress)

    monkeypatch.setattr(running, "_row", slow)
    batch = worker.start(folder, [place])
    second = worker.start(folder, [zipped(FILES)])
    assert reached.wait(20)
    assert worker.snapshot(second).status == "waiting"
    snapshot = worker.snapshot(batch)
    assert (snapshot.status, snapshot.done, snapshot.total) == ("running", 3, IMAGES)
    begin = time.monotonic()
    worker.stop(batch)
    worker.stop(second)
    stopped = until(worker, batch, "stopped")
    assert time.monotonic() - begin < 3
    assert (stopped.done, stopped.total, stopped.again, stopped.fraction) == (3, IMAGES, True, 3 / 7)
    assert whole.startswith(batch.results.read_bytes())
    held.set()
    worker.go_on(folder, batch)
    finished = until(worker, batch, "finished", "failed")
    assert batch.results.read_bytes() == whole
    assert [name for name, _ in finished.result.unreadable] == ["broken.png", "empty.jpg"]
    assert names_csv(finished.result).startswith("id,file\ncase-")
    assert not finished.again  # the files are let go of
    until(worker, second, "stopped")
    later = BatchWorker()  # another process
    assert (later.snapshot(batch).status, later.snapshot(second).status) == ("finished", "stopped")
    with pytest.raises(RunError, match="give them again"):
        later.go_on(folder, second)
    later.go_on(folder, second, [place])
    until(later, second, "finished")
    assert second.results.read_bytes() == whole
    assert {found.name for found in list_batches(folder)} >= {batch.name, second.name}
    kept = b"".join(path.read_bytes() for path in batch.path.rglob("*") if path.is_file())
    for word in ("DOE", "MUELLER", str(place), "broken"):
        assert word.encode() not in kept
    later.discard(batch)
    assert not batch.path.exists()


def test_what_goes_wrong_in_the_background_is_said(folder, worker, monkeypatch, place):
    refused = until(worker, worker.start(folder, [zipped({"../up.png": b""})]), "failed")
    assert "names that lead out" in refused.message
    assert refused.files == ("../up.png: names that lead out of it",)
    monkeypatch.setattr(running, "_row", lambda *_: 1 / 0)
    broken = until(worker, worker.start(folder, [place]), "failed")
    assert broken.message == "This is a bug in shpeft (ZeroDivisionError)."
