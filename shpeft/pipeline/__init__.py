"""The recipe that the command line, the app and notebooks share, and what is done with a finished run."""

from shpeft.pipeline.estimate import Cost, expected
from shpeft.pipeline.finished import (
    LoadedRun,
    evaluate_run,
    load_run,
    overlap_between,
    overlap_in,
    overlaps_across,
    paired_difference,
)
from shpeft.pipeline.meter import Meter
from shpeft.pipeline.preparing import Prepared, prepare
from shpeft.pipeline.preview import Preview, describe_selection
from shpeft.pipeline.recipe import Chosen, choose, run
from shpeft.pipeline.trusting import choose_trust, look_again

__all__ = [
    "Chosen",
    "Cost",
    "LoadedRun",
    "Meter",
    "Prepared",
    "Preview",
    "choose",
    "choose_trust",
    "describe_selection",
    "evaluate_run",
    "expected",
    "load_run",
    "look_again",
    "overlap_between",
    "overlap_in",
    "overlaps_across",
    "paired_difference",
    "prepare",
    "run",
]
