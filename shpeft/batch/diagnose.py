"""Diagnose a batch: append a row per case, so that an interrupted batch can be resumed."""

import csv
import errno
import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import FileIO
from itertools import pairwise
from pathlib import Path

from PIL import Image

from shpeft.batch import csv_rows
from shpeft.batch.inputs import Entry, Source
from shpeft.batch.series import Series, SeriesSource
from shpeft.batch.series_rules import check_rule, diagnose_series
from shpeft.config.schema import SeriesRule
from shpeft.diagnosis import Diagnosis, case_id, diagnose_together
from shpeft.errors import DiagnosisError, ShpeftError, UnreadableImage
from shpeft.images import open_image
from shpeft.images.burnt_in import BurntIn
from shpeft.pipeline import LoadedRun
from shpeft.runs.audit import Record
from shpeft.support.atomic_files import FileLock
from shpeft.support.progress import Progress, silent

SYNC = 1.0
"""Seconds between syncs to disk, which make rows survive a power cut. A killed process loses none."""

READERS = 8
"""Threads that read and decode the next images."""

CHECK = 0.2
"""Seconds after which a batch that waits for a file looks whether it was stopped."""


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch. File names stay in memory: nothing here is written to disk.

    Attributes:
        unreadable: (name, reason) of each file that could not be diagnosed.
        names: (id, name) of every file.
        others: number of files that are not images.
    """

    unreadable: tuple[tuple[str, str], ...]
    names: tuple[tuple[str, str], ...]
    others: int


def diagnose_batch(
    run: LoadedRun,
    source: Source | SeriesSource,
    out: str | Path,
    *,
    batch_size: int = 1,
    progress: Progress = silent,
    record: Record | None = None,
) -> BatchResult:
    """Diagnose every image and write a CSV with a row per case, in the source's order.

    An unfinished CSV is resumed and ends with the same bytes as an uninterrupted one: the images that pass the model
    together depend on their numbers alone, and the existing rows are first compared with the files by content.

    Args:
        run: the loaded run.
        source: the images; as :func:`shpeft.batch.by_series` returns them, the files of a series are one case.
        out: the CSV; rows are appended, each by one write.
        batch_size: images that pass the model together. It decides the last bits of a row, so ``made_by`` names it; 1
            gives the bits of a single diagnosis.
        progress: the progress callback; an exception in it stops the batch between two images and keeps the rows.
        record: called with each case and its model before its row is written; an exception in it stops the batch.

    Raises:
        ConfigError: the model cannot answer series by the source's rule.
        DiagnosisError: the CSV holds something else, or belongs to other files or another model.
        MissingExtra: the DICOM reader is not installed.
        ShpeftError: the CSV cannot be written.
    """
    rule, unreadable = (source.rule, list(source.left_out)) if isinstance(source, SeriesSource) else (None, [])
    if rule is not None:
        check_rule(run, rule)
    out, made_by, names = Path(out), csv_rows.made_by(run, batch_size, rule), list[tuple[str, str]]()
    header = csv_rows.line(csv_rows.header(run.backbone.classes, run.backbone.task, rule))

    def note(case: Entry | Series, row: Sequence[object]) -> None:
        files = [case] if isinstance(case, Entry) else case.entries
        names.extend((str(row[0]), file.name) for file in files)
        if reason := str(row[-3]):
            unreadable.append((files[0].name, reason))

    with _appending(out, header) as (file, done):
        if len(done) > len(source.cases):
            raise DiagnosisError(_other_files(len(done), len(source.cases)))
        for number, (case, row) in enumerate(zip(source.cases, done, strict=False)):
            progress("comparing with what is there", number, len(done))
            _check_row(row, _identity(case), made_by, number)
            note(case, row)
        total, synced = len(source.cases), time.monotonic()
        progress("diagnosing", len(done), total)
        for number, made in _rows(run, source.cases, rule, len(done), batch_size, made_by, progress):
            if record is not None and not made[-3]:
                record(str(made[0]), made_by)
            _append(file, csv_rows.line(made))
            note(source.cases[number], made)
            if time.monotonic() - synced > SYNC:
                os.fsync(file)
                synced = time.monotonic()
            progress("diagnosing", number + 1, total)
    return BatchResult(tuple(unreadable), tuple(names), source.others)


def names_csv(result: BatchResult) -> str:
    """Return a CSV that maps ids to file names. It can identify patients, so it is made on request only.

    Names begin with ``./``, so that no spreadsheet reads one as a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "file"])
    writer.writerows((case, name if name.startswith("/") else f"./{name}") for case, name in result.names)
    return out.getvalue()


@dataclass(frozen=True)
class _File:
    """A file in memory: its bytes, and the image in it or the reason why there is none."""

    data: bytes | None = None
    image: Image.Image | None = None
    reason: str = ""
    burnt_in: BurntIn | None = None


