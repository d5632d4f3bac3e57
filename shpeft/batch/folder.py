"""Batches of a run: a folder with a CSV for each, inside the run folder.

Images, file names and paths are not stored.
"""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from shpeft.batch.csv_rows import Summary, excerpt, summary
from shpeft.errors import RunError
from shpeft.runs import RunFolder, runs_root
from shpeft.runs.folder import BATCHES
from shpeft.support.atomic_files import write_atomic
from shpeft.support.bounded_files import parse_json, read_regular_file
from shpeft.support.limits import DOCUMENT_BYTES

FORMAT = "shpeft.batch/1"


@dataclass(frozen=True)
class BatchFolder:
    """A folder with ``results.csv``, and ``batch.json`` for the number of images."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def results(self) -> Path:
        """The path of the CSV."""
        return self.path / "results.csv"

    def write_total(self, images: int, others: int) -> None:
        """Write the number of cases, and of files that are not images."""
        counts = {"format": FORMAT, "images": images, "others": others}
        write_atomic(self.path / "batch.json", json.dumps(counts) + "\n")

    def totals(self) -> tuple[int, int]:
        """Return the number of cases, and of files that are not images; zeros before they are counted."""
        try:
            counts = parse_json(read_regular_file(self.path / "batch.json", DOCUMENT_BYTES))
            return int(counts["images"]), int(counts["others"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0

    def text(self) -> str:
        """Return the whole rows of the CSV so far."""
        if not self.results.exists():
            return ""
        data = self.results.read_bytes()
        return data[: data.rfind(b"\n") + 1].decode()

    def summary(self) -> Summary:
        """Return the counts of the rows so far."""
        return summary(self.text())

    def excerpt(self, most: int) -> list[dict[str, str]]:
        """Return the first rows, without columns that are the same in all rows."""
        return excerpt(self.text(), most)

    def discard(self) -> None:
        """Delete the batch."""
        shutil.rmtree(self.path, ignore_errors=True)


def new_batch(run: RunFolder) -> BatchFolder:
    """Create the folder of a new batch, named by the date and a number.

    Raises:
        RunError: the run's folder cannot be written.
    """
    stem, number = time.strftime("%Y-%m-%d"), 1
    while True:
        path = _root(run) / f"{stem}_{number}"
        try:
            path.mkdir(parents=True)
            return BatchFolder(path)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(f"The folder of the run {run.name} cannot be written: {error.strerror}.") from None


def list_batches(run: RunFolder) -> list[BatchFolder]:
    """Return the batches of a run, newest first."""
    root = _root(run)
    batches = [BatchFolder(path) for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return sorted(batches, key=lambda batch: (batch.path.stat().st_ctime_ns, batch.name), reverse=True)


def _root(run: RunFolder) -> Path:
    """Return the folder of a run's batches; those of the read-only example are beside the user's runs, hidden."""
    return (runs_root() / f".{run.name}" if run.is_example else run.path) / BATCHES
