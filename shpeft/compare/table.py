"""The table of a comparison on disk: a line for each finished cell and trial, and each cell's test probabilities.

Several processes may fill one table. Lines are appended under a lock, probabilities are written to one file a cell, and
a process claims a cell before it works on it. A claim is a lock of the operating system, so a killed process holds
none. Once the table is complete, :meth:`Table.pack` moves the probabilities into one archive.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from shpeft.compare.predictions import Archive, Arrays, decode_cell, encode_archive, encode_cell, from_arrays, to_arrays
from shpeft.errors import RunError
from shpeft.evaluation.predict import Predictions
from shpeft.support.atomic_files import FileLock, write_atomic

Record = dict[str, Any]

PLAN, CELLS, TRIALS, ARCHIVE = "plan.yaml", "cells.jsonl", "trials.jsonl", "predictions.npz"

VALIDATION = "-validation"
"""What the name of a file with validation probabilities has after the cell's key."""

SHIFT = "-shift-"
"""What the name of a file with probabilities under shift has between the cell's key and the shift's number."""

LOCK_SECONDS = 60
"""How long to wait for another process that appends a line or packs."""


def is_table(folder: str | Path) -> bool:
    """Return whether a folder holds a table of `shpeft compare`."""
    return all((Path(folder) / name).is_file() for name in (PLAN, CELLS))


def tables(folder: str | Path) -> list[Path]:
    """List the tables in the subfolders of a folder, the largest first; none where there is no such folder."""
    paths = [path for path in Path(folder).glob("*") if is_table(path)]
    return sorted(paths, key=lambda path: (-(path / CELLS).stat().st_size, path.name))