def _rows(
    run: LoadedRun,
    cases: Sequence[Entry | Series],
    rule: SeriesRule | None,
    first: int,
    batch_size: int,
    made_by: str,
    progress: Progress,
) -> Iterator[tuple[int, list[object]]]:
    """Yield the number and the row of each case from ``first`` on; the next batch is read while the model works.

    Args:
        progress: called at least every :data:`CHECK` seconds, also while a file takes long.
    """
    batches = [range(at, at + batch_size) for at in range(first - first % batch_size, len(cases), batch_size)]
    pool = ThreadPoolExecutor(min(READERS, batch_size), "shpeft-read")

    def read(batch: Iterable[int]) -> list[Future[_File]]:
        return [pool.submit(_open, cases[number] if number < len(cases) else None, run) for number in batch]

    try:
        ahead = read(batches[0] if batches else ())
        for batch, following in pairwise([*batches, range(0)]):
            while wait(ahead, CHECK).not_done:
                progress("diagnosing", max(first, batch[0]), len(cases))
            files = [future.result() for future in ahead]
            ahead = read(following)
            judged = diagnose_together(
                run.backbone,
                [file.image for file in files],
                reliability=run.reliability,
                ood_detector=run.ood_detector,
            )
            for number, file, diagnosis in zip(batch, files, judged, strict=True):
                if not first <= number < len(cases):
                    continue
                case = cases[number]
                if isinstance(case, Series) and rule is not None:
                    stage = partial(_slice_progress, progress, number, len(cases))
                    yield number, _series_row(run, case, rule, made_by, stage)
                else:
                    yield number, _row(run, file, diagnosis, made_by, rule)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _open(case: Entry | Series | None, run: LoadedRun) -> _File:
    """Read a file; behind the last case there is none, and a series is read a slice at a time."""
    if not isinstance(case, Entry):
        return _File()
    data, reason = _read(case)
    if data is None:
        return _File(reason=reason)
    try:
        image = open_image(data, run.decoding)
        return _File(data, image, burnt_in=BurntIn.of_image(image))
    except UnreadableImage as error:
        return _File(data, reason=str(error).replace("the uploaded file", "The file"))


def _row(
    run: LoadedRun,
    file: _File,
    diagnosis: Diagnosis | DiagnosisError | None,
    made_by: str,
    rule: SeriesRule | None,
) -> list[object]:
    if isinstance(diagnosis, Diagnosis) and file.data is not None:
        diagnosis = replace(diagnosis, burnt_in=file.burnt_in)
        row = csv_rows.judged(file.data, diagnosis, made_by, csv_rows.urgent_finding(run))
        return row if rule is None else csv_rows.with_slices(row, None)
    reason = file.reason if diagnosis is None else str(diagnosis)
    identity = "" if file.data is None else case_id(file.data)
    return csv_rows.unreadable(identity, reason, run.backbone.classes, made_by, run.backbone.task, rule)


def _series_row(run: LoadedRun, series: Series, rule: SeriesRule, made_by: str, progress: Progress) -> list[object]:
    """Return the row of a series; its id is the series'."""
    try:
        answered = diagnose_series(run, series, rule, progress=progress)
    except (UnreadableImage, DiagnosisError) as error:
        return csv_rows.unreadable(series.id, str(error), run.backbone.classes, made_by, run.backbone.task, rule)
    row = csv_rows.judged(b"", answered.diagnosis, made_by, csv_rows.urgent_finding(run))
    return csv_rows.with_slices([series.id, *row[1:]], answered)


def _slice_progress(progress: Progress, number: int, total: int, _: str, at: int, slices: int) -> None:
    """Report the slice of a series in the words of the batch's progress."""
    progress(f"diagnosing slice {min(at + 1, slices):,} of {slices:,}", number, total)


def _identity(case: Entry | Series) -> str:
    """Return the id of a case; empty for a file that cannot be read."""
    if isinstance(case, Series):
        return case.id
    data, _ = _read(case)
    return "" if data is None else case_id(data)


def _read(entry: Entry) -> tuple[bytes | None, str]:
    """Return the file's bytes, or the reason why it cannot be read."""
    try:
        return entry.read(), ""
    except UnreadableImage as error:
        return None, str(error)


def _check_row(row: Sequence[str], identity: str, made_by: str, number: int) -> None:
    if row[-2] != made_by:
        raise DiagnosisError(
            "The CSV was written by another model, with other settings or other library versions, so it cannot be "
            "resumed. Choose another path, or delete the CSV."
        )
    if row[0] != identity:
        raise DiagnosisError(
            f"Row {number + 1} of the CSV belongs to a file that is not number {number + 1} of the files given. Give "
            "the same files as before, or choose another path."
        )


def _other_files(done: int, given: int) -> str:
    images = "1 image was" if given == 1 else f"{given:,} images were"
    return f"The CSV has {done:,} rows, but {images} given. Give the same files as before, or choose another path."


def _whole_rows(out: Path, header: bytes) -> tuple[int, list[list[str]]]:
    """Return the number of bytes of header and whole rows, and these rows; a killed process may leave part of one."""
    data = out.read_bytes() if out.exists() else b""
    if not header.startswith(data[: len(header)]):
        raise DiagnosisError(
            "The file exists and is not the CSV of a batch, or is one of an older version. Choose another path."
        )
    whole = data[: data.rfind(b"\n") + 1]
    return len(whole), list(csv.reader(io.StringIO(whole[len(header) :].decode(), newline="")))


def _append(file: FileIO, line: bytes) -> None:
    """Append one row by one write."""
    if file.write(line) != len(line):  # a partial row is cut off when the batch is resumed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _appending(out: Path, header: bytes) -> Iterator[tuple[FileIO, list[list[str]]]]:
    """Open the CSV for appending, under a lock; yields the file and its rows."""
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        if not lock.acquire():
            raise DiagnosisError("The CSV is being written by another process. Wait, or choose another path.")
        size, done = _whole_rows(out, header)
        with open(out, "ab", buffering=0) as file:
            file.truncate(size)
            if not size:
                _append(file, header)
            yield file, done
            os.fsync(file)
    except OSError as error:
        raise ShpeftError(
            f"The CSV cannot be written: {error.strerror or 'the system refuses it'}. Free some space, or choose "
            "another path; the same command resumes after the last row."
        ) from None
    finally:
        if lock.held:
            lock.path.unlink(missing_ok=True)
            lock.release()
