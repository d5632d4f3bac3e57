"""Results reach the archive on request, once, with a sentence for what became of them."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shpeft.batch import by_series, open_source
from shpeft.errors import ConfigError
from shpeft.reports.dicom import DicomResults, diagnose_dicom
from shpeft.service.archive import VARIABLE, Archive, ArchiveError
from shpeft.service.stow import ResultStore, Stored, configured_store, store_cases
from shpeft.service.worker import Worker
from tests.helpers import dicomweb, orthanc
from tests.helpers.batch_files import picture
from tests.helpers.command_line import shpeft
from tests.helpers.dicom_studies import slice_of
from tests.helpers.dicomweb import DicomWeb

pytest.importorskip("dicomweb_client")


@pytest.fixture(autouse=True)
def _without_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shpeft.reports.dicom.diagnose.unavailable_reason", lambda: "No browser.")  # for speed


@pytest.fixture
def archive() -> Iterator[DicomWeb]:
    with dicomweb.running() as running:
        yield running


@pytest.fixture
def store(archive: DicomWeb, tmp_path: Path) -> ResultStore:
    return ResultStore(Archive(archive.url), tmp_path / "stored")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A series of three slices, an image by itself, and a photograph that is no DICOM file."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}_DOE.dcm").write_bytes(slice_of(number))
    (folder / "single.dcm").write_bytes(slice_of(7, SeriesInstanceUID="2.25.9"))
    (folder / "photo.png").write_bytes(picture(1))
    return folder


def test_results_of_a_list_are_stored_once(archive: DicomWeb, store: ResultStore, study: Path, worker: Worker) -> None:
    recorded: list[str] = []
    with open_source([study]) as source:
        cases = by_series(source, "mean")
        first, again = (
            store_cases(
                store, worker.loaded, worker.run, cases.cases, "mean", record=lambda case, _: recorded.append(case)
            )
            for _ in range(2)
        )
    assert (first.new, first.before, len(first.refused)) == (2, 0, 1)
    assert (again.new, again.before) == (0, 2)
    assert len(recorded) == 2 + 2  # nobody looks at a photograph without a study twice in vain
    assert "The results of 2 cases are stored in the archive. 1 case has none" in first.sentence
    results = [tags for tags in archive.instances() if tags["Manufacturer"] == "shpeft"]
    counts = Counter(str(tags["SeriesDescription"]) for tags in results)
    assert set(counts.values()) == {2}
    assert archive.stored == 2
    assert all(b"DOE" not in path.read_bytes() for path in store.folder.iterdir())
    assert not [path for path in store.folder.iterdir() if "2.25" in path.name or path.suffix == ".lock"]


def test_two_clicks_at_once_store_once(archive: DicomWeb, store: ResultStore, worker: Worker) -> None:
    made, both = list[DicomResults](), threading.Barrier(2)

    def make() -> DicomResults:
        made.append(diagnose_dicom(worker.loaded, worker.run, slice_of())[1])
        return made[-1]

    def click(_: int) -> bool:
        both.wait()
        return store.store(worker.run, "case-1", make)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(click, range(2))) == [False, True]
    assert (len(made), archive.stored) == (1, 1)
    assert store.has(worker.run, "case-1")
    assert not store.has(worker.run, "case-2")


def test_what_is_refused_is_not_remembered(archive: DicomWeb, store: ResultStore, worker: Worker) -> None:
    results = diagnose_dicom(worker.loaded, worker.run, slice_of())[1]
    archive.refusing = True
    with pytest.raises(ArchiveError, match="refused"):
        store.store(worker.run, "case-1", lambda: results)
    assert not store.has(worker.run, "case-1")
    archive.refusing = False
    assert store.store(worker.run, "case-1", lambda: results)


def test_an_orthanc_takes_results_on_request(
    tmp_path: Path, study: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHPEFT_ARCHIVE_USER", orthanc.USER)
    monkeypatch.setenv("SHPEFT_ARCHIVE_PASSWORD", orthanc.PASSWORD)
    with orthanc.running(tmp_path) as archive, open_source([study]) as source:
        store = ResultStore(Archive(archive.url), tmp_path / "stored")
        cases = by_series(source).cases
        assert store_cases(store, worker.loaded, worker.run, cases).new == 2
        assert store_cases(store, worker.loaded, worker.run, cases).before == 2
        assert {tags["Modality"] for tags in archive.instances()} >= {"SR", "PR"}


def test_without_an_address_there_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert configured_store() is None
    monkeypatch.setenv(VARIABLE, "http://archive.example/dicom-web")
    with pytest.raises(ConfigError, match="encrypted alone"):
        configured_store()


def test_the_app_does_not_begin_with_an_address_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    leaking = "http://archive.example/dicom-web"
    assert "encrypted alone" in shpeft("ui", "--archive", leaking, code=2).stderr
    monkeypatch.setenv(VARIABLE, leaking)
    assert "encrypted alone" in shpeft("ui", code=2).stderr


def test_sentences() -> None:
    assert Stored(before=3).sentence == "Those of 3 cases were stored before."
    refused = Stored(new=1, refused=("Not DICOM.", "Not DICOM."))
    assert refused.sentence == "The results of 1 case are stored in the archive. 2 cases have none: Not DICOM."