class Table:
    """A folder with ``cells.jsonl``, ``trials.jsonl`` and ``predictions.npz`` or, while it fills, ``predictions/``.

    Args:
        folder: the folder.
        make: whether to create the folder; False to read a table without changing anything.
    """

    def __init__(self, folder: str | Path, *, make: bool = True):
        self.folder = Path(folder)
        self._archive: tuple[object, Archive] | None = None
        for part in ("predictions", "cache", "locks") if make else ():
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    @classmethod
    def existing(cls, folder: str | Path) -> "Table":
        """Open a table for reading.

        Raises:
            RunError: the folder holds no table.
        """
        if not is_table(folder):
            raise RunError(
                f"The folder {Path(folder).name!r} is not a table of a comparison: {PLAN} or {CELLS} is missing. "
                "Choose a folder that 'shpeft compare' has written to, such as results/compare."
            )
        return cls(folder, make=False)

    def cells(self) -> dict[str, Record]:
        """Read the finished cells, by key."""
        return self._read(CELLS)

    def trials(self) -> dict[str, Record]:
        """Read the finished trials, by key."""
        return self._read(TRIALS)

    def add_trial(self, record: Record) -> None:
        """Append a finished trial."""
        self._append(TRIALS, record)

    def add_cell(
        self,
        record: Record,
        predictions: Predictions | None,
        validation: Predictions | None = None,
        shifted: Iterable[Predictions] = (),
    ) -> None:
        """Append a finished cell, after its probabilities are safely on the disk.

        Args:
            record: its line.
            predictions, validation: of the test and of the validation images.
            shifted: of the further test sets, in the order of the record's ``shifts``.
        """
        for number, of_shift in enumerate(shifted):
            self._write_arrays(f"{record['key']}{SHIFT}{number}", to_arrays(of_shift))
        if validation is not None:
            self._write_arrays(record["key"] + VALIDATION, to_arrays(validation))
        if predictions is not None:
            self._write_arrays(record["key"], to_arrays(predictions))
        self._append(CELLS, record)

    def copy_cells(self, source: "Table", keys: Iterable[str]) -> None:
        """Copy cells that another table has finished and this one has not."""
        theirs, ours = source.cells(), self.cells()
        for key in keys:
            if key in theirs and key not in ours:
                if theirs[key]["status"] == "finished":  # a cell whose trainings all diverged has no probabilities
                    self._write_arrays(key, source.arrays(key))
                    if source.has_validation(key):
                        self._write_arrays(key + VALIDATION, source.arrays(key + VALIDATION))
                    for name in _shift_names(theirs[key]):
                        self._write_arrays(name, source.arrays(name))
                self._append(CELLS, theirs[key])

    def predictions(self, key: str) -> Predictions:
        """Read the test probabilities of a finished cell; case numbers and groups are opaque.

        Raises:
            RunError: they are missing or damaged.
        """
        return from_arrays(self.arrays(key))

    def has_validation(self, key: str) -> bool:
        """Return whether a finished cell has its validation probabilities; cells of earlier versions lack them."""
        name = key + VALIDATION
        return self._cell_path(name).exists() or (
            (self.folder / ARCHIVE).exists() and name in self._open_archive().keys
        )

    def validation(self, key: str) -> Predictions:
        """Read the validation probabilities of a finished cell, as ``predictions``."""
        return self.predictions(key + VALIDATION)

    def shifted(self, record: Record, name: str) -> Predictions:
        """Read the probabilities of a finished cell on one of its further test sets, as ``predictions``."""
        return self.predictions(_shift_names(record)[list(record["shifts"]).index(name)])

    def arrays(self, key: str) -> Arrays:
        """Read the same as arrays, from the cell's own file or from the archive.

        Raises:
            RunError: they are missing or damaged.
        """
        path = self._cell_path(key)
        try:
            try:
                return decode_cell(path.read_bytes())
            except FileNotFoundError:  # the archive is written before cells' own files are removed
                return self._open_archive().arrays(key)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise RunError(
                f"The test probabilities of the finished cell {key} cannot be read ({error}). Remove its line from "
                f"{CELLS} and run the comparison again."
            ) from None

    def pack(self) -> int:
        """Move the probabilities of finished cells from their own files into ``predictions.npz``.

        Safe while other processes read or fill the table: the archive is replaced atomically before the files are
        removed, and a file whose cell has no line yet stays.

        Returns:
            How many cells were moved.

        Raises:
            RunError: a file is damaged; nothing is removed then.
        """
        with self._locked(ARCHIVE):
            cells = self.cells()
            finished = {name for k, r in cells.items() for name in (k, k + VALIDATION, *_shift_names(r))}
            paths = sorted(path for path in self._cell_path("x").parent.glob("*.npz") if path.stem in finished)
            if not paths:
                return 0
            packed = self._open_archive().keys if (self.folder / ARCHIVE).exists() else frozenset[str]()
            keys = (packed & finished) | {path.stem for path in paths}
            write_atomic(self.folder / ARCHIVE, encode_archive({key: self.arrays(key) for key in keys}))
            for path in paths:
                path.unlink()
        return sum(path.stem in cells for path in paths)

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Claim a cell within a ``with`` block; yields whether this process alone may work on it."""
        lock = FileLock(self.folder / "locks" / key)
        claimed = lock.acquire(patience=0)
        try:
            yield claimed
        finally:
            lock.release()

    def cached(self, name: str) -> Path:
        """Return the path of a cached file, which may be missing and can be computed again."""
        return self.folder / "cache" / name

    def _cell_path(self, key: str) -> Path:
        return self.folder / "predictions" / f"{key}.npz"

    def _write_arrays(self, key: str, arrays: Arrays) -> None:
        write_atomic(self._cell_path(key), encode_cell(arrays))

    def _open_archive(self) -> Archive:
        """Open the archive, again where another process has replaced it."""
        path = self.folder / ARCHIVE
        status = path.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._archive is None or self._archive[0] != version:
            self._archive = version, Archive(path)
        return self._archive[1]

    def _read(self, name: str) -> dict[str, Record]:
        path = self.folder / name
        records: dict[str, Record] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                record = json.loads(line)
                records[record["key"]] = record
            except (ValueError, KeyError, TypeError):  # torn by a power failure, or not written by shpeft
                continue
        return records

    def _append(self, name: str, record: Record) -> None:
        """Append one line in one write, and sync it to the disk; end a torn line before it."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        with self._locked(name), open(self.folder / name, "ab+") as file:
            if file.tell() and not _ends_with_newline(file):
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        (self.folder / "locks").mkdir(exist_ok=True)
        lock = FileLock(self.folder / "locks" / name)
        if not lock.acquire(patience=LOCK_SECONDS):
            raise RunError(
                f"Another process has locked {name} in {self.folder} for {LOCK_SECONDS} seconds. Let it finish or stop "
                "it, then start again: what is finished is not lost."
            )
        try:
            yield
        finally:
            lock.release()


def _shift_names(record: Record) -> list[str]:
    return [f"{record['key']}{SHIFT}{number}" for number in range(len(record.get("shifts", {})))]


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
