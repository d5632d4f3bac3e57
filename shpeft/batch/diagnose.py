"""The work of a batch: a row a file, appended as it is made, so that what is interrupted can be gone on with."""

import csv
import errno
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from shpeft.batch import rows
from shpeft.batch.sources import Entry, Source
from shpeft.diagnosis import diagnose
from shpeft.errors import DiagnosisError, ShpeftError, UnreadableImage
from shpeft.files import FileLock
from shpeft.pipeline import LoadedRun
from shpeft.progress import Progress, silent

SYNC = 1.0
"""Seconds after which rows are made to survive a power cut. A process that is killed loses none."""


@dataclass(frozen=True)
class BatchResult:
    """How a batch ended. Names are for whoever gave the files: nothing here is written anywhere.

    Attributes:
        unreadable: (name, reason) of each file that gave no diagnosis.
        names: (id, name) of every file.
        others: how many files are no images.
    """

    unreadable: tuple[tuple[str, str], ...]
    names: tuple[tuple[str, str], ...]
    others: int


def diagnose_batch(run: LoadedRun, source: Source, out: str | Path, *, progress: Progress = silent) -> BatchResult:
    """Diagnose every image and write a CSV with a row a file, in the source's order.

    An unfinished CSV is gone on with, and in the end has the same bytes as one that was never interrupted: images pass
    the model one by one, and before it goes on the rows that are there are compared with the files by content.

    Args:
        out: the CSV; rows are appended, each by one write.
        progress: raising in it stops the work between two images; the rows until then stay.

    Raises:
        DiagnosisError: the CSV holds something else, or was begun with other files or by another model.
        MissingExtra: what reads DICOM files is not installed.
        ShpeftError: the CSV cannot be written.
    """
    out, header, made_by = Path(out), rows.line(rows.header(run.backbone.classes)), rows.made_by(run)
    unreadable, names = list[tuple[str, str]](), list[tuple[str, str]]()

    def note(entry: Entry, row: Sequence[object]) -> None:
        names.append((str(row[0]), entry.name))
        if reason := str(row[-3]):
            unreadable.append((entry.name, reason))

    with _appending(out, header) as (file, done):
        if len(done) > len(source.entries):
            raise DiagnosisError(_other_files(len(done), len(source.entries)))
        for number, (entry, row) in enumerate(zip(source.entries, done, strict=False)):
            progress("comparing with what is there", number, len(done))
            _check_row(row, _read(entry)[0], made_by, number)
            note(entry, row)
        total, synced = len(source.entries), time.monotonic()
        for number, entry in enumerate(source.entries[len(done) :], start=len(done)):

            def here(*_: object, number: int = number) -> None:
                progress("diagnosing", number, total)

            made = _row(run, entry, made_by, here)
            _append(file, rows.line(made))
            note(entry, made)
            if time.monotonic() - synced > SYNC:
                os.fsync(file)
                synced = time.monotonic()
        progress("diagnosing", total, total)
    return BatchResult(tuple(unreadable), tuple(names), source.others)


def names_csv(result: BatchResult) -> str:
    """Which id is which file: the list that leads back to patients, so it is only made when it is asked for.

    Names begin with ``./``, lest a spreadsheet take one for a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "file"])
    writer.writerows((case, name if name.startswith("/") else f"./{name}") for case, name in result.names)
    return out.getvalue()


def _row(run: LoadedRun, entry: Entry, made_by: str, progress: Progress) -> list[object]:
    progress("", 0, 0)
    data, reason = _read(entry)
    if data is not None:
        try:
            found = diagnose(
                run.backbone, data, decoding=run.decoding, trust=run.trust, novelty=run.novelty, progress=progress
            )
            return rows.judged(data, found, made_by)
        except (UnreadableImage, DiagnosisError) as error:
            reason = str(error).replace("the uploaded file", "The file")
    return rows.unreadable(data, reason, run.backbone.classes, made_by)


def _read(entry: Entry) -> tuple[bytes | None, str]:
    """The file's bytes, or why there are none."""
    try:
        return entry.read(), ""
    except UnreadableImage as error:
        return None, str(error)


def _check_row(row: Sequence[str], data: bytes | None, made_by: str, number: int) -> None:
    if row[-2] != made_by:
        raise DiagnosisError(
            "The CSV was begun by another model, with other settings, or by other versions of the libraries, so it is "
            "not gone on with. Choose another place, or delete it."
        )
    if row[0] != ("" if data is None else rows.case_id(data)):
        raise DiagnosisError(
            f"Row {number + 1} of the CSV is of another file than the one that stands there now. Give the files that "
            "it was begun with, or choose another place."
        )


def _other_files(done: int, given: int) -> str:
    return (
        f"The CSV has {done:,} rows and {given:,} images were given. Give the files that it was begun with, or choose "
        "another place."
    )


def _whole_rows(out: Path, header: bytes) -> tuple[int, list[list[str]]]:
    """The bytes of the header and of the whole rows that are there, and these rows. A process may die within a row."""
    data = out.read_bytes() if out.exists() else b""
    if not header.startswith(data[: len(header)]):
        raise DiagnosisError("The CSV to write is there and holds something else. Choose another place.")
    kept = data[: data.rfind(b"\n") + 1]
    return len(kept), list(csv.reader(io.StringIO(kept[len(header) :].decode(), newline="")))


def _append(file: FileIO, line: bytes) -> None:
    """One row by one write."""
    if file.write(line) != len(line):  # what was written of it is cut off when the batch is gone on with
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _appending(out: Path, header: bytes) -> Iterator[tuple[FileIO, list[list[str]]]]:
    """The CSV, open to be appended to and no one else's meanwhile, and the rows that it has."""
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        if not lock.acquire():
            raise DiagnosisError("The CSV is being written by another process. Wait for its end, or choose a place.")
        size, done = _whole_rows(out, header)
        with open(out, "ab", buffering=0) as file:
            file.truncate(size)
            if not size:
                _append(file, header)
            yield file, done
            os.fsync(file)
    except OSError as error:
        raise ShpeftError(
            f"The CSV cannot be written: {error.strerror or 'the system refuses it'}. Make room, or choose another "
            "place, and start again: it goes on where it stopped."
        ) from None
    finally:
        if lock.held:
            lock.path.unlink(missing_ok=True)
            lock.release()
