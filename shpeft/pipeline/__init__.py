"""Carry out a run, load a finished one, compare runs, and estimate what a run costs."""

from shpeft.pipeline.calibrate import calibrate_run, fit_decision_rules, set_decision_rules
from shpeft.pipeline.compare_runs import overlap_between, overlap_within, overlaps_across, paired_difference
from shpeft.pipeline.cost_estimate import Cost, estimate_cost, rough_seconds
from shpeft.pipeline.export import Export, export_model
from shpeft.pipeline.loaded_run import LoadedRun, evaluate_run, load_run
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.run_pipeline import run
from shpeft.pipeline.selection_preview import SelectionPreview, preview_selection
from shpeft.pipeline.setup import RunSetup, set_up
from shpeft.pipeline.similar_images import SimilarImage, similar_images, training_features, unit_features
from shpeft.pipeline.weight_selection import ScoredSelection, score_and_select

__all__ = [
    "ScoredSelection",
    "Cost",
    "LoadedRun",
    "RunProgress",
    "RunSetup",
    "SelectionPreview",
    "score_and_select",
    "set_decision_rules",
    "preview_selection",
    "evaluate_run",
    "estimate_cost",
    "fit_decision_rules",
    "rough_seconds",
    "load_run",
    "calibrate_run",
    "overlap_between",
    "overlap_within",
    "overlaps_across",
    "paired_difference",
    "set_up",
    "SimilarImage",
    "similar_images",
    "Export",
    "export_model",
    "training_features",
    "unit_features",
    "run",
]
