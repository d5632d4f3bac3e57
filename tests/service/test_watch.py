"""New series of a real archive are answered once, whatever happens to the watcher."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest

from shpeft.errors import ConfigError, ShpeftError
from shpeft.service import watch
from shpeft.service.archive import PASSWORD, USER, Archive, ArchiveError
from shpeft.service.watch import Event, Watcher
from shpeft.service.worker import Worker
from shpeft.support.atomic_files import write_atomic
from tests.helpers import orthanc
from tests.helpers.dicom_studies import PLANTED, errors_of, slice_of
from tests.helpers.orthanc import Orthanc

pytest.importorskip("dicomweb_client")


@pytest.fixture
def archive(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orthanc]:
    monkeypatch.setenv(USER, orthanc.USER)
    monkeypatch.setenv(PASSWORD, orthanc.PASSWORD)
    with orthanc.running(tmp_path_factory.mktemp("orthanc")) as started:
        yield started


def looks(watcher: Watcher, times: int = 2) -> list[Event]:
    return [event for _ in range(times) for event in watcher.look()]


def results_in(archive: Orthanc) -> list[dict[str, object]]:
    return [tags for tags in archive.instances() if tags.get("Manufacturer") == "shpeft"]


def test_a_new_series_gets_its_results_once(archive: Orthanc, worker: Worker, tmp_path: Path) -> None:
    for number in range(3):
        archive.add(slice_of(number))
    watcher = Watcher(Archive(archive.url), worker, tmp_path / "state", "highest-risk")
    assert list(watcher.look()) == []  # it may still be arriving
    assert [event.kind for event in watcher.look()] == ["stored"]
    assert looks(watcher, 3) == []
    watcher.close()
    again = Watcher(Archive(archive.url), worker, tmp_path / "state", "highest-risk")
    assert looks(again) == []
    again.close()

    results = results_in(archive)
    assert {"SR", "PR"} <= {str(tags["Modality"]) for tags in results}
    assert {tags["StudyInstanceUID"] for tags in results} == {"2.25.1001"}
    assert len({tags["SOPInstanceUID"] for tags in results}) == len(results)
    for number, data in enumerate(archive.files()):
        if pydicom.dcmread(BytesIO(data), stop_before_pixels=True).get("Manufacturer") == "shpeft":
            (tmp_path / f"{number}.dcm").write_bytes(data)
            assert errors_of(tmp_path / f"{number}.dcm") == []
            for value in PLANTED.values():
                assert value.encode() not in data
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or (b"DOE" not in path.read_bytes() and b"2.25" not in path.read_bytes())


def test_a_growing_series_is_waited_for(archive: Orthanc, worker: Worker, tmp_path: Path) -> None:
    watcher = Watcher(Archive(archive.url), worker, tmp_path, "mean")
    for number in range(3):
        archive.add(slice_of(number))
        assert list(watcher.look()) == []
    assert [event.kind for event in watcher.look()] == ["stored"]
    watcher.close()


def test_a_series_that_cannot_be_read_becomes_a_dead_letter(archive: Orthanc, worker: Worker, tmp_path: Path) -> None:
    archive.add(slice_of(0, PhotometricInterpretation="ARGB"))
    archive.add(slice_of(1, SeriesInstanceUID="2.25.9"))
    watcher = Watcher(Archive(archive.url), worker, tmp_path, "mean")
    events = looks(watcher, 5)
    watcher.close()
    assert sorted(event.kind for event in events) == ["dead", "failed", "failed", "stored"]
    (dead,) = (tmp_path / "dead").iterdir()
    assert "cannot be read" in dead.read_text()
    assert "DOE" not in dead.read_text()


class Stopped(BaseException):
    """Ends a watcher at once, as a signal would; nothing of it is caught."""


STEPS = 11
"""Before and after each of: fetching, writing two files, storing, noting that it is done; and between two removals."""


def test_results_are_stored_once_wherever_the_watcher_ends(
    archive: Orthanc, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0

    def stopping(function: Any, at: int) -> Any:
        def step(*arguments: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed == at:
                raise Stopped
            value = function(*arguments)
            passed += 1
            if passed == at:
                raise Stopped
            return value

        return step

    monkeypatch.setattr("shpeft.reports.dicom.diagnose.unavailable_reason", lambda: "No browser.")  # for speed
    stopped = 0
    for at in range(1, STEPS + 1):
        series = f"2.25.50{at}"
        archive.add(slice_of(at, SeriesInstanceUID=series, StudyInstanceUID=f"2.25.60{at}"))
        passed = 0
        with monkeypatch.context() as patch:
            watcher = Watcher(Archive(archive.url), worker, tmp_path, "mean")
            list(watcher.look())
            patch.setattr(watch, "write_atomic", stopping(write_atomic, at))
            patch.setattr(watcher.archive, "fetch", stopping(watcher.archive.fetch, at))
            patch.setattr(watcher.archive, "store", stopping(watcher.archive.store, at))
            try:
                list(watcher.look())
            except Stopped:
                stopped += 1
            watcher.close()  # as the system does
        following = Watcher(Archive(archive.url), worker, tmp_path, "mean")
        looks(following)
        following.close()
        mine = [tags for tags in results_in(archive) if tags["StudyInstanceUID"] == f"2.25.60{at}"]
        kinds = [str(tags["Modality"]) for tags in mine if tags["Modality"] != "OT"]
        assert sorted(kinds) == ["PR", "SR"], at
    assert stopped == 10
    assert not list((tmp_path / "ready").iterdir())


def test_two_watchers_do_not_share_a_folder(archive: Orthanc, worker: Worker, tmp_path: Path) -> None:
    watcher = Watcher(Archive(archive.url), worker, tmp_path, "mean")
    with pytest.raises(ShpeftError, match="Another watcher"):
        Watcher(Archive(archive.url), worker, tmp_path, "mean")
    watcher.close()


def test_wrong_credentials_are_a_sentence(archive: Orthanc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(ArchiveError, match="status 401"):
        list(Archive(archive.url).series())


def test_an_absent_archive_is_a_sentence() -> None:
    with pytest.raises(ArchiveError, match="cannot be reached"):
        list(Archive("http://127.0.0.1:9/dicom-web").series())


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://127.0.0.1/x", "no address"),
        ("dicom-web", "no address"),
        ("http://me:secret@127.0.0.1/x", "Credentials do not belong"),
        ("http://archive.example/dicom-web", "encrypted alone"),
    ],
)
def test_addresses_that_leak_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Archive(url)
