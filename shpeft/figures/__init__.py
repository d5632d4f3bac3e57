"""Figures: numbers in, plotly figures out. They look the same everywhere and name the unit of every axis."""

from shpeft.figures.attributions import attribution_heatmap, strength_lines
from shpeft.figures.comparisons import (
    against_budget,
    against_weights,
    differences,
    mean_ranks,
    shared_against_chance,
)
from shpeft.figures.curves import probability_bars, training_curves
from shpeft.figures.evaluations import (
    confusion_matrix,
    precision_recall,
    reliability_diagram,
    risk_coverage_curve,
    roc,
    threshold_lines,
)
from shpeft.figures.layers import QUANTITIES, density_by_depth, importance_heatmap, layer_histogram
from shpeft.figures.matrices import score_by_head, selected_by_head, selected_in_grid
from shpeft.figures.overlaps import overlap_bars, overlap_sets
from shpeft.figures.saving import save
from shpeft.figures.sets import overlap_against_budget, overlap_matrix, upset
from shpeft.figures.theme import TEMPLATE

__all__ = [
    "QUANTITIES",
    "TEMPLATE",
    "against_budget",
    "against_weights",
    "attribution_heatmap",
    "confusion_matrix",
    "density_by_depth",
    "differences",
    "importance_heatmap",
    "layer_histogram",
    "mean_ranks",
    "overlap_against_budget",
    "overlap_bars",
    "overlap_matrix",
    "overlap_sets",
    "precision_recall",
    "probability_bars",
    "save",
    "score_by_head",
    "selected_by_head",
    "selected_in_grid",
    "shared_against_chance",
    "strength_lines",
    "reliability_diagram",
    "risk_coverage_curve",
    "roc",
    "threshold_lines",
    "training_curves",
    "upset",
]
