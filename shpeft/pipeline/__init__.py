"""The recipe that the command line, the app and notebooks share, and what is done with a finished run."""

from shpeft.pipeline.estimate import expected_seconds
from shpeft.pipeline.finished import LoadedRun, evaluate_run, load_run, overlap_between, overlap_in
from shpeft.pipeline.meter import Meter
from shpeft.pipeline.preview import Preview, describe_selection
from shpeft.pipeline.recipe import Chosen, Prepared, choose, prepare, run

__all__ = [
    "Chosen",
    "LoadedRun",
    "Meter",
    "Prepared",
    "Preview",
    "choose",
    "describe_selection",
    "evaluate_run",
    "expected_seconds",
    "load_run",
    "overlap_between",
    "overlap_in",
    "prepare",
    "run",
]
