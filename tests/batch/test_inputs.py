"""What a batch is given, on the command line and in the background."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import csv
import io
import stat
import threading
import time
import zipfile

import pytest

from shpeft import NOTICE
from shpeft.batch import BatchWorker, diagnose_batch, list_batches, names_csv, open_source, running, sources, summary
from shpeft.diagnosis import case_id
from shpeft.errors import DiagnosisError, RunError, notes
from tests.commands import shpeft
from tests.test_batch import FILES, IMAGES, folder, images, loaded, picture, place, whole, zipped


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
