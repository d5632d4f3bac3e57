"""A watcher that is killed at any instant and started again stores each result of each study exactly once."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from shpeft.batch import open_source
from shpeft.batch.series import list_series
from shpeft.batch.series_rules import diagnose_series
from shpeft.evaluation import DecisionRules, ThresholdRule
from shpeft.pipeline import set_decision_rules
from shpeft.runs import RunFolder
from shpeft.service.archive import PASSWORD, USER
from shpeft.service.worker import Worker, series_results
from tests.helpers import dicomweb, orthanc
from tests.helpers.dicom_studies import slice_of
from tests.helpers.dicomweb import DicomWeb
from tests.helpers.orthanc import Orthanc
from tests.reliability.figures import record
from tests.reliability.processes import FULL, command

pytest.importorskip("dicomweb_client")

KILLS = 10 if FULL else 2

FIRST_CHANGE = 6
"""Change to files from which on the watcher, whose folders are made by then, works on a study."""

PATIENCE = 300.0
"""Seconds that a start of the program, and the answers to a few studies, may take."""

ENVIRONMENT = {
    USER: orthanc.USER,
    PASSWORD: orthanc.PASSWORD,
    "PLAYWRIGHT_BROWSERS_PATH": "/nowhere",
    "PATH": "/nowhere",
}
"""Without a browser there is no PDF, which would take most of the time."""


@pytest.fixture(params=["orthanc", "stand-in"])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc | DicomWeb]:
    with ExitStack() as stack:
        if request.param == "stand-in":
            yield stack.enter_context(dicomweb.running())
        else:
            yield stack.enter_context(orthanc.running(tmp_path_factory.mktemp("orthanc")))


def _unfinished(state: Path) -> list[Path]:
    """Return the files of what is not done."""
    return [path for path in state.rglob("*") if path.is_file() and path.parent.name != "done" and path.name != "lock"]


def ends(watcher: BaseProcess, state: Path, studies: int, delay: float | None, *, at_rest: bool = False) -> None:
    """Wait until a watcher has killed itself; kill it a delay after it began, or as soon as all studies are done.

    Args:
        at_rest: wait until it has cleared away what it is done with.
    """
    deadline, began = time.monotonic() + PATIENCE, None
    while watcher.is_alive():
        assert time.monotonic() < deadline, "the watcher goes on without an end"
        begun = (state / "tried").exists()
        began = time.monotonic() if begun and began is None else began
        late = delay is not None and began is not None and time.monotonic() - began > delay
        done = len(list((state / "done").glob("*.json"))) == studies
        if late or (done and not (at_rest and _unfinished(state))):
            assert watcher.pid is not None
            os.kill(watcher.pid, signal.SIGKILL)
            watcher.join(PATIENCE)
        time.sleep(0.01)
    watcher.join()
    assert watcher.exitcode == -signal.SIGKILL


@pytest.mark.timeout(3600)
def test_each_study_has_each_result_exactly_once(
    archive: Orthanc | DicomWeb, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_decision_rules(RunFolder.open(tiny_run), DecisionRules(ThresholdRule("exudates")))
    worker, expected = Worker(RunFolder.open(tiny_run), "cpu"), Counter[str]()
    monkeypatch.setattr("shpeft.reports.dicom.diagnose.unavailable_reason", lambda: "No browser.")
    state, rng = tmp_path / "state", random.Random(0)
    arguments = ["watch", str(tiny_run), archive.url, "--state", str(state), "--every", "0.2", "--device", "cpu"]
    for number in range(1, KILLS + 1):
        for position in range(2):
            tags: dict[str, Any] = {"StudyInstanceUID": f"2.25.70{number}", "SeriesInstanceUID": f"2.25.80{number}"}
            (tmp_path / f"{number}").mkdir(exist_ok=True)
            (tmp_path / f"{number}" / f"{position}.dcm").write_bytes(slice_of(10 * number + position, **tags))
            archive.add(slice_of(10 * number + position, **tags))
        with open_source([tmp_path / f"{number}"]) as source:
            (series,) = list_series(source).series
            answered = diagnose_series(worker.loaded, series)
            made = series_results(worker.loaded, worker.run, series, answered)
        expected[f"2.25.70{number}"] = len(made.files)
        at = FIRST_CHANGE + number if number % 2 else None
        watcher = command(arguments, tmp_path / "log", tmp_path, at, ENVIRONMENT)
        ends(watcher, state, number, None if at else rng.uniform(0.3, 3.0))
    watcher = command(arguments, tmp_path / "log", tmp_path, None, ENVIRONMENT)
    ends(watcher, state, KILLS, None, at_rest=True)
    results = [tags for tags in archive.instances() if tags.get("Manufacturer") == "shpeft"]
    counts = Counter((str(tags["StudyInstanceUID"]), str(tags["SeriesDescription"])) for tags in results)
    assert set(counts.values()) == {1}
    assert Counter(study for study, _ in counts) == expected
    assert not _unfinished(state)
    record("watch_kills", kills=KILLS, studies=KILLS, results=len(results))
