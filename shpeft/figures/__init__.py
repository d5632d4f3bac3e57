"""Figures: numbers in, plotly figures out. They look the same everywhere and name the unit of every axis."""

from shpeft.figures.attributions import attribution_heatmap, strength_lines
from shpeft.figures.curves import probability_bars, training_curves
from shpeft.figures.layers import QUANTITIES, density_by_depth, importance_heatmap, layer_histogram
from shpeft.figures.overlaps import overlap_bars, overlap_sets
from shpeft.figures.theme import TEMPLATE

__all__ = [
    "QUANTITIES",
    "TEMPLATE",
    "attribution_heatmap",
    "density_by_depth",
    "importance_heatmap",
    "layer_histogram",
    "overlap_bars",
    "overlap_sets",
    "probability_bars",
    "strength_lines",
    "training_curves",
]
