"""The trash: deleted runs, which can be restored for 30 days."""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shpeft.errors import RunError
from shpeft.runs.folder import RunFolder
from shpeft.runs.listing import free_name, runs_root
from shpeft.runs.owner import Account, may_change
from shpeft.runs.uploads import configuration_text, delete_unused_uploads

TRASH = ".trash"
"""The folder of deleted runs inside the folder of runs."""

DAYS = 30
"""Days until a deleted run is deleted for good."""


@dataclass(frozen=True)
class Deleted:
    """A run in the trash.

    Attributes:
        path: its folder in the trash.
        name: the name of the run.
        when: time of deletion, in seconds since 1970.
    """

    path: Path
    name: str
    when: float


def delete_run(folder: RunFolder) -> Deleted:
    """Move a run with everything in its folder to the trash.

    Raises:
        RunError: another process works on it, or it cannot be moved.
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
    """Return the runs in the trash, latest first; delete those older than ``DAYS`` for good."""
    trash = Path(root or runs_root()) / TRASH
    runs: list[Deleted] = []
    for path in trash.iterdir() if trash.is_dir() else []:
        name, _, when = path.name.rpartition("~")
        with suppress(ValueError):
            runs.append(Deleted(path, name, float(when)))
    if old := [run for run in runs if time.time() - run.when > DAYS * 24 * 3600]:
        _delete_for_good(old, trash.parent)
    return sorted((run for run in runs if run.path.exists()), key=lambda run: run.when, reverse=True)


def restore_run(deleted: Deleted) -> RunFolder:
    """Restore a run from the trash, with a number after its name if that is taken.

    Raises:
        RunError: it is no longer in the trash.
    """
    root = deleted.path.parents[1]
    path = root / free_name(deleted.name, root)
    try:
        os.rename(deleted.path, path)
    except OSError:
        raise RunError(f"The run {deleted.name} is no longer in the trash.") from None
    return RunFolder.open(path)


def empty_trash(root: str | Path | None = None, account: Account | None = None) -> int:
    """Delete the runs in the trash for good, and return their number.

    Args:
        root: the folder of runs.
        account: whose runs; None: everybody's.
    """
    runs = [run for run in deleted_runs(root) if may_change(run.path, account)]
    _delete_for_good(runs, Path(root or runs_root()))
    return len(runs)


def _delete_for_good(runs: Sequence[Deleted], root: Path) -> None:
    """Delete runs from the trash, with the uploaded images that no other run uses."""
    configurations = [configuration_text(run.path) for run in runs]
    for run in runs:
        shutil.rmtree(run.path, ignore_errors=True)
    delete_unused_uploads(root, configurations)
