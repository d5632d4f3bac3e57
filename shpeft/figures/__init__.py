"""Figures: numbers in, plotly figures out. They look the same everywhere and name the unit of every axis."""

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
from shpeft.figures.overlaps import overlap_bars, overlap_sets
from shpeft.figures.theme import TEMPLATE

__all__ = [
    "QUANTITIES",
    "TEMPLATE",
    "confusion_matrix",
    "density_by_depth",
    "importance_heatmap",
    "layer_histogram",
    "overlap_bars",
    "overlap_sets",
    "precision_recall",
    "probability_bars",
    "reliability_diagram",
    "risk_coverage_curve",
    "roc",
    "threshold_lines",
    "training_curves",
]
