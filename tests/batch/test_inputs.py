"""Inputs of a batch, its command line and its background worker."""

import csv
import io
import stat
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shpeft import NOTICE
from shpeft.batch import BatchWorker, diagnose, diagnose_batch, inputs, list_batches, names_csv, open_source, summary
from shpeft.batch.folder import BatchFolder
from shpeft.batch.worker import BatchSnapshot
from shpeft.diagnosis import case_id
from shpeft.errors import DiagnosisError, RunError, notes_of
from shpeft.pipeline import LoadedRun
from shpeft.runs import RunFolder
from shpeft.support import safe_zip
from tests.helpers.batch_files import FILES, IMAGES, images, picture, zipped
from tests.helpers.command_line import shpeft


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
    ("data", "message"),
    [
        (zipped({"a.png": b"", "../up.png": b""}), "names that lead out"),
        (zipped({"/etc/up.png": b""}), "names that lead out"),
        (zipped({"C:\\up.png": b""}), "names that lead out"),
        (zipped({"a\\..\\..\\up.png": b""}), "names that lead out"),
        (linked(), "links"),
        (encrypted(), "encrypted files"),
        (zipped({"a.png": b"", "inner.ZIP": b""}), "archives within"),
        (zipped({"a.png": b"", "inner.tar.gz": b""}), "archives within"),
        (b"PK no zip at all", "not a zip file, or it is damaged"),
        (zipped({"a.txt": b"", "b": b"words"}), "None of the 2 files is an image"),
    ],
)
def test_a_malicious_or_damaged_zip_is_refused_as_a_whole(data: bytes, message: str) -> None:
    with pytest.raises(DiagnosisError, match=message) as caught, open_source([data]):
        pass
    assert "up.png" not in str(caught.value)
    assert ("up.png" in "".join(notes_of(caught.value))) == (message == "names that lead out")


def test_sizes_and_counts_have_bounds(monkeypatch: pytest.MonkeyPatch, image_folder: Path) -> None:
    data = zipped({f"{n}.png": picture(n) for n in range(3)})
    with monkeypatch.context() as patch:
        patch.setattr(safe_zip, "MOST_FILES", 2)
        for where in (data, image_folder):
            with pytest.raises(DiagnosisError, match="more than 2 files"), open_source([where]):
                pass
    with monkeypatch.context() as patch:
        patch.setattr(safe_zip, "MOST_BYTES_TOGETHER", 100)
        with pytest.raises(DiagnosisError, match="unpacks to more than"), open_source([data]):
            pass
    monkeypatch.setattr(inputs, "MOST_BYTES", 50)
    for where in (data, image_folder):
        with open_source([where]) as source, pytest.raises(Exception, match=r"more than 0 MiB|at most 0 MiB"):
            source.entries[0].read()


