"""Store the results of a case in the archive that the app was given, once, however often somebody asks."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shpeft.batch import Entry, Series
from shpeft.batch.csv_rows import made_by
from shpeft.batch.series_rules import diagnose_series
from shpeft.config.schema import SeriesRule
from shpeft.diagnosis import case_id
from shpeft.errors import DiagnosisError, RunError, UnreadableImage
from shpeft.pipeline import LoadedRun
from shpeft.reports.dicom import DicomResults, diagnose_dicom
from shpeft.runs import RunFolder, runs_root
from shpeft.runs.audit import Record
from shpeft.service.archive import VARIABLE, Archive
from shpeft.service.worker import series_results
from shpeft.support.atomic_files import FileLock, write_atomic
from shpeft.support.progress import Progress, silent

FOLDER = ".stored"
"""The folder, beside the runs, that remembers by opaque ids what is stored."""

PATIENCE = 600.0
"""Seconds to wait for somebody else who stores the results of the same case."""


@dataclass(frozen=True)
class Stored:
    """What became of the results of some cases.

    Attributes:
        new: cases whose results were stored now.
        before: cases whose results the archive had already.
        refused: why others have none, a sentence each.
    """

    new: int = 0
    before: int = 0
    refused: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What became of them.

        Examples:
            >>> Stored(new=2, before=1).sentence
            'The results of 2 cases are stored in the archive. Those of 1 case were stored before.'
            >>> Stored(refused=("The file is not DICOM.",)).sentence
            'No results are stored. 1 case has none: The file is not DICOM.'
        """
        parts = [f"The results of {_cases(self.new)} are stored in the archive."] if self.new else []
        if self.before:
            parts.append(f"Those of {_cases(self.before)} were stored before.")
        if not parts:
            parts = ["No results are stored."]
        if self.refused:
            reasons = " ".join(dict.fromkeys(self.refused))
            parts.append(f"{_cases(len(self.refused))} {'has' if len(self.refused) == 1 else 'have'} none: {reasons}")
        return " ".join(parts)


class ResultStore:
    """Stores results in an archive, those of a case by a model once.

    Args:
        archive: the archive.
        folder: remembers what is stored; by default beside the runs.
    """

    def __init__(self, archive: Archive, folder: Path | None = None) -> None:
        self.archive, self.folder = archive, folder or runs_root() / FOLDER

    def has(self, run: RunFolder, case: str) -> bool:
        """Return whether the results of a case by a run's model, with its present rules, are stored."""
        return self._mark(run, case).exists()

    def store(self, run: RunFolder, case: str, make: Callable[[], DicomResults]) -> bool:
        """Store the results of a case; return False, without making any, if they are stored already.

        Args:
            run: the run whose model made them.
            case: the opaque id of the case.
            make: makes the results.

        Raises:
            ArchiveError: the archive cannot be reached, or refuses. Nothing is remembered then.
            RunError: the folder of runs cannot be written, or somebody else stores these results.
        """
        mark = self._mark(run, case)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(mark.with_suffix(".lock"))
            if not lock.acquire(PATIENCE):
                raise RunError("The results of this case are being stored by somebody else. Try again later.")
            try:
                if mark.exists():
                    return False
                self.archive.store(list(make().files.values()))
                write_atomic(mark, time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
            finally:
                lock.path.unlink(missing_ok=True)
                lock.release()
        except OSError as error:
            raise RunError(f"The folder of runs cannot be written: {error.strerror}.") from None
        return True

    def _mark(self, run: RunFolder, case: str) -> Path:
        """Return the file that says that the results of a case are stored."""
        model = hashlib.sha256(run.delta_path.read_bytes()).hexdigest()
        parts = (self.archive.url, model, repr(run.reliability.read()), case)
        digest = hashlib.sha256("\n".join(parts).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.txt"


def configured_store() -> ResultStore | None:
    """Return the store of the archive that the app was given; None if it was given none.

    Raises:
        ConfigError: the address is none, or would send images unencrypted to another computer.
        MissingExtra: dicomweb-client is not installed.
    """
    address = os.environ.get(VARIABLE, "")
    return ResultStore(Archive(address)) if address else None


def store_cases(
    store: ResultStore,
    loaded: LoadedRun,
    run: RunFolder,
    cases: Sequence[Entry | Series],
    rule: SeriesRule | None = None,
    *,
    findings: dict[str, str] | None = None,
    progress: Progress = silent,
    record: Record | None = None,
) -> Stored:
    """Diagnose the cases of a list whose results are not stored yet, and store them, each case by itself.

    Args:
        store: where to.
        loaded: the model.
        run: its run folder.
        cases: images and series.
        rule: how a series is answered.
        findings: the reader's findings, by case.
        progress: the progress callback; an exception in it ends the work between two steps of a case.
        record: called with each case and its model before the case is diagnosed.

    Raises:
        ArchiveError: the archive cannot be reached, or refuses; what is stored by then stays, and is not stored again.
    """
    stored = Stored()
    for number, case in enumerate(cases):

        def report(stage: str, *_: object, number: int = number) -> None:
            progress(stage, number, len(cases))

        report("storing results")
        try:
            data = case.read() if isinstance(case, Entry) else b""
            identity = case_id(data) if isinstance(case, Entry) else case.id
            note = (findings or {}).get(identity, "")

            def make(
                case: Entry | Series = case, data: bytes = data, identity: str = identity, note: str = note
            ) -> DicomResults:
                if record is not None:
                    record(identity, made_by(loaded, rule=rule))
                if isinstance(case, Entry):
                    return diagnose_dicom(loaded, run, data, finding=note, progress=report)[1]
                answered = diagnose_series(loaded, case, rule or "highest-risk", progress=report)
                return series_results(loaded, run, case, answered, finding=note, progress=report)

            if store.store(run, identity, make):
                stored = replace(stored, new=stored.new + 1)
            else:
                stored = replace(stored, before=stored.before + 1)
        except (DiagnosisError, UnreadableImage) as error:
            stored = replace(stored, refused=(*stored.refused, str(error)))
    progress("storing results", len(cases), len(cases))
    return stored


def _cases(count: int) -> str:
    return f"{count:,} case{'s' * (count != 1)}"
