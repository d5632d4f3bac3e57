"""Runs on disk: one folder a run, every write atomic, and a state that tells how it ended."""

from shpeft.runs.folder import FEATURES, RunFolder
from shpeft.runs.listing import damaged_runs, find_run, list_runs, new_run, runs_root
from shpeft.runs.state import Interrupted, RunState, Status

__all__ = [
    "FEATURES",
    "Interrupted",
    "RunFolder",
    "RunState",
    "Status",
    "damaged_runs",
    "find_run",
    "list_runs",
    "new_run",
    "runs_root",
]