def test_a_damaged_member_becomes_an_error_row(loaded: LoadedRun, tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": picture(0), "b.png": picture(1)}))
    data[60] ^= 255  # within the first member's bytes: its checksum fails
    with open_source([bytes(data)]) as source:
        result = diagnose_batch(loaded, source, tmp_path / "results.csv")
    assert [name for name, _ in result.unreadable] == ["a.png"]
    assert "damaged in the zip" in result.unreadable[0][1]
    counts = summary((tmp_path / "results.csv").read_text())
    assert (counts.done, counts.unreadable, sum(counts.answers.values())) == (2, 1, 1)


def test_files_of_several_inputs_have_distinct_names(image_folder: Path) -> None:
    with open_source([image_folder / "MUELLER", image_folder / "DOE_JANE_1970.png"]) as source:
        names = [entry.name for entry in source.entries]
    inside = [f"{image_folder / 'MUELLER'}/{name}" for name in ("left.png", "right.png", "slice")]
    assert names == [*inside, str(image_folder / "DOE_JANE_1970.png")]
    with pytest.raises(DiagnosisError, match="does not exist") as caught, open_source([image_folder / "none"]):
        pass
    assert "none" in notes_of(caught.value)[0]


def test_the_command_line_writes_the_csv_and_the_list_of_names_when_asked(
    folder: RunFolder, image_folder: Path, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    done = shpeft("diagnose", folder.path, image_folder, "--csv", out, "--device", "cpu")
    assert out.read_bytes() == whole
    assert "7 files, 2 of them unreadable; 2 others are not images." in done.stdout
    assert NOTICE in done.stdout
    assert "broken.png: The file cannot be read" in done.stderr
    assert "MUELLER" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    shpeft("diagnose", folder.path, image_folder, "--csv", out, "--names", tmp_path / "names.csv", "--device", "cpu")
    assert out.read_bytes() == whole
    listed = {row["file"]: row["id"] for row in csv.DictReader(io.StringIO((tmp_path / "names.csv").read_text()))}
    assert listed == {f"./{name}": case_id(FILES[name]) for name in images()}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--csv FILE"),
        (["--names", "n.csv"], "--csv FILE"),
        (["--batch-size", "8"], "--csv FILE"),
        (["--csv", "r.csv", "--saliency", "saliency"], "--saliency is for single images"),
        (["--csv", "r.csv", "--names", "r.csv"], "two different paths"),
        (["--csv", "no/such/place/r.csv"], "cannot be written"),
    ],
)
def test_conflicting_flags_are_refused(
    folder: RunFolder,
    image_folder: Path,
    flags: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in shpeft("diagnose", folder.path, image_folder, *flags, code=2).stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def worker() -> Iterator[BatchWorker]:
    worker = BatchWorker()
    yield worker
    worker.shutdown(10)


def until(worker: BatchWorker, batch: BatchFolder, *statuses: str) -> BatchSnapshot:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        snapshot = worker.snapshot(batch)
        if snapshot.status in statuses:
            return snapshot
        time.sleep(0.01)
    raise AssertionError(f"still {snapshot}")


def test_a_stopped_background_batch_resumes_to_the_same_bytes(
    folder: RunFolder, image_folder: Path, whole: bytes, worker: BatchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, held = threading.Event(), threading.Event()
    opened = diagnose._open

    def slow(entry: inputs.Entry | None, run: LoadedRun) -> diagnose._File:
        if entry is not None and entry.name == "MUELLER/slice":
            reached.set()
            held.wait(60)  # a long image: the batch is stopped within
        return opened(entry, run)

    monkeypatch.setattr(diagnose, "_open", slow)
    batch = worker.submit(folder, [image_folder])
    second = worker.submit(folder, [zipped(FILES)])
    assert reached.wait(60)
    assert worker.snapshot(second).status == "waiting"
    while (snapshot := worker.snapshot(batch)).done < 3:  # files are read ahead
        time.sleep(0.01)
    assert (snapshot.status, snapshot.done, snapshot.total) == ("running", 3, IMAGES)
    begin = time.monotonic()
    worker.stop(batch)
    worker.stop(second)
    stopped = until(worker, batch, "stopped")
    assert time.monotonic() - begin < 20
    assert (stopped.done, stopped.total, stopped.again, stopped.fraction) == (3, IMAGES, True, 3 / 7)
    assert whole.startswith(batch.results.read_bytes())
    held.set()
    worker.resume(folder, batch)
    finished = until(worker, batch, "finished", "failed")
    assert finished.result is not None
    assert batch.results.read_bytes() == whole
    assert [name for name, _ in finished.result.unreadable] == ["broken.png", "empty.jpg"]
    assert names_csv(finished.result).startswith("id,file\ncase-")
    assert not finished.again  # the files are released
    until(worker, second, "stopped")
    later = BatchWorker()  # another process
    assert (later.snapshot(batch).status, later.snapshot(second).status) == ("finished", "stopped")
    with pytest.raises(RunError, match="choose them again"):
        later.resume(folder, second)
    later.resume(folder, second, [image_folder])
    until(later, second, "finished")
    assert second.results.read_bytes() == whole
    assert {stored.name for stored in list_batches(folder)} >= {batch.name, second.name}
    content = b"".join(path.read_bytes() for path in batch.path.rglob("*") if path.is_file())
    for word in ("DOE", "MUELLER", str(image_folder), "broken"):
        assert word.encode() not in content
    later.discard(batch)
    assert not batch.path.exists()


def test_failures_in_the_background_are_reported(
    folder: RunFolder, worker: BatchWorker, monkeypatch: pytest.MonkeyPatch, image_folder: Path
) -> None:
    refused = until(worker, worker.submit(folder, [zipped({"../up.png": b""})]), "failed")
    assert "names that lead out" in refused.message
    assert refused.files == ("../up.png: names that lead out of it",)
    monkeypatch.setattr(diagnose, "_open", lambda *_: 1 / 0)
    broken = until(worker, worker.submit(folder, [image_folder]), "failed")
    assert broken.message == "This is a bug in shpeft (ZeroDivisionError)."
