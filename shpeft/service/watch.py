"""Answer each new series of an archive once: fetched, diagnosed, and its results stored beside it.

What is done is kept in a folder, so that a killed watcher continues where it was. The results of a series are written
before they are stored; a watcher that is killed while it stores them sends the same objects again, which the archive
already has.
"""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shpeft.batch import open_source
from shpeft.batch.series import list_series
from shpeft.batch.series_rules import diagnose_series
from shpeft.config.schema import SeriesRule
from shpeft.errors import ShpeftError
from shpeft.service.archive import Archive, ArchivedSeries, ArchiveError
from shpeft.service.worker import Worker, series_results
from shpeft.support.atomic_files import FileLock, is_leftover, write_atomic
from shpeft.support.bounded_files import parse_json, read_regular_file
from shpeft.support.limits import DOCUMENT_BYTES, RUN_FILE_BYTES

NO_IMAGES = ("SR", "PR", "DOC", "KO", "SEG", "REG", "OT", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "ECG", "AU")
"""Modalities of series that hold no scans: reports, documents, and results such as the watcher's own."""

ATTEMPTS = 3
"""How often a series is tried before it is laid aside as a dead letter."""

READY, DONE, DEAD, TRIED = "ready", "done", "dead", "tried"


@dataclass(frozen=True)
class Event:
    """What happened to a series, under an opaque id."""

    id: str
    kind: str
    sentence: str = ""


class Watcher:
    """Answers new series of an archive.

    Args:
        archive: the archive.
        worker: the model.
        folder: remembers what is done; one watcher at a time uses it.
        rule: how a series is answered.

    Raises:
        ShpeftError: another watcher uses the folder.
    """

    def __init__(self, archive: Archive, worker: Worker, folder: Path, rule: SeriesRule) -> None:
        self.archive, self.worker, self.folder, self.rule = archive, worker, folder, rule
        for name in (READY, DONE, DEAD, TRIED):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "lock")
        if not self.lock.acquire():
            raise ShpeftError(f"Another watcher uses the folder {folder}. Stop it, or choose another folder.")
        for path in folder.rglob(".*"):  # of a watcher that was killed while it wrote; it may hold parts of results
            if is_leftover(path.name):
                path.unlink()
        self.counts: dict[str, int] = {}

    def close(self) -> None:
        """Let another watcher use the folder."""
        self.lock.release()

    def look(self) -> Iterator[Event]:
        """Look once for series that are not answered yet, and answer those that no longer grow; yield what happened.

        Raises:
            ArchiveError: the archive cannot be reached; the next look continues.
        """
        for path in sorted((self.folder / READY).iterdir()):  # of a watcher that was killed
            if path.suffix != ".zip":
                continue
            try:
                yield self._store(path.stem)
            except ArchiveError as error:  # it waits for the next look, and does not hold up the others
                yield Event(path.stem, "waiting", str(error))
        for series in list(self.archive.series()):
            name = opaque(series)
            if series.modality in NO_IMAGES or self._is_over(name) or (self.folder / READY / f"{name}.zip").exists():
                continue
            before = self.counts.get(name)
            self.counts[name] = series.instances
            if before == series.instances:  # complete: it has not grown since the last look
                yield self._answer(series, name)

    def run(self, seconds: float, stop: Callable[[], bool], report: Callable[[Event], None]) -> None:
        """Look again and again, with a pause in between, until ``stop`` says so."""
        while not stop():
            try:
                for event in self.look():
                    report(event)
            except ArchiveError as error:
                report(Event("archive", "waiting", str(error)))
            waited = 0.0
            while waited < seconds and not stop():
                time.sleep(min(0.2, seconds))
                waited += 0.2

    def _is_over(self, name: str) -> bool:
        return (self.folder / DONE / f"{name}.json").exists() or (self.folder / DEAD / f"{name}.json").exists()

    def _answer(self, series: ArchivedSeries, name: str) -> Event:
        """Diagnose a series and store its results; one that cannot be answered becomes a dead letter."""
        files = self.archive.fetch(series)
        try:
            results, answer = self._diagnosed(files)
        except ArchiveError:
            raise
        except ShpeftError as error:
            return self._failed(name, str(error))
        except Exception as error:  # a defect must not stop the others; its message may quote the file
            return self._failed(name, f"shpeft failed ({type(error).__name__}).")
        write_atomic(self.folder / READY / f"{name}.json", json.dumps(answer))
        write_atomic(self.folder / READY / f"{name}.zip", results)
        return self._store(name)

    def _diagnosed(self, files: list[bytes]) -> tuple[bytes, dict[str, Any]]:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for number, data in enumerate(files):
                archive.writestr(f"{number:06}.dcm", data)
        with open_source([buffer.getvalue()]) as source:
            (series,) = list_series(source).series
            answered = diagnose_series(self.worker.loaded, series, self.rule)
            made = series_results(self.worker.loaded, self.worker.run, series, answered)
        diagnosis = answered.diagnosis
        burnt_in = None if diagnosis.burnt_in is None else diagnosis.burnt_in.to_dict()
        note = {
            "answer": diagnosis.answer.headline,
            "cautions": list(diagnosis.cautions),
            "burnt_in": burnt_in,
            "omitted": list(made.omitted),
        }
        return made.as_zip(), note

    def _store(self, name: str) -> Event:
        """Store the results that lie ready, and remember that they are stored."""
        ready = self.folder / READY / f"{name}.zip"
        with zipfile.ZipFile(io.BytesIO(read_regular_file(ready, RUN_FILE_BYTES))) as archive:
            files = [archive.read(each) for each in archive.namelist() if each.endswith(".dcm")]
        self.archive.store(files)
        note = self.folder / READY / f"{name}.json"
        write_atomic(self.folder / DONE / f"{name}.json", note.read_bytes() if note.exists() else b"{}")
        ready.unlink()
        note.unlink(missing_ok=True)
        (self.folder / TRIED / f"{name}.json").unlink(missing_ok=True)
        return Event(name, "stored")

    def _failed(self, name: str, reason: str) -> Event:
        """Count a failure; after the last attempt, lay the series aside with the reason."""
        path = self.folder / TRIED / f"{name}.json"
        tried = 1 + (int(parse_json(read_regular_file(path, DOCUMENT_BYTES))["tried"]) if path.exists() else 0)
        if tried < ATTEMPTS:
            write_atomic(path, json.dumps({"tried": tried, "reason": reason}))
            return Event(name, "failed", reason)
        write_atomic(self.folder / DEAD / f"{name}.json", json.dumps({"tried": tried, "reason": reason}))
        path.unlink(missing_ok=True)
        return Event(name, "dead", reason)


def opaque(series: ArchivedSeries) -> str:
    """Return an id of a series that reveals none of its UIDs.

    Examples:
        >>> opaque(ArchivedSeries("1.2", "1.2.3", "CT", 3))
        '5e3b3f62503fb97c'
    """
    return hashlib.sha256(f"{series.study}/{series.series}".encode()).hexdigest()[:16]
