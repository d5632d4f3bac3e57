"""Runs on disk: one folder a run, every write atomic, and a state that tells how it ended."""

from shpeft.runs.archive import export_bytes, export_run, import_run
from shpeft.runs.checkpoints import Resumption
from shpeft.runs.folder import FEATURES, RunFolder
from shpeft.runs.listing import damaged_runs, find_run, list_runs, new_run, rename_run, runs_root
from shpeft.runs.snapshot import Snapshot
from shpeft.runs.state import Interrupted, RunState, Status
from shpeft.runs.trash import Deleted, delete_run, deleted_runs, empty_trash, restore_run

__all__ = [
    "FEATURES",
    "Deleted",
    "Interrupted",
    "Resumption",
    "RunFolder",
    "RunState",
    "Snapshot",
    "Status",
    "damaged_runs",
    "delete_run",
    "deleted_runs",
    "empty_trash",
    "export_bytes",
    "export_run",
    "find_run",
    "import_run",
    "list_runs",
    "new_run",
    "rename_run",
    "restore_run",
    "runs_root",
]
