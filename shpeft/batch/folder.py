"""The batches that belong to a run: a CSV each, in a folder of its own within the run's folder.

Of the files that were given nothing is kept here, neither images nor names nor the place where they are.
"""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from shpeft.batch.rows import Summary, excerpt, summary
from shpeft.errors import RunError
from shpeft.files import write_atomic
from shpeft.runs import RunFolder
from shpeft.runs.folder import BATCHES

FORMAT = "shpeft.batch/1"


@dataclass(frozen=True)
class BatchFolder:
    """``results.csv``, and ``batch.json``, which says how many images there are to be."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def results(self) -> Path:
        """The CSV."""
        return self.path / "results.csv"

    def write_total(self, images: int, others: int) -> None:
        """Say how many images were given, and how many files that are none."""
        told = {"format": FORMAT, "images": images, "others": others}
        write_atomic(self.path / "batch.json", json.dumps(told) + "\n")

    def totals(self) -> tuple[int, int]:
        """How many images were given, and how many files that are none; zeros before anybody counted them."""
        try:
            told = json.loads((self.path / "batch.json").read_bytes())
            return int(told["images"]), int(told["others"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0

    def text(self) -> str:
        """The CSV as far as it goes, whole rows only."""
        if not self.results.exists():
            return ""
        data = self.results.read_bytes()
        return data[: data.rfind(b"\n") + 1].decode()

    def summary(self) -> Summary:
        """What the rows come to until now."""
        return summary(self.text())

    def excerpt(self, most: int) -> list[dict[str, str]]:
        """The first rows, without what is the same in all of them."""
        return excerpt(self.text(), most)

    def discard(self) -> None:
        """Delete the batch."""
        shutil.rmtree(self.path, ignore_errors=True)


def new_batch(run: RunFolder) -> BatchFolder:
    """Make the folder of a new batch, named by the day and a number.

    Raises:
        RunError: the run's folder cannot be written.
    """
    stem, number = time.strftime("%Y-%m-%d"), 1
    while True:
        path = run.path / BATCHES / f"{stem}_{number}"
        try:
            path.mkdir(parents=True)
            return BatchFolder(path)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(f"The folder of the run {run.name} cannot be written: {error.strerror}.") from None


def list_batches(run: RunFolder) -> list[BatchFolder]:
    """The batches of a run, newest first."""
    root = run.path / BATCHES
    found = [BatchFolder(path) for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return sorted(found, key=lambda batch: (batch.path.stat().st_ctime_ns, batch.name), reverse=True)
