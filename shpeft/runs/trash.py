"""The trash: deleted runs, kept beside the others for a while, so that deleting can be undone."""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shpeft.errors import RunError
from shpeft.runs.folder import RunFolder
from shpeft.runs.listing import free_name, runs_root

TRASH = ".trash"
"""The folder of deleted runs, beside the others."""

DAYS = 30
"""How long a deleted run is kept."""


@dataclass(frozen=True)
class Deleted:
    """A run in the trash.

    Attributes:
        path: where it is kept.
        name: what it was called.
        when: it was deleted, in seconds since 1970.
    """

    path: Path
    name: str
    when: float


def delete_run(folder: RunFolder) -> Deleted:
    """Put a run into the trash beside it, whatever is in its folder.

    Raises:
        RunError: it is being worked on, or cannot be moved.
    """
    trash, now = folder.path.parent / TRASH, round(time.time(), 3)
    deleted = Deleted(trash / f"{folder.name}~{now:.3f}", folder.name, now)
    try:
        trash.mkdir(exist_ok=True)
        folder.move(deleted.path)
    except OSError as error:
        raise RunError(f"The run {folder.name} cannot be deleted: {error.strerror or error}.") from None
    return deleted


def deleted_runs(root: str | Path | None = None) -> list[Deleted]:
    """The runs in the trash, the latest first; those that were there for ``DAYS`` are deleted for good."""
    trash, found = Path(root or runs_root()) / TRASH, []
    for path in trash.iterdir() if trash.is_dir() else []:
        name, _, when = path.name.rpartition("~")
        with suppress(ValueError):
            found.append(Deleted(path, name, float(when)))
    for old in found:
        if time.time() - old.when > DAYS * 24 * 3600:
            shutil.rmtree(old.path, ignore_errors=True)
    return sorted((run for run in found if run.path.exists()), key=lambda run: run.when, reverse=True)


def restore_run(deleted: Deleted) -> RunFolder:
    """Take a run out of the trash, under its own name or, where that is taken by now, under a new one.

    Raises:
        RunError: it is no longer there.
    """
    root = deleted.path.parents[1]
    place = root / free_name(deleted.name, root)
    try:
        os.rename(deleted.path, place)
    except OSError:
        raise RunError(f"The run {deleted.name} is no longer in the trash.") from None
    return RunFolder.open(place)


def empty_trash(root: str | Path | None = None) -> int:
    """Delete everything in the trash for good; returns how many runs that were."""
    gone = deleted_runs(root)
    for run in gone:
        shutil.rmtree(run.path, ignore_errors=True)
    return len(gone)
