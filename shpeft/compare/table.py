"""The table on disk: one line a finished cell, one a finished trial, and the test probabilities of each cell.

Several processes may fill one table: lines are appended under a lock, and each cell is claimed before it is worked on.
A claim is a lock of the operating system's, so a process that is killed holds none.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shpeft.errors import RunError
from shpeft.evaluation import Predictions
from shpeft.files import FileLock, write_atomic
from shpeft.temperature import calibrate

Record = dict[str, Any]


PLAN, CELLS = "plan.yaml", "cells.jsonl"

CALIBRATED = "ece_calibrated"
"""The calibration error at the ``temperature`` of a record, which was fitted on the validation images."""


def is_table(folder: str | Path) -> bool:
    """Whether `shpeft compare` has begun a table there."""
    return all((Path(folder) / name).is_file() for name in (PLAN, CELLS))


def tables(folder: str | Path) -> list[Path]:
    """The tables in the folders of a folder, the largest first; none where it is no folder."""
    found = [path for path in Path(folder).glob("*") if is_table(path)]
    return sorted(found, key=lambda path: (-(path / CELLS).stat().st_size, path.name))


class Table:
    """``cells.jsonl``, ``trials.jsonl`` and ``predictions/`` of a folder, which is made unless it is only read."""

    def __init__(self, folder: str | Path, *, make: bool = True):
        self.folder = Path(folder)
        for part in ("predictions", "cache", "locks") if make else ():
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    @classmethod
    def existing(cls, folder: str | Path) -> "Table":
        """A table that has been begun, to be read.

        Raises:
            RunError: there is none in the folder.
        """
        if not is_table(folder):
            raise RunError(
                f"The folder {Path(folder).name!r} is no table of a comparison: it has no {PLAN} and cells.jsonl. "
                "Choose a folder that `shpeft compare` has written to, such as results/compare."
            )
        return cls(folder, make=False)

    def cells(self) -> dict[str, Record]:
        """The finished cells by key."""
        return self._read(CELLS)

    def trials(self) -> dict[str, Record]:
        """The finished trials by key."""
        return self._read("trials.jsonl")

    def add_trial(self, record: Record) -> None:
        """Keep a finished trial."""
        self._append("trials.jsonl", record)

    def add_cell(self, record: Record, predictions: Predictions | None) -> None:
        """Keep a finished cell; its probabilities are on the disk before its line is."""
        if predictions is not None:
            write_atomic(self._predictions(record["key"]), pack(predictions))
        self._append(CELLS, record)

    def take_over(self, other: "Table", keys: Iterable[str]) -> None:
        """Copy those cells that another table has finished and this one has not, byte for byte."""
        theirs, mine = other.cells(), self.cells()
        for key in keys:
            if key in theirs and key not in mine:
                if (path := other._predictions(key)).exists():  # a cell whose trainings all diverged has none
                    write_atomic(self._predictions(key), path.read_bytes())
                self._append(CELLS, theirs[key])

    def predictions(self, key: str) -> Predictions:
        """The test probabilities of a finished cell; case numbers and groups are opaque.

        Raises:
            RunError: they are missing or damaged.
        """
        path = self._predictions(key)
        try:
            return unpack(path.read_bytes())
        except (OSError, ValueError, KeyError) as error:
            raise RunError(
                f"The probabilities {path.name} of a finished cell cannot be read ({error}). Take its line out of"
                " cells.jsonl and run the comparison again."
            ) from None

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Whether this process alone may work on a cell meanwhile."""
        path = self.folder / "locks" / key
        lock = FileLock(path)
        mine = lock.acquire(patience=0)
        try:
            yield mine
        finally:
            lock.release()

    def cached(self, name: str) -> Path:
        """Where something may be kept that can be computed anew."""
        return self.folder / "cache" / name

    def _predictions(self, key: str) -> Path:
        return self.folder / "predictions" / f"{key}.npz"

    def _read(self, name: str) -> dict[str, Record]:
        path = self.folder / name
        found: dict[str, Record] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                record = json.loads(line)
                found[record["key"]] = record
            except (ValueError, KeyError, TypeError):  # torn when the power went, or no line of ours
                continue
        return found

    def _append(self, name: str, record: Record) -> None:
        """One write of one whole line, on the disk when this returns; a torn line before it is closed first."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        lock = FileLock(self.folder / "locks" / name)
        lock.acquire(patience=60)
        try:
            with open(self.folder / name, "ab+") as file:
                if file.tell() and not _ends_with_newline(file):
                    line = "\n" + line
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            lock.release()


def at_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The same cases with calibrated probabilities."""
    return replace(predictions, probabilities=calibrate(predictions.probabilities, temperature))


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def pack(predictions: Predictions) -> bytes:
    """Probabilities as a compressed ``.npz``: cases are numbered, and their groups are hashes of 64 bits."""
    groups = [int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) for group in predictions.groups]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        probabilities=predictions.probabilities.astype(np.float32),
        labels=np.asarray(predictions.labels, dtype=np.int16),
        groups=np.asarray(groups, dtype=np.uint64),
        classes=np.asarray(predictions.classes),
    )
    return buffer.getvalue()


def unpack(data: bytes) -> Predictions:
    """What ``pack`` kept; ids are case numbers."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        labels = tuple(int(label) for label in arrays["labels"])
        return Predictions(
            ids=tuple(str(number) for number in range(len(labels))),
            labels=labels,
            groups=tuple(f"{group:016x}" for group in arrays["groups"]),
            classes=tuple(str(name) for name in arrays["classes"]),
            probabilities=arrays["probabilities"].astype(np.float64),
        )
