"""Runs on disk: a folder for each run, with atomic writes and a state that says how it ended."""

from shpeft.errors import Interrupted
from shpeft.runs.archive import export_bytes, export_run, import_run
from shpeft.runs.checkpoint import Resumption
from shpeft.runs.folder import FEATURES, RunFolder, temporary_run
from shpeft.runs.listing import damaged_runs, example_run, find_run, list_runs, new_run, rename_run, runs_root
from shpeft.runs.snapshot import Snapshot
from shpeft.runs.state import RunState, Status
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
    "example_run",
    "export_bytes",
    "export_run",
    "find_run",
    "import_run",
    "list_runs",
    "new_run",
    "rename_run",
    "restore_run",
    "runs_root",
    "temporary_run",
]
